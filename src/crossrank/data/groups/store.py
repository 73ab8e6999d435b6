"""The groups of one source as Arrow files, written once by `store_writer.py`, then read by row number.

A store is a folder:

    documents.arrow   text, title, id and image of every document
    groups.arrow      a group a row: its documents as row numbers, positives first, with grades and teacher scores
    *.u64             hashes: of each document, of what it is a page of, of each query's id and of its text
    images.jsonl      the image files that were looked at: their images stay where they are
    kept.i64          the rows of groups.arrow that are used; the others are bad
    store.json        the files that were read, and the problems that were found
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossrank.data.groups.report import Problems
from crossrank.data.groups.same_document import PageIndex
from crossrank.data.groups.sampling import Keys, hash_text
from crossrank.data.groups.tables import Table, map_numbers
from crossrank.types import Document

STORE_FILE = "store.json"
IDS, QUERIES, DOCUMENTS, PAGES = "ids.u64", "queries.u64", "documents.u64", "pages.u64"
KEPT = "kept.i64"
DOCUMENT_TABLE, GROUP_TABLE = "documents.arrow", "groups.arrow"


def text_key(text: str) -> int:
    """Return a hash that is the same for texts that differ in case and white space alone."""
    return hash_text(" ".join(text.split()).casefold())


@dataclass(frozen=True)
class StoredGroup:
    """A group of a store.

    Attributes:
        query_id: The key of the query.
        query: The text.
        rows: Row numbers of its documents, positives first.
        grades: Of the documents.
        scores: The teacher's, or None.
        num_positives: How many are positives.
        path: The file that it came from.
        line: The line there.
    """

    query_id: str
    query: str
    rows: npt.NDArray[np.int64]
    grades: tuple[float, ...]
    scores: tuple[float, ...] | None
    num_positives: int
    path: str
    line: int


def document_from_row(values: Mapping[str, Any]) -> Document:
    """Return the document that a row of the document table describes."""
    image = values["image"] if values["image_bytes"] is None else values["image_bytes"]
    return Document(values["text"], title=values["title"], id=values["id"], image=image)


class GroupStore:
    """The groups of one source, read from their folder; takes a few bytes of memory a group.

    May be pickled and used after a fork: only the folder travels.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = json.loads((folder / STORE_FILE).read_text(encoding="utf-8"))
        self.problems = Problems.from_dict(about["problems"])
        self._files: list[str] = about["files"]
        self._groups = Table(folder / GROUP_TABLE)
        self._documents = Table(folder / DOCUMENT_TABLE)
        self._keys: Keys = map_numbers(folder / DOCUMENTS, np.uint64)
        self._kept: npt.NDArray[np.int64] = map_numbers(folder / KEPT, np.int64)
        self._queries: tuple[Keys, npt.NDArray[np.int64]] | None = None

    def __reduce__(self) -> tuple[type[GroupStore], tuple[Path]]:
        return GroupStore, (self.folder,)

    def __len__(self) -> int:
        return len(self._kept)

    def group(self, index: int) -> StoredGroup:
        """Return a group."""
        values = self._groups.row(int(self._kept[index]))
        return StoredGroup(
            values["query_id"],
            values["query"],
            np.array(values["rows"], np.int64),
            tuple(values["grades"]),
            None if values["scores"] is None else tuple(values["scores"]),
            values["num_positives"],
            self._files[values["file"]],
            values["line"],
        )

    def rows(self, index: int) -> npt.NDArray[np.int64]:
        """Return the row numbers of the documents of a group, positives first."""
        return self._groups.list_value(int(self._kept[index]), "rows")

    def positive_rows(self, index: int) -> npt.NDArray[np.int64]:
        """Return the row numbers of the positives of a group."""
        return self.rows(index)[: self._groups.value(int(self._kept[index]), "num_positives")]

    @cached_property
    def pages(self) -> PageIndex:
        """Which documents the rows are pages of."""
        return PageIndex(map_numbers(self.folder / PAGES, np.uint64))

    def document(self, row: int) -> Document:
        """Return a document by its row number."""
        return document_from_row(self._documents.row(row))

    def find_image_alone(self) -> Document | None:
        """Return the first document that is an image without a text, or None."""
        start = 0
        for batch in self._documents.batches():
            columns = {name: batch.column(name) for name in ("text", "image", "image_bytes")}
            has_image = [columns[name].is_valid().to_numpy(zero_copy_only=False) for name in ("image", "image_bytes")]
            alone = np.flatnonzero(
                (has_image[0] | has_image[1]) & ~columns["text"].to_numpy(zero_copy_only=False).astype(bool)
            )
            if len(alone):
                return self.document(start + int(alone[0]))
            start += batch.num_rows
        return None

    def document_keys(self, rows: npt.NDArray[np.int64]) -> Keys:
        """Return the hash of the content of each document."""
        return self._keys[rows]

    def id_keys(self) -> Keys:
        """Return a hash of each group's query id."""
        return map_numbers(self.folder / IDS, np.uint64)[self._kept]

    def query_keys(self) -> Keys:
        """Return a hash of each group's query text."""
        return map_numbers(self.folder / QUERIES, np.uint64)[self._kept]

    def known_positives(self, query_key: int) -> set[int]:
        """Return the hashes of all documents that are a positive of a query, by the `text_key` of its text."""
        if self._queries is None:
            keys = self.query_keys()
            order = np.argsort(keys, kind="stable")
            self._queries = keys[order], order
        keys, order = self._queries
        first, last = np.searchsorted(keys, np.uint64(query_key)), np.searchsorted(keys, np.uint64(query_key), "right")
        found = (self.document_keys(self.positive_rows(int(index))) for index in order[first:last])
        return {int(key) for keys in found for key in keys}

    def num_positives(self) -> npt.NDArray[np.int64]:
        """Return how many positives each group has."""
        numbers = [batch.column("num_positives").to_numpy() for batch in self._groups.batches()]
        return np.concatenate([np.zeros(0, np.int64), *numbers])[self._kept]

    def num_negatives(self) -> npt.NDArray[np.int64]:
        """Return how many negatives each group has."""
        sizes = [batch.column("rows").value_lengths().to_numpy() for batch in self._groups.batches()]
        return np.concatenate([np.zeros(0, np.int64), *sizes])[self._kept] - self.num_positives()

    def summary(self) -> dict[str, Any]:
        """Return how much there is, as plain values; `documents` counts each as often as it stands in the files."""
        negatives = self.num_negatives()
        some = negatives if len(negatives) else np.zeros(1, np.int64)
        spread = {"min": int(some.min()), "max": int(some.max()), "mean": float(some.mean())}
        return {
            "groups": len(self),
            "documents": len(self._documents),
            "positives": int(self.num_positives().sum()),
            "negatives": int(negatives.sum()),
            "negatives_per_group": spread,
            "teacher_scored": int(self.has_scores().sum()),
        }

    def positive_keys(self) -> Keys:
        """Return the hash of the content of every positive."""
        found = [np.zeros(0, np.uint64)]
        for batch in self._groups.batches():
            sizes = batch.column("rows").value_lengths().to_numpy()
            places = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            first = places < np.repeat(batch.column("num_positives").to_numpy(), sizes)
            found.append(self._keys[batch.column("rows").flatten().to_numpy()[first]])
        return np.concatenate(found)

    def has_grade(self, is_odd: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
        """Return which groups have a grade of which a function of many grades holds."""
        found = [np.zeros(0, np.bool_)]
        for batch in self._groups.batches():
            column = batch.column("grades")
            ends = np.cumsum(column.value_lengths().to_numpy())
            odd = np.cumsum(np.concatenate([[0], is_odd(column.flatten().to_numpy())]))
            found.append(odd[ends] > odd[np.concatenate([[0], ends[:-1]])])
        return np.concatenate(found)[self._kept]

    def has_scores(self) -> npt.NDArray[np.bool_]:
        """Return which groups have teacher scores."""
        valid = [batch.column("scores").is_valid().to_numpy(zero_copy_only=False) for batch in self._groups.batches()]
        return np.concatenate([np.zeros(0, np.bool_), *valid])[self._kept]
