"""The first stage: what every retriever looks like, and the one order that all of them keep.

Shape letter: `D` documents of the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from crossrank.data.trec import Candidate
from crossrank.errors import InputError
from crossrank.types import Document

OnProgress = Callable[[int], None]


class Retrieved(NamedTuple):
    """The candidates of one query, best first: score descending, equal scores in the order of the corpus."""

    query_id: str
    candidates: tuple[Candidate, ...]


class Retriever(Protocol):
    """A corpus to candidates: BM25, a bi-encoder, an existing run.

    Attributes:
        name: For tables and the last field of a run, as in `"bm25"`.
    """

    name: str

    def index(self, corpus: Iterable[Document], *, on_progress: OnProgress | None = None) -> None:
        """Read the corpus once, from its start to its end; a second call replaces the first.

        Args:
            corpus: Documents with ids; only what searching needs stays in memory.
            on_progress: Called with the number of documents that have been finished since the last call.

        Raises:
            InputError: If a document has no id, or an id comes twice.
        """
        ...

    def search(self, queries: Mapping[str, str], *, depth: int) -> Iterator[Retrieved]:
        """Yield every query once, with at most `depth` candidates.

        The order of the queries is the retriever's own. A query for which it finds nothing has no candidates.

        Args:
            queries: Text by id.
            depth: Most candidates of a query.

        Raises:
            InputError: If `depth` is below 1, or there is no index yet.
        """
        ...


class DocumentIds:
    """The ids of a corpus in order; an id is taken once."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._ids: list[str] = []

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, row: int) -> str:
        return self._ids[row]

    def __contains__(self, document_id: object) -> bool:
        return document_id in self._rows

    def add(self, document: Document) -> None:
        """Take the id of the next document.

        Raises:
            InputError: If it has none, or one that came before.
        """
        row = len(self._ids)
        if document.id is None:
            raise InputError(f"document {row + 1} of the corpus has no id, and a run names documents by their ids")
        if self._rows.setdefault(document.id, row) != row:
            raise InputError(
                f"document {row + 1} of the corpus has the id {document.id!r} of document {self._rows[document.id] + 1}"
            )
        self._ids.append(document.id)


def full_text(document: Document) -> str:
    """Return title and text with a space between them, as BEIR's baselines read a document.

    Source: Thakur et al., "BEIR" (NeurIPS 2021), and its code.
    """
    return f"{document.title} {document.text}" if document.title else document.text


def best_rows(scores_D: npt.NDArray[np.floating], depth: int) -> npt.NDArray[np.intp]:
    """Return the rows of the `depth` highest scores: score descending, equal scores by row, also at the cut."""
    if depth >= len(scores_D):
        return np.argsort(-scores_D, kind="stable")
    lowest = np.partition(scores_D, -depth)[-depth]
    above = np.flatnonzero(scores_D > lowest)
    equal = np.flatnonzero(scores_D == lowest)[: depth - len(above)]
    # Rows ascend within each part, so a stable sort keeps them so among equal scores.
    return np.concatenate([above[np.argsort(-scores_D[above], kind="stable")], equal])


def check_search(depth: int, *, is_indexed: bool) -> None:
    """Check what `search` is asked for.

    Raises:
        InputError: If `depth` is below 1, or there is no index yet.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise InputError(f"depth must be a whole number above 0, not {depth!r}")
    if not is_indexed:
        raise InputError("there is nothing to search: call index() with the corpus first")
