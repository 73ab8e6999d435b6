"""Jina's `/v1/rerank`: texts and images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from crossrank.encoding.pairs import Truncation
from crossrank.serving.dialects.dialect import Count, Dialect, Wishes, echo, pairs_of
from crossrank.serving.exchange import RerankRequest, RerankResult
from crossrank.serving.problems import Kind, Problem
from crossrank.types import Document


class JinaRequest(Wishes):
    """Body of `/v1/rerank`."""

    model: str | None = None
    query: str | dict[str, Any]
    documents: list[str | dict[str, Any]]
    top_n: Count = None
    return_documents: bool | None = Field(default=True)
    max_doc_length: Count = None
    truncation: bool | None = True


class JinaHit(TypedDict):
    """One result."""

    index: int
    relevance_score: float
    document: NotRequired[dict[str, Any]]


class JinaAnswer(TypedDict):
    """Body of an answer."""

    model: str
    usage: dict[str, int]
    results: list[JinaHit]


class Jina(Dialect[JinaRequest]):
    """Jina's API."""

    name = "jina"
    paths: ClassVar[tuple[str, ...]] = ("/v1/rerank",)
    request: type[JinaRequest] = JinaRequest
    answer: ClassVar[Any] = JinaAnswer
    statuses: ClassVar[Mapping[Kind, int]] = {Kind.UNKNOWN_MODEL: 422}

    def to_request(self, body: JinaRequest) -> RerankRequest:
        """Return what a request means."""
        documents = [text_or_image_document(document, i) for i, document in enumerate(body.documents)]
        return RerankRequest(
            pairs=pairs_of(text_query(body.query), documents),
            model=body.model,
            top_k=body.top_n,
            on_overflow="error" if body.truncation is False else None,
            truncation=Truncation(max_document_tokens=body.max_doc_length),
            return_documents=body.return_documents is not False,
        )

    def to_answer(self, request: RerankRequest, result: RerankResult) -> Any:
        """Return the body of an answer."""
        hits: list[JinaHit] = []
        for hit in result.hits[: request.top_k]:
            answered: JinaHit = {"index": hit.index, "relevance_score": hit.score}
            if request.return_documents:
                answered["document"] = echo(hit.document)
            hits.append(answered)
        return {"model": result.model, "usage": {"total_tokens": result.num_tokens}, "results": hits}

    def to_error(self, problem: Problem, status: int) -> Any:
        """Return the body of an error."""
        return {"detail": problem.message}


def text_query(query: str | Mapping[str, Any]) -> str:
    """Return the text of a query.

    Raises:
        Problem: If it is an image, or anything else without a text.
    """
    if isinstance(query, str):
        return query
    if isinstance(query.get("text"), str):
        return str(query["text"])
    if query.get("image"):
        raise Problem(Kind.UNUSABLE, "invalid request: the query is an image; the models here take a text as the query")
    raise Problem(Kind.MALFORMED, "invalid request: query: give a string or an object with 'text'")


def text_or_image_document(value: str | Mapping[str, Any], index: int) -> Document:
    """Return a document that came as a string or as an object with `text`, `image` or both, one of them often empty.

    The image stays as the client wrote it; `images.resolve_images` reads it. A bare data URL is one, too: as a text it
    would get a score that looks like any other.

    Raises:
        Problem: If an object has neither.
    """
    if isinstance(value, str):
        is_image = value[:11].lower() == "data:image/"
        return Document("", metadata={"image": value}, image=value) if is_image else Document(value)
    text, image = value.get("text"), value.get("image")
    if not isinstance(text, str | None) or not isinstance(image, str | None) or (text is None and not image):
        raise Problem(
            Kind.MALFORMED, f"invalid request: document {index}: an object must have a 'text' or an 'image' string"
        )
    return Document(text or "", metadata=value, image=image or None)
