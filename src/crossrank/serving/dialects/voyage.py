"""Voyage's `/v1/rerank`, which is also that of MongoDB Atlas."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NotRequired

from typing_extensions import TypedDict

from crossrank.serving.dialects.dialect import Count, Dialect, Flag, Wishes, pairs_of
from crossrank.serving.exchange import RerankRequest, RerankResult
from crossrank.serving.problems import Kind, Problem
from crossrank.types import Document


class VoyageRequest(Wishes):
    """Body of `/v1/rerank`."""

    model: str | None = None
    query: str
    documents: list[str]
    top_k: Count = None
    return_documents: Flag = False
    truncation: bool | None = True


class VoyageHit(TypedDict):
    """One result; its document is a plain string."""

    relevance_score: float
    index: int
    document: NotRequired[str]


class VoyageAnswer(TypedDict):
    """Body of an answer."""

    object: Literal["list"]
    data: list[VoyageHit]
    model: str
    usage: dict[str, int]


class Voyage(Dialect[VoyageRequest]):
    """Voyage's API."""

    name = "voyage"
    paths = ("/v1/rerank",)
    request = VoyageRequest
    answer = VoyageAnswer
    statuses: ClassVar = {
        Kind.EMPTY: 400,
        Kind.UNUSABLE: 400,
        Kind.UNKNOWN_MODEL: 400,
        Kind.TOO_MANY_DOCUMENTS: 400,
    }

    def to_request(self, body: VoyageRequest) -> RerankRequest:
        """Return what a request means."""
        return RerankRequest(
            pairs=pairs_of(body.query, [Document(text) for text in body.documents]),
            model=body.model,
            top_k=body.top_k,
            on_overflow="error" if body.truncation is False else None,
            return_documents=body.return_documents,
        )

    def to_answer(self, request: RerankRequest, result: RerankResult) -> VoyageAnswer:
        """Return the body of an answer."""
        data: list[VoyageHit] = []
        for hit in result.hits[: request.top_k]:
            answered: VoyageHit = {"relevance_score": hit.score, "index": hit.index}
            if request.return_documents:
                answered["document"] = hit.document.text
            data.append(answered)
        return {"object": "list", "data": data, "model": result.model, "usage": {"total_tokens": result.num_tokens}}

    def to_error(self, problem: Problem, status: int) -> dict[str, Any]:
        """Return the body of an error."""
        return {"detail": problem.message}
