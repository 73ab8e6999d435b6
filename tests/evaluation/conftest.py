from collections.abc import Iterator

import numpy as np
import pytest

from crossrank.data.evaluation_set import EvaluationSet
from crossrank.types import Document


class MemoryCorpus:
    """A document store over a dictionary."""

    def __init__(self, documents: dict[str, Document]) -> None:
        self._documents = documents

    def get(self, document_id: str) -> Document | None:
        return self._documents.get(document_id)

    def __contains__(self, document_id: object) -> bool:
        return document_id in self._documents

    def __iter__(self) -> Iterator[Document]:
        return iter(self._documents.values())

    def __len__(self) -> int:
        return len(self._documents)


class LookUp:
    """A scorer that knows the score of each pair, and remembers what it was asked."""

    def __init__(self, score) -> None:
        self._score = score
        self.pairs: list[tuple[str, str]] = []

    def score(self, pairs):
        ids = [(query, document.id) for query, document in pairs]
        self.pairs += ids
        return np.array([self._score(query, document_id) for query, document_id in ids], np.float32)


@pytest.fixture
def look_up():
    return LookUp


@pytest.fixture
def make_set():
    """Build a set from grades by query and a number of documents d0, d1, ...; the text of query q is `text of q`."""

    def make(qrels, *, num_documents=10, name="tiny", **options):
        queries = {query_id: f"text of {query_id}" for query_id in qrels} | options.pop("more_queries", {})
        ids = [f"d{i}" for i in range(num_documents)]
        corpus = MemoryCorpus({i: Document(f"words of {i}", id=i) for i in ids})
        return EvaluationSet(name, queries, corpus, qrels, split="dev", **options)

    return make
