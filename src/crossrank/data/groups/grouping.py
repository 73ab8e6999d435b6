"""Rows of one query and one or two documents each, gathered into groups by query."""

from __future__ import annotations

from array import array

import numpy as np

from crossrank.data.groups.store_writer import Entry, NewGroup, StoreWriter
from crossrank.errors import InputError


class Grouper:
    """Collects judged documents by query; takes 40 bytes of memory a document, and the texts of the queries.

    Args:
        writer: Takes the groups.
        path: The file that the rows are from.
    """

    def __init__(self, writer: StoreWriter, path: str) -> None:
        self._writer = writer
        self._path = path
        self._numbers: dict[str, int] = {}
        self._queries: list[tuple[str | None, str, int]] = []
        self._groups, self._rows, self._keys = array("q"), array("q"), array("Q")
        self._grades, self._scores = array("d"), array("d")

    def __len__(self) -> int:
        """Return how many queries there are."""
        return len(self._queries)

    def add(self, query_id: str | None, query: str, entries: tuple[Entry, ...], line: int) -> None:
        """Take documents of a query; queries are told apart by their id, or by their text where they have none.

        Raises:
            InputError: If the id stands for another query.
        """
        name = query if query_id is None else query_id
        number = self._numbers.setdefault(name, len(self._queries))
        if number == len(self._queries):
            self._queries.append((query_id, query, line))
        if self._queries[number][1] != query:
            raise InputError(f"the query id {query_id!r} stands for another query above")
        for entry in entries:
            self._groups.append(number)
            self._rows.append(entry.row)
            self._keys.append(entry.key)
            self._grades.append(entry.grade)
            self._scores.append(np.nan if entry.score is None else entry.score)

    def write(self, *, merge: bool) -> None:
        """Write the groups, queries and documents in the order in which they came.

        Args:
            merge: Whether a document that comes again with the same grade is the normal thing, and not reported.
        """
        groups = np.frombuffer(self._groups, np.int64) if self._groups else np.zeros(0, np.int64)
        order = np.argsort(groups, kind="stable")
        ends = np.searchsorted(groups[order], np.arange(len(self._queries)), side="right")
        start = 0
        for (query_id, query, line), end in zip(self._queries, ends, strict=True):
            entries = [self._entry(int(place)) for place in order[start:end]]
            if merge:
                entries = list({(entry.key, entry.grade): entry for entry in entries}.values())
            self._writer.add_group(NewGroup(query_id, query, tuple(entries), self._path, line))
            start = int(end)

    def _entry(self, place: int) -> Entry:
        score = self._scores[place]
        return Entry(self._rows[place], self._keys[place], self._grades[place], None if score != score else score)
