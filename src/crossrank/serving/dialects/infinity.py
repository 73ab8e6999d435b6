"""Infinity's `/rerank`; its users often put `/v1` before it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from typing_extensions import TypedDict

from crossrank.serving.dialects.dialect import Count, Dialect, Flag, Wishes, pairs_of
from crossrank.serving.dialects.vllm import usage
from crossrank.serving.exchange import RerankRequest, RerankResult
from crossrank.serving.problems import Kind, Problem
from crossrank.types import Document


class InfinityRequest(Wishes):
    """Body of `/rerank`."""

    model: str | None = None
    query: str
    documents: list[str]
    top_n: Count = None
    return_documents: Flag = False
    raw_scores: Flag = False


class InfinityHit(TypedDict):
    """One result."""

    relevance_score: float
    index: int
    document: str | None


class InfinityAnswer(TypedDict):
    """Body of an answer."""

    object: Literal["rerank"]
    results: list[InfinityHit]
    model: str
    usage: dict[str, int]
    id: str
    created: int


class Infinity(Dialect[InfinityRequest]):
    """Infinity's API."""

    name = "infinity"
    paths = ("/rerank", "/v1/rerank")
    request = InfinityRequest
    answer = InfinityAnswer
    statuses: ClassVar = {Kind.UNKNOWN_MODEL: 400}

    def to_request(self, body: InfinityRequest) -> RerankRequest:
        """Return what a request means."""
        return RerankRequest(
            pairs=pairs_of(body.query.strip(), [Document(text.strip()) for text in body.documents]),
            model=body.model,
            top_k=body.top_n,
            scale="logit" if body.raw_scores else "sigmoid",
            return_documents=body.return_documents,
        )

    def to_answer(self, request: RerankRequest, result: RerankResult) -> InfinityAnswer:
        """Return the body of an answer."""
        return {
            "object": "rerank",
            "results": [
                {
                    "relevance_score": hit.score,
                    "index": hit.index,
                    "document": hit.document.text if request.return_documents else None,
                }
                for hit in result.hits[: request.top_k]
            ],
            "model": result.model,
            "usage": usage(result),
            "id": f"infinity-{result.id}",
            "created": result.created,
        }

    def to_error(self, problem: Problem, status: int) -> dict[str, Any]:
        """Return the body of an error."""
        if problem.kind is Kind.UNAUTHORIZED:
            return {"detail": "Unauthorized"}
        if status == 422:
            errors = problem.errors or [{"type": problem.kind.value, "loc": [], "msg": problem.message}]
            return {"detail": [error | {"loc": ["body", *error["loc"]]} for error in errors]}
        return {"error": {"message": problem.message, "type": None, "param": None, "code": status}}
