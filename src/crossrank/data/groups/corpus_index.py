"""Documents that groups name by id: written to the store first, then found by id without holding ids in memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np

from crossrank.data.groups.report import Kind, UnknownId
from crossrank.data.groups.sampling import hash_text
from crossrank.data.groups.store import document_from_row
from crossrank.data.groups.store_writer import Entry, StoreWriter
from crossrank.errors import DataError
from crossrank.types import Document


class CorpusIndex:
    """The documents of one corpus; in memory it takes 24 bytes a document.

    First `add` every document, then `finish`, then `find`. Where a store has several corpora, all are added before the
    first is finished.
    """

    def __init__(self, writer: StoreWriter, name: str) -> None:
        self._writer = writer
        self._name = name
        self._hashes, self._rows, self._lines = array("Q"), array("q"), array("q")

    def add(self, document: Document, line: int) -> None:
        """Write a document to the store; one without an id is reported and left out."""
        if document.id is None:
            self._writer.problems.add(Kind.missing_id, "a document without an id", self._name, line)
            return
        self._hashes.append(hash_text(document.id))
        self._rows.append(self._writer.add_document(document).row)
        self._lines.append(line)

    def finish(self) -> None:
        """Make the documents findable; an id that stands for two documents is reported, and means the first.

        Raises:
            DataError: If there are none.
        """
        if not self._hashes:
            raise DataError("not a single document in the corpus", path=self._name)
        self._documents, self._keys = self._writer.finish_documents()
        hashes = np.frombuffer(self._hashes, np.uint64)
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]
        for at in np.flatnonzero(self._sorted[1:] == self._sorted[:-1]) + 1:
            place = int(self._order[at])
            document_id = self._documents.value(self._rows[place], "id")
            entry = self.find(document_id)
            if entry and entry.row != self._rows[place] and entry.key != self._keys[self._rows[place]]:
                message = f"the document id {document_id!r} stands for another document above"
                self._writer.problems.add(Kind.duplicate_id, message, self._name, self._lines[place])

    def find(self, document_id: str) -> Entry | None:
        """Return a document as an entry of grade 0, or None where there is none."""
        key = np.uint64(hash_text(document_id))
        at = int(np.searchsorted(self._sorted, key))
        while at < len(self._sorted) and self._sorted[at] == key:
            row = self._rows[int(self._order[at])]
            if self._documents.value(row, "id") == document_id:
                return Entry(row, int(self._keys[row]), 0.0)
            at += 1
        return None

    def entry(self, document_id: str) -> Entry:
        """Return a document as an entry of grade 0.

        Raises:
            UnknownId: If there is none.
        """
        entry = self.find(document_id)
        if entry is None:
            raise UnknownId(f"document {document_id!r} is not in the corpus {self._name}")
        return entry

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Document]:
        return self.documents()

    def get(self, document_id: str) -> Document | None:
        """Return the document with this id, or None where there is none."""
        entry = self.find(document_id)
        return document_from_row(self._documents.row(entry.row)) if entry else None

    def at(self, place: int) -> Document:
        """Return a document by its place in the corpus, counted from 0."""
        return document_from_row(self._documents.row(self._rows[place]))

    def documents(self) -> Iterator[Document]:
        """Yield the documents, each id once."""
        seen_twice = set(self._order[1:][self._sorted[1:] == self._sorted[:-1]].tolist())
        for place, row in enumerate(self._rows):
            if place not in seen_twice:
                yield document_from_row(self._documents.row(row))
