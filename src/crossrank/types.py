"""The records that flow between the rooms, and the two sockets: `Scorer` and `Ranker`."""

from __future__ import annotations

import html
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, overload, runtime_checkable

import numpy as np
import numpy.typing as npt

from crossrank.errors import InputError

Scores = npt.NDArray[np.float32]

# C0 and C1: shown as they are, an escape sequence inside a document would drive the reader's terminal.
_CONTROL_CHARACTERS = dict.fromkeys([*range(32), *range(127, 160)], "\ufffd")


class LazyImage(ABC):
    """An image that knows its size and its content before it is drawn, such as a page of a PDF; it holds no pixels.

    Attributes:
        where: What it is and where it comes from, for errors.
    """

    where: str

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, upright."""

    @property
    @abstractmethod
    def key(self) -> bytes:
        """A digest of the content: equal for equal content."""

    @abstractmethod
    def load(self) -> Any:
        """Return the pixels: a PIL image, upright."""


@dataclass(frozen=True)
class Document:
    """A text, an image, or both, to rank.

    Attributes:
        text: The body. What is truncated or cut into windows when it is too long. May be empty beside an image.
        title: Put before the body, as the checkpoint's prompt says.
        id: The caller's own key, carried through.
        metadata: Anything else, carried through.
        image: A path, the bytes of an image file, a data URL, a PIL image, or a `LazyImage`; None where there is none.
            It is carried as it is, and decoded by what reads it.
    """

    text: str = ""
    title: str | None = None
    id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    image: Any = field(default=None, repr=False)


DocumentLike = str | Document | Mapping[str, Any]
DOCUMENT_KEYS = ("text", "title", "id", "metadata", "image")


class Pair(NamedTuple):
    """A query and the document that is judged against it."""

    query: str
    document: str | Document


@dataclass(frozen=True)
class TrainingGroup:
    """A query with the documents that are compared for it, positives first.

    Attributes:
        query_id: The key of the query.
        query: The text.
        documents: `N` of them: the positives, then the negatives.
        labels: A grade a document, above 0 for a positive; 1 and 0 where the data is binary.
        teacher_scores: A teacher's score a document, or None where there are none.
    """

    query_id: str
    query: str
    documents: tuple[Document, ...]
    labels: tuple[float, ...]
    teacher_scores: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Hit:
    """One document of a ranking.

    Attributes:
        index: Position of the document in the list that was ranked, from 0.
        score: On the scale of the ranking's `score_type`; higher is more relevant.
        document: The document as it was given (a string or a mapping becomes a `Document`).
        truncated: Whether a part of the document was not read: too long for the model, and not cut into windows.
        span: Under `on_overflow="chunk"`, the half-open range of characters of `document.text` that gave the score
            of a document that was cut into windows; otherwise None.
    """

    index: int
    score: float
    document: Document
    truncated: bool = False
    span: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON; an image is left out."""
        document = {"text": self.document.text, "title": self.document.title, "id": self.document.id}
        return {
            "index": self.index,
            "score": self.score,
            "document": {k: v for k, v in document.items() if v is not None}
            | ({"metadata": dict(self.document.metadata)} if self.document.metadata else {}),
            "truncated": self.truncated,
            "span": list(self.span) if self.span else None,
        }


@dataclass(frozen=True)
class Usage:
    """What the calls of a language model took.

    Attributes:
        calls: Answers that the server gave.
        cached_calls: Answers that came from the cache, and cost nothing.
        retries: Requests that were sent again, after a failure or a limit of the server.
        input_tokens: Read by the model, as the server counts them.
        output_tokens: Written by the model.
        estimated_calls: Those of `calls` whose tokens the server did not count, and that were estimated.
        cost_usd: In US dollars; None where no prices are known.
    """

    calls: int = 0
    cached_calls: int = 0
    retries: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated_calls: int = 0
    cost_usd: float | None = None

    def __add__(self, other: Usage) -> Usage:
        costs = [cost for cost in (self.cost_usd, other.cost_usd) if cost is not None]
        counts = {name: getattr(self, name) + getattr(other, name) for name in _USAGE_COUNTS}
        return Usage(**counts, cost_usd=sum(costs) if costs else None)


_USAGE_COUNTS = ("calls", "cached_calls", "retries", "input_tokens", "output_tokens", "estimated_calls")


@dataclass(frozen=True)
class Stage:
    """What one stage of a ranking did, and what it cost.

    Attributes:
        model: The ranker's name.
        documents: How many it was given.
        usage: Calls of a language model; all 0 for a ranker that makes none.
        repairs: How often an answer had to be repaired, by kind of fault.
        failures: Why the order that came in was kept, for all documents or for some; empty where it never was.
    """

    model: str
    documents: int
    usage: Usage = Usage()
    repairs: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Ranking(Sequence[Hit]):
    """The hits for one query, best first: score descending, equal scores in input order.

    Attributes:
        query: The query that was ranked for.
        hits: The documents, best first.
        score_type: `"logit"`, `"probability"` or `"fused"`; `"reciprocal rank"` or `"grade"` from a language model;
            `"retrieval"` from a first stage.
        model: The checkpoint that scored them.
        stages: What each stage did, where there are several or a language model is among them.
    """

    query: str
    hits: tuple[Hit, ...]
    score_type: str = "logit"
    model: str = ""
    stages: tuple[Stage, ...] = ()

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one plain dictionary a hit, best first, with its `rank` from 1."""
        return [{"rank": rank} | hit.to_dict() for rank, hit in enumerate(self.hits, start=1)]

    def __repr__(self) -> str:
        """Draw the table that `print` shows."""
        from rich.console import Console  # kept out of import time

        buffer = io.StringIO()
        Console(file=buffer, width=100).print(self)
        return buffer.getvalue().rstrip("\n")

    def __rich__(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(f"{len(self.hits)} results for {self.query!r}"), title_justify="left")
        table.add_column("#", justify="right")
        table.add_column(self.score_type, justify="right")
        table.add_column("document", overflow="fold")
        for rank, hit in enumerate(self.hits, start=1):
            table.add_row(str(rank), f"{hit.score:.4f}", Text(hit_label(hit)))
        return table

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{rank}</td><td>{hit.score:.4f}</td><td>{html.escape(hit_label(hit))}</td></tr>"
            for rank, hit in enumerate(self.hits, start=1)
        )
        head = f"<tr><th>#</th><th>{html.escape(self.score_type)}</th><th>document</th></tr>"
        return f"<table><caption>{html.escape(self.query)}</caption>{head}{rows}</table>"


def hit_label(hit: Hit, *, width: int = 200) -> str:
    """Return one line that shows a hit: its key, its title, its image, and the text that was scored."""
    document = hit.document
    start, end = hit.span or (0, len(document.text))
    text = " ".join(document.text[start : min(end, start + 4 * width)].split())
    key = None if document.id is None else str(document.id)  # callers have numbers as ids, too
    parts = (key, document.title, _image_name(document.image), text)
    label = " · ".join(part for part in dict.fromkeys(parts) if part).translate(_CONTROL_CHARACTERS)
    label = label if len(label) <= width else label[: width - 1] + "…"
    return f"{label} [truncated]" if hit.truncated else label


def _image_name(image: Any) -> str | None:
    """Return the path of an image, or that there is one."""
    if image is None:
        return None
    is_path = isinstance(image, Path) or (isinstance(image, str) and not image.startswith("data:"))
    return str(image) if is_path else "[image]"


@runtime_checkable
class Scorer(Protocol):
    """Anything that scores pairs: a torch model, a compiled CPU graph, a remote service, a teacher."""

    def score(self, pairs: Sequence[tuple[str, str | Document]]) -> Scores:
        """Return one raw logit a pair, float32 `(n,)`, in the order given; higher is more relevant."""
        ...


@runtime_checkable
class Ranker(Protocol):
    """Anything that orders documents for a query: a reranker, an LLM, a remote API, a cascade."""

    def rank(self, query: str, documents: Sequence[DocumentLike], *, top_k: int | None = None) -> Ranking:
        """Return the documents, best first."""
        ...


def to_documents(documents: Sequence[DocumentLike], *, reads_images: bool = False) -> list[Document]:
    """Return what a caller wants to have ranked as documents.

    Args:
        documents: What the caller gave.
        reads_images: Whether an image without text is a document.

    Raises:
        InputError: If it is one document instead of a list, or an item cannot be read as a text.
    """
    if isinstance(documents, str | bytes | Mapping | Document):
        raise InputError("documents must be a list of documents, not one document")
    if not isinstance(documents, Iterable) or getattr(documents, "ndim", 1) != 1:
        raise InputError(f"documents must be a list of documents, not {type(documents).__name__}")
    return [to_document(document, i, reads_images=reads_images) for i, document in enumerate(documents)]


def to_document(document: DocumentLike, index: int, *, reads_images: bool = False) -> Document:
    """Return a string, a mapping or a `Document` as a `Document`.

    Args:
        document: What the caller gave.
        index: Its position, for the error.
        reads_images: Whether an image without text is a document.

    Raises:
        InputError: If it is none of these, lacks its text, is an image alone that is not read, or has an unknown key or
            a wrong type.
    """
    if isinstance(document, str):
        return Document(document)
    if isinstance(document, Mapping):
        unknown = [key for key in document if key not in DOCUMENT_KEYS]
        if unknown:
            raise InputError(
                f"document {index} has unknown keys {unknown}; known are {', '.join(DOCUMENT_KEYS)} "
                "(put anything else under 'metadata')"
            )
        if "text" not in document and document.get("image") is None:
            raise InputError(f"document {index} has no 'text'")
        given = {key: value for key, value in document.items() if key != "metadata" or value is not None}
        document = Document(**given)
    if not isinstance(document, Document):
        raise InputError(f"document {index} is a {type(document).__name__}: give a string, a Document or a mapping")
    if not isinstance(document.text, str):
        raise InputError(f"the text of document {index} is a {type(document.text).__name__}, not a string")
    if document.title is not None and not isinstance(document.title, str):
        raise InputError(f"the title of document {index} is a {type(document.title).__name__}, not a string")
    if not isinstance(document.metadata, Mapping):
        raise InputError(f"the metadata of document {index} is a {type(document.metadata).__name__}, not a mapping")
    if document.image is not None and not document.text.strip() and not reads_images:
        raise InputError(f"document {index} is an image without text, and this model reads text: give it a 'text' too")
    return document


def check_query(query: object, *, where: str = "") -> None:
    """Check that a query is text.

    Raises:
        InputError: If it is no string, or an empty one.
    """
    if not isinstance(query, str):
        raise InputError(f"the query{where} must be a string, not {type(query).__name__}")
    if not query.strip():
        raise InputError(f"the query{where} is empty")
