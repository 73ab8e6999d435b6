"""The server of llama.cpp: four names for one endpoint, and two shapes of answers by the key of the documents."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NotRequired

from pydantic import AliasChoices, Field
from typing_extensions import TypedDict

from crossrank.serving.dialects.dialect import Dialect, Flag, Wishes, pairs_of
from crossrank.serving.dialects.tei import TeiHit
from crossrank.serving.dialects.vllm import usage
from crossrank.serving.exchange import RerankRequest, RerankResult
from crossrank.serving.problems import Kind, Problem
from crossrank.types import Document

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}


class LlamaCppRequest(Wishes):
    """Body of `/rerank` with `documents`."""

    model: str | None = None
    query: str
    documents: list[str] = Field(validation_alias=AliasChoices("documents", "texts"))
    top_n: int | None = Field(default=None, ge=0)
    return_text: Flag = False


class LlamaCppHit(TypedDict):
    """One result."""

    index: int
    relevance_score: NotRequired[float]


class LlamaCppAnswer(TypedDict):
    """Body of an answer."""

    model: str
    object: Literal["list"]
    usage: dict[str, int]
    results: list[LlamaCppHit]


class LlamaCpp(Dialect[LlamaCppRequest]):
    """The API of llama.cpp: raw scores; `top_n` of 0 is no result."""

    name = "llamacpp"
    paths = ("/rerank", "/reranking", "/v1/rerank", "/v1/reranking")
    request = LlamaCppRequest
    answer: ClassVar[Any] = LlamaCppAnswer
    statuses: ClassVar = {Kind.MALFORMED: 400, Kind.EMPTY: 400, Kind.UNUSABLE: 400, Kind.TOO_MANY_DOCUMENTS: 400}

    def to_request(self, body: LlamaCppRequest) -> RerankRequest:
        """Return what a request means."""
        return RerankRequest(
            pairs=pairs_of(body.query, [Document(text) for text in body.documents]),
            model=body.model,
            top_k=body.top_n,
            scale="logit",
            return_documents=body.return_text,
        )

    def to_answer(self, request: RerankRequest, result: RerankResult) -> Any:
        """Return the body of an answer."""
        hits = result.hits[: request.top_k]
        return {
            "model": result.model,
            "object": "list",
            "usage": usage(result),
            "results": [{"index": hit.index, "relevance_score": hit.score} for hit in hits],
        }

    def to_error(self, problem: Problem, status: int) -> dict[str, Any]:
        """Return the body of an error."""
        default = "invalid_request_error" if status < 500 else "server_error"
        return {"error": {"code": status, "message": problem.message, "type": _TYPES.get(status, default)}}


class LlamaCppTexts(LlamaCpp):
    """The API of llama.cpp for a body with `texts`: the bare array of text-embeddings-inference, with raw scores."""

    answer = list[TeiHit]

    def to_answer(self, request: RerankRequest, result: RerankResult) -> list[TeiHit]:
        """Return the body of an answer."""
        hits = result.hits[: request.top_k]
        if request.return_documents:
            return [{"index": hit.index, "score": hit.score, "text": hit.document.text} for hit in hits]
        return [{"index": hit.index, "score": hit.score} for hit in hits]
