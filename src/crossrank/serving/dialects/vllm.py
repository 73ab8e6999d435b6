"""vLLM: `/rerank`, `/v1/rerank`, `/v2/rerank`, and `/score` for pairs in the order given."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, Field
from typing_extensions import TypedDict

from crossrank.encoding.pairs import Truncation
from crossrank.serving.dialects.dialect import Count, Dialect, Wishes, pairs_of
from crossrank.serving.exchange import RerankRequest, RerankResult
from crossrank.serving.problems import Kind, Problem
from crossrank.types import Document

_TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    429: "RateLimitError",
}

ScoreInput = str | dict[str, Any]


class VllmOptions(Wishes):
    """The keys that both kinds of requests have. Where `truncate_prompt_tokens` is null a long pair is an error."""

    model: str | None = None
    max_tokens_per_query: Count = None
    max_tokens_per_doc: Count = None
    truncate_prompt_tokens: int | None = Field(default=None, ge=-1)
    truncation_side: Literal["left", "right"] | None = None
    instruction: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    use_activation: bool | None = None
    priority: int | None = 0


class VllmRerankRequest(VllmOptions):
    """Body of `/rerank`."""

    query: ScoreInput
    documents: ScoreInput | list[ScoreInput]
    top_n: Count = None


class VllmScoreRequest(VllmOptions):
    """Body of `/score`: one query for all documents, or one for each."""

    queries: ScoreInput | list[ScoreInput] = Field(validation_alias=AliasChoices("queries", "text_1", "data_1"))
    documents: ScoreInput | list[ScoreInput] = Field(
        validation_alias=AliasChoices("documents", "items", "text_2", "data_2")
    )


class VllmDocument(TypedDict):
    """A document as it comes back."""

    text: str | None
    multi_modal: list[dict[str, Any]] | None


class VllmHit(TypedDict):
    """One result."""

    index: int
    document: VllmDocument
    relevance_score: float


class VllmRerankAnswer(TypedDict):
    """Body of an answer of `/rerank`."""

    id: str
    model: str
    usage: dict[str, int]
    results: list[VllmHit]


class VllmScore(TypedDict):
    """One score."""

    index: int
    object: Literal["score"]
    score: float


class VllmScoreAnswer(TypedDict):
    """Body of an answer of `/score`."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[VllmScore]
    usage: dict[str, int]


class VllmRerank(Dialect[VllmRerankRequest]):
    """vLLM's reranking: documents always come back."""

    name = "vllm"
    paths = ("/rerank", "/v1/rerank", "/v2/rerank")
    request = VllmRerankRequest
    answer = VllmRerankAnswer
    statuses: ClassVar = {Kind.MALFORMED: 400, Kind.EMPTY: 400, Kind.UNUSABLE: 400, Kind.TOO_MANY_DOCUMENTS: 400}

    def to_request(self, body: VllmRerankRequest) -> RerankRequest:
        """Return what a request means."""
        pairs = pairs_of(content_text(body.query), [content_document(part) for part in _listed(body.documents)])
        return _to_request(body, pairs, top_k=body.top_n)

    def to_answer(self, request: RerankRequest, result: RerankResult) -> VllmRerankAnswer:
        """Return the body of an answer."""
        return {
            "id": f"rerank-{result.hex_id}",
            "model": result.model,
            "usage": usage(result),
            "results": [
                {"index": hit.index, "document": _echo(hit.document), "relevance_score": hit.score}
                for hit in result.hits[: request.top_k]
            ],
        }

    def to_error(self, problem: Problem, status: int) -> dict[str, Any]:
        """Return the body of an error."""
        return vllm_error(problem, status)


class VllmScoring(Dialect[VllmScoreRequest]):
    """vLLM's scores: one a pair, in the order given."""

    name = "vllm"
    paths = ("/score", "/v1/score")
    request = VllmScoreRequest
    answer = VllmScoreAnswer
    statuses = VllmRerank.statuses

    def to_request(self, body: VllmScoreRequest) -> RerankRequest:
        """Return what a request means."""
        queries = [content_text(part) for part in _listed(body.queries)]
        documents = [content_document(part) for part in _listed(body.documents)]
        if len(queries) == 1:
            queries *= len(documents)
        if len(queries) != len(documents):
            raise Problem(
                Kind.MALFORMED,
                f"invalid request: {len(queries)} queries for {len(documents)} documents: give one query or one each",
            )
        return _to_request(body, tuple(zip(queries, documents, strict=True)), top_k=None)

    def to_answer(self, request: RerankRequest, result: RerankResult) -> VllmScoreAnswer:
        """Return the body of an answer."""
        return {
            "id": f"score-{result.hex_id}",
            "object": "list",
            "created": result.created,
            "model": result.model,
            "data": [{"index": hit.index, "object": "score", "score": hit.score} for hit in result.in_input_order],
            "usage": usage(result),
        }

    def to_error(self, problem: Problem, status: int) -> dict[str, Any]:
        """Return the body of an error."""
        return vllm_error(problem, status)


def content_text(value: ScoreInput) -> str:
    """Return the text of a string, or of content parts that are all text."""
    document = content_document(value)
    if document.image is not None:
        raise Problem(Kind.UNUSABLE, "invalid request: the query holds an image; the models here take a text")
    return document.text


def content_document(value: ScoreInput) -> Document:
    """Return a string, an object with `text`, or content parts: their texts joined, and at most one image.

    Raises:
        Problem: If a part is neither text nor an image.
    """
    if isinstance(value, str):
        return Document(value)
    if isinstance(value.get("text"), str):
        return Document(value["text"])
    parts = value.get("content")
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise Problem(Kind.MALFORMED, "invalid request: give a string or {'content': [parts]}")
    texts, images = [], []
    for part in parts:
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif part.get("type") == "image_url" and isinstance(_image_url(part), str):
            images.append(_image_url(part))
        else:
            raise Problem(Kind.MALFORMED, "invalid request: a content part must be of type 'text' or 'image_url'")
    if len(images) > 1:
        raise Problem(Kind.UNUSABLE, "invalid request: a document may hold one image")
    return Document("\n".join(texts), metadata=value, image=images[0] if images else None)


def usage(result: RerankResult) -> dict[str, int]:
    """Return the tokens of a call."""
    return {"prompt_tokens": result.num_tokens, "total_tokens": result.num_tokens}


def vllm_error(problem: Problem, status: int) -> dict[str, Any]:
    """Return the body of an error."""
    if problem.kind is Kind.UNAUTHORIZED:
        return {"error": "Unauthorized"}
    default = "BadRequestError" if status < 500 else "InternalServerError"
    kind = _TYPES.get(status, default)
    return {"error": {"message": problem.message, "type": kind, "param": None, "code": status}}


def _to_request(body: VllmOptions, pairs: tuple[tuple[str, Document], ...], *, top_k: int | None) -> RerankRequest:
    cut = body.truncate_prompt_tokens
    return RerankRequest(
        pairs=pairs,
        model=body.model,
        top_k=top_k,
        scale="logit" if body.use_activation is False else "activation",
        on_overflow="error" if cut is None else "truncate",
        truncation=Truncation(
            max_length=cut if cut is not None and cut > 0 else None,
            max_document_tokens=body.max_tokens_per_doc,
            max_query_tokens=body.max_tokens_per_query,
            keep="end" if body.truncation_side == "left" else "start",
        ),
        instruction=body.instruction or (body.chat_template_kwargs or {}).get("instruction"),
        priority=max(0, body.priority or 0),
        return_documents=True,
    )


def _listed(value: ScoreInput | list[ScoreInput]) -> list[ScoreInput]:
    """Return one input, several, or the parts of one document, which vLLM also takes bare, as a list."""
    return value if isinstance(value, list) else [value]


def _image_url(part: dict[str, Any]) -> Any:
    url = part.get("image_url")
    return url.get("url") if isinstance(url, dict) else url


def _echo(document: Document) -> VllmDocument:
    parts = document.metadata.get("content")
    return {"text": None if parts else document.text, "multi_modal": parts}
