"""What every layout is read into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crossrank.types import Document


@dataclass(frozen=True)
class Contents:
    """One split of a data set, on its way from its own layout to a BEIR folder.

    Attributes:
        queries: Text by id; may hold more than the judged ones.
        qrels: Grade by document by query.
        documents: The corpus, once through; each has its id. An image is the bytes of its file.
        candidates: The documents to rank for each query, where the set states them.
        languages: Of the queries, where the set states them.
        split: The split that was read, where another one than was asked for.
    """

    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    documents: Iterable[Document]
    candidates: Mapping[str, Sequence[str]] | None = None
    languages: Mapping[str, str] = field(default_factory=dict)
    split: str | None = None
