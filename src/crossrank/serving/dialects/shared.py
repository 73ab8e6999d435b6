"""Requests on a path that several APIs share and that fit more than one of them: one answer that each can read.

Jina, vLLM, Cohere's version 1, LiteLLM, Open WebUI, Dify and others send the same body to `/v1/rerank` and `/rerank`.
The answer has what any of them reads; on `/rerank` a body of a query and documents alone may also come from Weaviate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NotRequired

from pydantic import AliasChoices, Field

from crossrank.encoding.pairs import Truncation
from crossrank.serving.dialects.cohere import cohere_meta
from crossrank.serving.dialects.dialect import Count, pairs_of
from crossrank.serving.dialects.jina import Jina, JinaAnswer, JinaRequest, text_or_image_document, text_query
from crossrank.serving.dialects.openai import openai_error
from crossrank.serving.dialects.tei import tei_error
from crossrank.serving.dialects.vllm import content_document, usage
from crossrank.serving.dialects.weaviate import WeaviateScore, weaviate_answer
from crossrank.serving.exchange import RerankRequest, RerankResult
from crossrank.serving.problems import Kind, Problem
from crossrank.types import Document


class SharedRequest(JinaRequest):
    """Body of `/v1/rerank` or `/rerank`, whoever sends it."""

    documents: list[str | dict[str, Any]] = Field(validation_alias=AliasChoices("documents", "passages", "input"))
    max_doc_length: Count = Field(default=None, validation_alias=AliasChoices("max_doc_length", "max_tokens_per_doc"))
    return_documents: bool | None = Field(
        default=True, validation_alias=AliasChoices("return_documents", "return_text", "return_input")
    )
    instruction: str | None = None


class SharedAnswer(JinaAnswer):
    """Body of an answer."""

    id: str
    meta: dict[str, Any]
    query: NotRequired[str]
    scores: NotRequired[list[WeaviateScore]]


class Shared(Jina):
    """What the APIs that share a path have in common."""

    name = "shared"
    paths: ClassVar[tuple[str, ...]] = ("/v1/rerank", "/rerank")
    request = SharedRequest
    answer = SharedAnswer
    statuses: ClassVar[Mapping[Kind, int]] = {Kind.EMPTY: 400}

    def to_request(self, body: JinaRequest) -> RerankRequest:
        """Return what a request means."""
        assert isinstance(body, SharedRequest)
        documents = [_document(document, i) for i, document in enumerate(body.documents)]
        query = body.query if isinstance(body.query, str) else _document(body.query, 0).text or text_query(body.query)
        return RerankRequest(
            pairs=pairs_of(query, documents),
            model=body.model,
            top_k=body.top_n,
            on_overflow="error" if body.truncation is False else None,
            truncation=Truncation(max_document_tokens=body.max_doc_length),
            instruction=body.instruction,
            return_documents=body.return_documents is not False,
        )

    def to_answer(self, request: RerankRequest, result: RerankResult) -> Any:
        """Return the body of an answer."""
        own = {"id": result.id, "meta": cohere_meta(result, "1")}
        return super().to_answer(request, result) | own | {"usage": usage(result)}

    def to_error(self, problem: Problem, status: int) -> Any:
        """Return the body of an error, with the message where each API has it."""
        return {"message": problem.message, "detail": problem.message} | openai_error(problem, status)


class SharedWithWeaviate(Shared):
    """The same for a body that Weaviate may have sent: also the scores in the order given."""

    paths = ("/rerank",)

    def to_answer(self, request: RerankRequest, result: RerankResult) -> Any:
        """Return the body of an answer."""
        return super().to_answer(request, result) | weaviate_answer(request, result)

    def to_error(self, problem: Problem, status: int) -> Any:
        """Return the body of an error; Weaviate reads `error` as a string, text-embeddings-inference its type, too."""
        return {"message": problem.message, "detail": problem.message} | tei_error(problem)


def _document(value: str | dict[str, Any], index: int) -> Document:
    if isinstance(value, dict) and "content" in value:
        return content_document(value)
    return text_or_image_document(value, index)
