"""Weaviate's `reranker-transformers` container: `/rerank`, scores in the order given."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from crossrank.serving.dialects.dialect import Dialect, Wishes, pairs_of
from crossrank.serving.exchange import RerankRequest, RerankResult
from crossrank.serving.problems import Problem
from crossrank.types import Document


class WeaviateRequest(Wishes):
    """Body of `/rerank`; `property` is the older form with one document."""

    query: str
    documents: list[str] | None = None
    property: str | None = None


class WeaviateScore(TypedDict):
    """One document and its score."""

    document: str
    score: float


class WeaviateAnswer(TypedDict):
    """Body of an answer: `scores` of documents, or the `score` of a property."""

    query: str
    scores: list[WeaviateScore] | None
    property: str | None
    score: float | None


class Weaviate(Dialect[WeaviateRequest]):
    """The API of Weaviate's container."""

    name = "weaviate"
    paths = ("/rerank",)
    request = WeaviateRequest
    answer = WeaviateAnswer

    def to_request(self, body: WeaviateRequest) -> RerankRequest:
        """Return what a request means."""
        if body.documents is None and body.property is not None:
            pairs = pairs_of(body.query, [Document(body.property, id=_PROPERTY)])
        else:
            pairs = pairs_of(body.query, [Document(text) for text in body.documents or []])
        return RerankRequest(pairs=pairs, scale="activation", return_documents=True)

    def to_answer(self, request: RerankRequest, result: RerankResult) -> WeaviateAnswer:
        """Return the body of an answer."""
        return weaviate_answer(request, result)

    def to_error(self, problem: Problem, status: int) -> dict[str, Any]:
        """Return the body of an error."""
        return {"error": problem.message}


# Marks the one document of the older form.
_PROPERTY = "property"


def weaviate_answer(request: RerankRequest, result: RerankResult) -> WeaviateAnswer:
    """Return the body of an answer."""
    first = result.in_input_order[0]
    if first.document.id == _PROPERTY:
        return {"query": request.query, "scores": None, "property": first.document.text, "score": first.score}
    scores: list[WeaviateScore] = [{"document": h.document.text, "score": h.score} for h in result.in_input_order]
    return {"query": request.query, "scores": scores, "property": None, "score": None}
