"""Hugging Face text-embeddings-inference: `/rerank` with `texts`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NotRequired

from typing_extensions import TypedDict

from crossrank.encoding.pairs import Truncation
from crossrank.serving.dialects.dialect import Dialect, Flag, Wishes, pairs_of
from crossrank.serving.exchange import RerankRequest, RerankResult
from crossrank.serving.problems import Kind, Problem
from crossrank.types import Document

_ERROR_TYPES = {
    Kind.EMPTY: "empty",
    Kind.OVERLOADED: "overloaded",
    Kind.RATE_LIMITED: "overloaded",
    Kind.TIMEOUT: "overloaded",
    Kind.BACKEND: "backend",
    Kind.UNAVAILABLE: "unhealthy",
}


class TeiRequest(Wishes):
    """Body of `/rerank`."""

    query: str
    texts: list[str]
    truncate: bool | None = None
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = "right"
    raw_scores: Flag = False
    return_text: Flag = False


class TeiHit(TypedDict):
    """One text."""

    index: int
    text: NotRequired[str]
    score: float


class Tei(Dialect[TeiRequest]):
    """The API of text-embeddings-inference: the answer is a bare array."""

    name = "tei"
    paths = ("/rerank",)
    request = TeiRequest
    answer = list[TeiHit]
    statuses: ClassVar = {Kind.EMPTY: 400, Kind.BACKEND: 424}

    def to_request(self, body: TeiRequest) -> RerankRequest:
        """Return what a request means; it has no model."""
        from_left = (body.truncation_direction or "right").lower() == "left"
        return RerankRequest(
            pairs=pairs_of(body.query, [Document(text) for text in body.texts]),
            scale="logit" if body.raw_scores else "sigmoid",
            on_overflow="error" if body.truncate is False else None,
            truncation=Truncation(keep="end" if from_left else "start"),
            return_documents=body.return_text,
        )

    def to_answer(self, request: RerankRequest, result: RerankResult) -> list[TeiHit]:
        """Return the body of an answer."""
        if request.return_documents:
            return [{"index": hit.index, "text": hit.document.text, "score": hit.score} for hit in result.hits]
        return [{"index": hit.index, "score": hit.score} for hit in result.hits]

    def to_headers(self, request: RerankRequest, result: RerankResult) -> dict[str, str]:
        """Return what text-embeddings-inference says of a computation, times in milliseconds."""
        timings = result.timings
        characters = len(request.query) + sum(len(document.text) for document in request.documents)
        return {
            "x-compute-type": "cpu" if result.device == "cpu" else "gpu",
            "x-compute-time": _milliseconds(timings.total_s),
            "x-compute-characters": str(characters),
            "x-compute-tokens": str(result.num_tokens),
            "x-total-time": _milliseconds(timings.total_s),
            "x-tokenization-time": _milliseconds(timings.tokenise_s),
            "x-queue-time": _milliseconds(timings.queue_s),
            "x-inference-time": _milliseconds(timings.compute_s),
        }

    def to_error(self, problem: Problem, status: int) -> dict[str, Any] | None:
        """Return the body of an error; a wrong key gets none."""
        if problem.kind is Kind.UNAUTHORIZED:
            return None
        return tei_error(problem)


def tei_error(problem: Problem) -> dict[str, Any]:
    """Return the body of an error."""
    return {"error": problem.message, "error_type": _ERROR_TYPES.get(problem.kind, "validation")}


def _milliseconds(seconds: float) -> str:
    return str(round(1000 * seconds))
