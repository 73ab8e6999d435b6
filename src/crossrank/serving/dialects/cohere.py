"""Cohere's `/v2/rerank` and `/v1/rerank`."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any, ClassVar, NotRequired

from typing_extensions import TypedDict

from crossrank.encoding.pairs import Truncation
from crossrank.serving.dialects.dialect import Count, Dialect, Flag, Wishes, echo, pairs_of, text_document
from crossrank.serving.exchange import RerankRequest, RerankResult
from crossrank.serving.problems import Kind, Problem
from crossrank.types import Document

MAX_TOKENS_PER_DOC = 4096
# v1 refuses more chunks than this in one call.
MAX_CHUNKS = 10_000
_DOCUMENTS_PER_SEARCH_UNIT = 100


class CohereV2Request(Wishes):
    """Body of `/v2/rerank`."""

    model: str | None = None
    query: str
    documents: list[str | dict[str, Any]]
    top_n: Count = None
    max_tokens_per_doc: Count = MAX_TOKENS_PER_DOC
    priority: int | None = 0
    return_documents: Flag = False


class CohereV1Request(CohereV2Request):
    """Body of `/v1/rerank`."""

    rank_fields: list[str] | None = None
    max_chunks_per_doc: Count = None


class CohereHit(TypedDict):
    """One result."""

    index: int
    relevance_score: float
    document: NotRequired[dict[str, Any]]


class CohereAnswer(TypedDict):
    """Body of an answer."""

    id: str
    results: list[CohereHit]
    meta: dict[str, Any]


class CohereV2(Dialect[CohereV2Request]):
    """Cohere's API, version 2."""

    name = "cohere"
    version: ClassVar[str] = "2"
    paths = ("/v2/rerank",)
    request = CohereV2Request
    answer = CohereAnswer
    statuses: ClassVar = {
        Kind.MALFORMED: 400,
        Kind.EMPTY: 400,
        Kind.UNUSABLE: 400,
        Kind.TOO_MANY_DOCUMENTS: 400,
    }

    def to_request(self, body: CohereV2Request) -> RerankRequest:
        """Return what a request means."""
        return RerankRequest(
            pairs=pairs_of(body.query, self._documents(body)),
            model=body.model,
            top_k=body.top_n,
            truncation=Truncation(max_document_tokens=body.max_tokens_per_doc),
            priority=max(0, body.priority or 0),
            return_documents=body.return_documents,
        )

    def to_answer(self, request: RerankRequest, result: RerankResult) -> CohereAnswer:
        """Return the body of an answer."""
        return {"id": result.id, "results": cohere_hits(request, result), "meta": cohere_meta(result, self.version)}

    def to_error(self, problem: Problem, status: int) -> dict[str, str]:
        """Return the body of an error."""
        message = "invalid api token" if problem.kind is Kind.UNAUTHORIZED else problem.message
        return {"id": str(uuid.uuid4()), "message": message}

    def _documents(self, body: CohereV2Request) -> list[Document]:
        return [text_document(document, i) for i, document in enumerate(body.documents)]


class CohereV1(CohereV2):
    """Cohere's API, version 1: documents may be objects, and may come back."""

    version = "1"
    paths = ("/v1/rerank",)
    request: type[CohereV1Request] = CohereV1Request

    def to_request(self, body: CohereV2Request) -> RerankRequest:
        """Return what a request means: more than one chunk a document is windows over the long ones."""
        assert isinstance(body, CohereV1Request)
        chunks = body.max_chunks_per_doc
        if chunks and len(body.documents) * chunks >= MAX_CHUNKS:
            raise Problem(
                Kind.TOO_MANY_DOCUMENTS,
                f"invalid request: documents times max_chunks_per_doc must be below {MAX_CHUNKS}",
            )
        request = super().to_request(body)
        return replace(request, on_overflow="chunk") if chunks and chunks > 1 else request

    def to_error(self, problem: Problem, status: int) -> dict[str, str]:
        """Return the body of an error."""
        return {"message": super().to_error(problem, status)["message"]}

    def _documents(self, body: CohereV2Request) -> list[Document]:
        assert isinstance(body, CohereV1Request)
        fields = body.rank_fields
        if not fields:
            return super()._documents(body)
        return [_from_fields(document, fields, i) for i, document in enumerate(body.documents)]


def cohere_hits(request: RerankRequest, result: RerankResult) -> list[CohereHit]:
    """Return the best `top_n` results."""
    hits: list[CohereHit] = [{"index": h.index, "relevance_score": h.score} for h in result.hits[: request.top_k]]
    if request.return_documents:
        for answered, hit in zip(hits, result.hits, strict=False):
            answered["document"] = echo(hit.document)
    return hits


def cohere_meta(result: RerankResult, version: str) -> dict[str, Any]:
    """Return what Cohere says about a call."""
    return {
        "api_version": {"version": version, "is_experimental": False},
        "billed_units": {"search_units": -(-len(result.hits) // _DOCUMENTS_PER_SEARCH_UNIT)},
        "tokens": {"input_tokens": result.num_tokens},
        "warnings": list(result.warnings) or None,
    }


def _from_fields(document: str | dict[str, Any], fields: list[str], index: int) -> Document:
    """Return the text of the chosen fields, a line each."""
    if isinstance(document, str):
        return Document(document)
    chosen = [f"{name}: {document[name]}" for name in fields if document.get(name) is not None]
    if not chosen:
        raise Problem(
            Kind.MALFORMED, f"invalid request: document at index {index} has none of the rank_fields {fields}"
        )
    return Document("\n".join(chosen), metadata=document)
