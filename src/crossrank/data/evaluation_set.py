"""What an evaluation runs on: queries, a corpus, the judgements, and maybe given candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal, Protocol

from crossrank.errors import InputError
from crossrank.types import Document

Modality = Literal["text", "image", "image+text"]


class DocumentStore(Protocol):
    """The documents of a corpus, each read when it is asked for."""

    def get(self, document_id: str) -> Document | None:
        """Return the document with this id, or None where there is none."""
        ...

    def __contains__(self, document_id: object) -> bool: ...

    def __iter__(self) -> Iterator[Document]:
        """Yield every document, in the order of the file."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class EvaluationSet:
    """One split of a data set.

    Attributes:
        name: For tables and file names.
        queries: Text by id; every query of `qrels` is here.
        corpus: Documents by id, read lazily.
        qrels: Grade by document by query; from 0, and above 0 is relevant. Every query in it counts.
        candidates: Where the set comes with a list of documents to rank for each query (`top_ranked`): their ids.
            The order carries no meaning, unless `candidates_are_ranked`.
        split: The split, as in `"dev"`.
        language: Of the queries and documents, as in `"en"`, or `"de-en"` for German queries over English documents;
            None where it is unknown.
        modality: What of a document is there to read.
        candidates_are_ranked: The candidates stand in the order of a retriever, best first.
        queries_are_documents: The corpus has each query under its own id, and a query must not find itself.
        fingerprint: A text that changes when the files do, so that runs of other texts are not taken for these.
    """

    name: str
    queries: Mapping[str, str]
    corpus: DocumentStore
    qrels: Mapping[str, Mapping[str, int]]
    candidates: Mapping[str, Sequence[str]] | None = None
    split: str = "test"
    language: str | None = None
    modality: Modality = "text"
    queries_are_documents: bool = False
    candidates_are_ranked: bool = False
    fingerprint: str = ""

    def sample(self, num_queries: int, *, seed: int = 0) -> EvaluationSet:
        """Return the set with that many of its judged queries; the same ones every time, and all where there are fewer.

        Raises:
            InputError: If `num_queries` is below 1.
        """
        if num_queries < 1:
            raise InputError(f"a sample has at least 1 query, not {num_queries}")
        chosen = set(sorted(self.qrels, key=lambda query_id: stable_hash(f"{seed}", query_id))[:num_queries])
        return replace(self, qrels={query_id: grades for query_id, grades in self.qrels.items() if query_id in chosen})


def stable_hash(*parts: str) -> bytes:
    """Return 8 bytes that look random, and are the same in every process and on every machine."""
    return blake2b("\0".join(parts).encode("utf-8"), digest_size=8).digest()
