"""A retriever that reads its candidates from an existing TREC run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from crossrank.data.text import display_name
from crossrank.data.trec import RunQuery, read_run
from crossrank.errors import DataError
from crossrank.retrieval.retriever import DocumentIds, OnProgress, Retrieved, check_search
from crossrank.types import Document


class ExistingRun:
    """Candidates out of a file, sorted by score; equal scores stay in the order of the file.

    Queries come in the order of the run; those that it does not hold come last, without candidates. Queries of the run
    that nobody asks for are passed over.

    Args:
        path: The run; may be packed with gzip.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._ids: DocumentIds | None = None
        self.name = f"run:{Path(path).name}"

    def index(self, corpus: Iterable[Document], *, on_progress: OnProgress | None = None) -> None:
        """Remember which documents there are."""
        ids = DocumentIds()
        for document in corpus:
            ids.add(document)
            if on_progress:
                on_progress(1)
        self._ids = ids

    def search(self, queries: Mapping[str, str], *, depth: int) -> Iterator[Retrieved]:
        """Yield every query once, with at most `depth` candidates.

        Raises:
            InputError: If `depth` is below 1, or there is no index yet.
            DataError: If a line of the run is bad, or a document of a query is not in the corpus.
        """
        check_search(depth, is_indexed=self._ids is not None)
        return self._read(queries, depth)

    def _read(self, queries: Mapping[str, str], depth: int) -> Iterator[Retrieved]:
        left = dict.fromkeys(queries)
        for item in read_run(self._path):
            if item.query_id in left:
                del left[item.query_id]
                self._check_documents(item)
                ordered = sorted(item.candidates, key=lambda candidate: -candidate.score)
                yield Retrieved(item.query_id, tuple(ordered[:depth]))
        yield from (Retrieved(query_id, ()) for query_id in left)

    def _check_documents(self, item: RunQuery) -> None:
        assert self._ids is not None
        for candidate, line in zip(item.candidates, item.lines, strict=True):
            if candidate.document_id not in self._ids:
                unknown = f"document {candidate.document_id!r} is not in the corpus"
                raise DataError(unknown, path=display_name(self._path), line=line)
