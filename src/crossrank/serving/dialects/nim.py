"""NVIDIA NIM's `/v1/ranking`, and the hosted path of the same API."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from typing_extensions import TypedDict

from crossrank.serving.dialects.dialect import Dialect, Wishes, pairs_of
from crossrank.serving.dialects.jina import text_or_image_document, text_query
from crossrank.serving.exchange import RerankRequest, RerankResult
from crossrank.serving.problems import Kind, Problem
from crossrank.types import Document

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class NimRequest(Wishes):
    """Body of `/v1/ranking`."""

    model: str | None = None
    query: str | dict[str, Any]
    passages: list[str | dict[str, Any]]
    truncate: Literal["NONE", "END"] | None = "NONE"


class NimHit(TypedDict):
    """One passage."""

    index: int
    logit: float


class NimAnswer(TypedDict):
    """Body of an answer."""

    rankings: list[NimHit]
    usage: dict[str, int]


class Nim(Dialect[NimRequest]):
    """NVIDIA's reranking API: raw logits, all passages, and nothing is cut unless `truncate` is `END`."""

    name = "nim"
    paths = ("/v1/ranking", "/v1/retrieval/{model:path}/reranking")
    request = NimRequest
    answer = NimAnswer
    statuses: ClassVar = {Kind.OVERLOADED: 503}

    def to_request(self, body: NimRequest) -> RerankRequest:
        """Return what a request means."""
        passages = [text_or_image_document(passage, i) for i, passage in enumerate(body.passages)]
        _check_data_urls(passages)
        return RerankRequest(
            pairs=pairs_of(text_query(body.query), passages),
            model=body.model,
            scale="logit",
            on_overflow=None if body.truncate == "END" else "error",
        )

    def to_answer(self, request: RerankRequest, result: RerankResult) -> NimAnswer:
        """Return the body of an answer."""
        return {
            "rankings": [{"index": hit.index, "logit": hit.score} for hit in result.hits],
            "usage": {"prompt_tokens": result.num_tokens, "total_tokens": result.num_tokens},
        }

    def to_error(self, problem: Problem, status: int) -> dict[str, Any]:
        """Return the body of an error."""
        default = "invalid_request_error" if status < 500 else "server_error"
        return {"object": "error", "message": problem.message, "detail": {}, "type": _TYPES.get(status, default)}


def _check_data_urls(passages: list[Document]) -> None:
    for index, passage in enumerate(passages):
        if passage.image is not None and not passage.image.startswith("data:"):
            raise Problem(
                Kind.UNUSABLE,
                f"invalid request: the image of passage {index} must be a data URL as in data:image/png;base64,...",
            )
