"""What each API wants and answers, as pure mappings: where, how much at once, which body, which scores.

Limits and shapes are those that the services document; servers that state none get a size that a common proxy takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from crossrank.integrations.remote.images import bare_base64, data_url
from crossrank.types import Document

ScoreType = Literal["logit", "probability"]
PLENTY_OF_BYTES = 16_000_000


@dataclass(frozen=True)
class Call:
    """One request: pairs of one query, or of several where the API takes that."""

    pairs: Sequence[tuple[str, Document]]
    model: str | None
    score_type: ScoreType

    @property
    def query(self) -> str:
        """The query of the first pair."""
        return self.pairs[0][0]

    @property
    def texts(self) -> list[str]:
        """What a service without titles reads of each document."""
        return [text_of(document) for _, document in self.pairs]


@dataclass(frozen=True, order=True)
class Answered:
    """One document of an answer: its place in the call, its score, and what a crossrank server says more."""

    index: int
    score: float
    truncated: bool = False
    span: tuple[int, int] | None = None


class Provider:
    """An API, by the shape that Cohere gave it; the others override what they do otherwise.

    Attributes:
        name: What `RemoteReranker` calls it.
        url: Of the hosted service; None for a server that is somebody's own.
        path: Below the URL.
        key_variable: The environment variable with the key.
        needs_model: Whether a request must name the model.
        score_types: What the scores can be; the first unless asked otherwise.
        max_documents: Most documents of one request.
        max_bytes: Most bytes of the texts of one request, the query counted with each document.
        reads_images: Whether documents may be images.
        mixes_queries: Whether one request may hold a query for each document.
    """

    name: ClassVar[str]
    url: ClassVar[str | None] = None
    path: ClassVar[str]
    key_variable: ClassVar[str]
    needs_model: ClassVar[bool] = True
    score_types: ClassVar[tuple[ScoreType, ...]] = ("logit", "probability")
    max_documents: ClassVar[int] = 1000
    max_bytes: ClassVar[int] = PLENTY_OF_BYTES
    reads_images: ClassVar[bool] = False
    mixes_queries: ClassVar[bool] = False

    def path_of(self, call: Call) -> str:
        """Return the path of a call."""
        return self.path

    def hosted(self, model: str | None) -> str | None:
        """Return the URL of the hosted service, with the path, or None."""
        return self.url and self.url + self.path

    def body(self, call: Call) -> dict[str, Any]:
        """Return the body of a request."""
        return _without_none({"model": call.model, "query": call.query, "documents": call.texts})

    def read(self, answer: Any) -> list[Answered]:
        """Return the scores of an answer, in any order.

        Raises:
            KeyError, TypeError, ValueError, IndexError: If it is not of the shape that the API documents.
        """
        return [Answered(int(hit["index"]), float(hit["relevance_score"])) for hit in answer["results"]]


class Cohere(Provider):
    """Cohere's API, version 2; it takes 10,000 documents and recommends at most 1,000."""

    name = "cohere"
    url = "https://api.cohere.com"
    path = "/v2/rerank"
    key_variable = "COHERE_API_KEY"
    score_types = ("probability",)


class Jina(Provider):
    """Jina's API: texts and images."""

    name = "jina"
    url = "https://api.jina.ai"
    path = "/v1/rerank"
    key_variable = "JINA_API_KEY"
    score_types = ("probability",)
    reads_images = True

    def body(self, call: Call) -> dict[str, Any]:
        """Return the body of a request; an image wins over the text beside it."""
        documents = [_jina_document(document) for _, document in call.pairs]
        body = {"model": call.model, "query": call.query, "documents": documents, "return_documents": False}
        return _without_none(body)


class Voyage(Provider):
    """Voyage's API: 1,000 documents, and 600,000 tokens with the query counted for each.

    A token of its models is at least one byte of UTF-8, so as many bytes can never be too many tokens.
    """

    name = "voyage"
    url = "https://api.voyageai.com"
    path = "/v1/rerank"
    key_variable = "VOYAGE_API_KEY"
    score_types = ("probability",)
    max_bytes = 600_000

    def body(self, call: Call) -> dict[str, Any]:
        """Return the body of a request."""
        return super().body(call) | {"truncation": True}

    def read(self, answer: Any) -> list[Answered]:
        """Return the scores of an answer."""
        return super().read({"results": answer["data"]})


class Nim(Provider):
    """NVIDIA NIM, local, or hosted where every model has a path of its own."""

    name = "nim"
    path = "/v1/ranking"
    key_variable = "NVIDIA_API_KEY"
    score_types = ("logit",)
    max_documents = 512
    reads_images = True

    def hosted(self, model: str | None) -> str | None:
        """Return the URL of a hosted model: dots of its name are underscores there."""
        return f"https://ai.api.nvidia.com/v1/retrieval/{(model or '').replace('.', '_')}/reranking"

    def body(self, call: Call) -> dict[str, Any]:
        """Return the body of a request; what is too long is cut instead of failing the request."""
        passages = [_nim_passage(document) for _, document in call.pairs]
        body = {"model": call.model, "query": {"text": call.query}, "passages": passages, "truncate": "END"}
        return _without_none(body)

    def read(self, answer: Any) -> list[Answered]:
        """Return the scores of an answer."""
        return [Answered(int(hit["index"]), float(hit["logit"])) for hit in answer["rankings"]]


class Tei(Provider):
    """text-embeddings-inference, with the limits that it starts with: 32 texts and 2 MB."""

    name = "tei"
    path = "/rerank"
    key_variable = "TEI_API_KEY"
    needs_model = False
    max_documents = 32
    max_bytes = 1_900_000

    def body(self, call: Call) -> dict[str, Any]:
        """Return the body of a request; the server has one model."""
        raw = call.score_type == "logit"
        return {"query": call.query, "texts": call.texts, "raw_scores": raw, "truncate": True}

    def read(self, answer: Any) -> list[Answered]:
        """Return the scores of an answer."""
        return [Answered(int(hit["index"]), float(hit["score"])) for hit in answer]


class Infinity(Provider):
    """Infinity; started with a URL prefix, that prefix is part of the URL to give."""

    name = "infinity"
    path = "/rerank"
    key_variable = "INFINITY_API_KEY"
    needs_model = False
    max_documents = 2048

    def body(self, call: Call) -> dict[str, Any]:
        """Return the body of a request."""
        return super().body(call) | {"raw_scores": call.score_type == "logit"}


class Vllm(Provider):
    """vLLM's scores: one a pair, with one query for all documents or one for each."""

    name = "vllm"
    path = "/v1/score"
    key_variable = "VLLM_API_KEY"
    needs_model = False
    reads_images = True
    mixes_queries = True

    def body(self, call: Call) -> dict[str, Any]:
        """Return the body of a request; what is too long is cut instead of failing the request."""
        queries = [query for query, _ in call.pairs]
        body = {
            "model": call.model,
            "queries": queries if len(set(queries)) > 1 else queries[0],
            "documents": [_content(document) for _, document in call.pairs],
            "truncate_prompt_tokens": -1,
            "use_activation": call.score_type == "probability",
        }
        return _without_none(body)

    def read(self, answer: Any) -> list[Answered]:
        """Return the scores of an answer."""
        return [Answered(int(item["index"]), float(item["score"])) for item in answer["data"]]


class Crossrank(Vllm):
    """A crossrank server: logits as from vLLM, probabilities as from Jina, both with what was truncated and spans."""

    name = "crossrank"
    key_variable = "CROSSRANK_API_KEY"

    def path_of(self, call: Call) -> str:
        """Return the path of a call, under the prefix where it is taken for no other API's."""
        return "/vllm/v1/score" if call.score_type == "logit" else "/jina/v1/rerank"

    def body(self, call: Call) -> dict[str, Any]:
        """Return the body of a request."""
        body = super().body(call) if call.score_type == "logit" else Jina.body(Jina(), call)
        return body | {"verbose": True, "on_overflow": "truncate"}

    def read(self, answer: Any) -> list[Answered]:
        """Return the scores of an answer."""
        bare = super().read(answer) if "data" in answer else Provider.read(self, answer)
        details = answer["details"]
        truncated, spans = set(details["truncated"]), details["spans"]
        return [replace(i, truncated=i.index in truncated, span=_span(spans.get(str(i.index)))) for i in bare]


PROVIDERS: dict[str, Provider] = {
    provider.name: provider for provider in (Cohere(), Jina(), Voyage(), Nim(), Tei(), Vllm(), Infinity(), Crossrank())
}


def text_of(document: Document) -> str:
    """Return the title and the text of a document in one, as a checkpoint without a prompt of its own reads them."""
    return f"{document.title} {document.text}" if document.title else document.text


def message_of(answer: Any) -> str:
    """Return the message of an error's body, where any of the APIs has it; empty where none has."""
    for key in ("message", "detail", "error"):
        value = answer.get(key) if isinstance(answer, Mapping) else None
        if isinstance(value, Mapping):
            value = value.get("message")
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            value = value[0].get("msg")
        if isinstance(value, str) and value:
            return value
    return ""


def _without_none(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if value is not None}


def _jina_document(document: Document) -> str | dict[str, str]:
    if document.image is None:
        return text_of(document)
    return {"image": bare_base64(document.image)}


def _nim_passage(document: Document) -> dict[str, str]:
    text = {"text": text_of(document)} if text_of(document).strip() or document.image is None else {}
    return text | ({} if document.image is None else {"image": data_url(document.image)})


def _content(document: Document) -> str | dict[str, Any]:
    if document.image is None:
        return text_of(document)
    text = [{"type": "text", "text": text_of(document)}] if text_of(document).strip() else []
    return {"content": [*text, {"type": "image_url", "image_url": {"url": data_url(document.image)}}]}


def _span(value: Sequence[int] | None) -> tuple[int, int] | None:
    return (int(value[0]), int(value[1])) if value else None
