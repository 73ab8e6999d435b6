"""The groups of one source as Arrow files: written once, checked while written, then read by row number.

A store is a folder:

    documents.arrow   text, title, id and image of every document
    groups.arrow      a group a row: its documents as row numbers, positives first, with grades and teacher scores
    *.u64             hashes: of each document, of each query's id and of its text
    kept.i64          the rows of groups.arrow that are used; the others are bad
    store.json        the files that were read, and the problems that were found
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from crossrank.data.groups.report import Kind, Problems
from crossrank.data.groups.sampling import Keys, hash_bytes, hash_text
from crossrank.data.groups.tables import Table, TableWriter, import_pyarrow, map_numbers
from crossrank.types import Document

STORE_FILE = "store.json"
_IDS, _QUERIES, _DOCUMENTS = "ids.u64", "queries.u64", "documents.u64"
_KEPT = "kept.i64"
_DOCUMENT_TABLE, _GROUP_TABLE = "documents.arrow", "groups.arrow"


def text_key(text: str) -> int:
    """Return a hash that is the same for texts that differ in case and white space alone."""
    return hash_text(" ".join(text.split()).casefold())


EMPTY_KEY = text_key("")
OnProgress = Callable[[int], None]
_PROGRESS_STEP = 1000


class Entry(NamedTuple):
    """A document of a group while the store is written.

    Attributes:
        row: Its row in the store.
        key: The hash of its content.
        grade: Above 0 for a positive.
        score: The teacher's, or None.
    """

    row: int
    key: int
    grade: float
    score: float | None = None


@dataclass(frozen=True)
class NewGroup:
    """A group as a reader found it.

    Attributes:
        query_id: None where the data has none; the file and the line stand for it.
        query: The text.
        entries: Its documents: positives and negatives, the hardest negative first.
        path: The file.
        line: The line, counted from 1.
    """

    query_id: str | None
    query: str
    entries: tuple[Entry, ...]
    path: str
    line: int


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


class StoreWriter:
    """Writes a store; what a reader hands its documents and groups to.

    Args:
        folder: An empty folder.
        positive_from: The least grade of a positive; above 0 where None.
        on_progress: Called with the number of documents that were written since the last call.
    """

    def __init__(
        self, folder: Path, *, positive_from: float | None = None, on_progress: OnProgress | None = None
    ) -> None:
        pyarrow = import_pyarrow()
        string, floats = pyarrow.string(), pyarrow.list_(pyarrow.float64())
        documents = {"text": string, "title": string, "id": string, "image": string, "image_bytes": pyarrow.binary()}
        groups = {
            "query_id": string,
            "query": string,
            "rows": pyarrow.list_(pyarrow.int64()),
            "grades": floats,
            "scores": floats,
            "num_positives": pyarrow.int32(),
            "file": pyarrow.int32(),
            "line": pyarrow.int64(),
        }
        self.problems = Problems()
        self._folder = folder
        self._positive_from = positive_from
        self._on_progress = on_progress
        self._files: dict[str, int] = {}
        self._stack = ExitStack()
        self._documents = self._table(_DOCUMENT_TABLE, documents)
        self._groups = self._table(_GROUP_TABLE, groups)
        self._keys = {name: self._open(name) for name in (_IDS, _QUERIES, _DOCUMENTS)}

    def _table(self, name: str, fields: Mapping[str, Any]) -> TableWriter:
        schema = import_pyarrow().schema(list(fields.items()))
        return self._stack.enter_context(TableWriter(self._folder / name, schema))

    def _open(self, name: str) -> IO[bytes]:
        return self._stack.enter_context((self._folder / name).open("wb"))

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is None:
            _finish(self._folder, list(self._files), self.problems)

    def add_document(self, document: Document) -> Entry:
        """Write a document, whose image is a path, a data URL or bytes; return it as an entry of grade 0."""
        key = _document_key(document)
        image = document.image
        path, data = (None, image) if isinstance(image, bytes) else (image, None)
        size = len(document.text) + len(document.title or "") + len(image or "") + 32
        row = self._documents.add((document.text, document.title, document.id, path, data), size=size)
        self._keys[_DOCUMENTS].write(key.to_bytes(8, "little"))
        if self._on_progress and row % _PROGRESS_STEP == _PROGRESS_STEP - 1:
            self._on_progress(_PROGRESS_STEP)
        return Entry(row, key, 0.0)

    def finish_documents(self) -> tuple[Table, Keys]:
        """Return all documents and the hashes of their contents; none can be added after this."""
        self._documents.close()
        self._keys[_DOCUMENTS].close()
        return Table(self._folder / _DOCUMENT_TABLE), map_numbers(self._folder / _DOCUMENTS, np.uint64)

    def add_group(self, group: NewGroup) -> None:
        """Check a group and write it; a bad one is reported and left out."""
        entries = self._check(group)
        if entries is None:
            return
        query_id = group.query_id or f"{Path(group.path).name}:{group.line}"
        scored = all(entry.score is not None for entry in entries)
        row = (
            query_id,
            group.query,
            [entry.row for entry in entries],
            [entry.grade for entry in entries],
            [entry.score for entry in entries] if scored else None,
            sum(entry.grade > 0 for entry in entries),
            self._files.setdefault(group.path, len(self._files)),
            group.line,
        )
        self._groups.add(row, size=len(query_id) + len(group.query) + 16 * len(entries) + 32)
        self._keys[_IDS].write(hash_text(query_id).to_bytes(8, "little"))
        self._keys[_QUERIES].write(text_key(group.query).to_bytes(8, "little"))

    def _check(self, group: NewGroup) -> list[Entry] | None:
        """Return the documents of a group, positives first and each once, or None where it cannot be used."""

        def report(kind: Kind, message: str) -> None:
            self.problems.add(kind, message, group.path, group.line)

        if not group.query.strip() or any(entry.key == EMPTY_KEY for entry in group.entries):
            report(Kind.empty_text, "a document is empty" if group.query.strip() else "the query is empty")
            return None
        entries = [entry if self._is_positive(entry) else entry._replace(grade=0.0) for entry in group.entries]
        positives = _distinct(sorted((e for e in entries if e.grade > 0), key=lambda entry: -entry.grade))
        if not positives:
            report(Kind.no_positive, "no document is relevant: the query is left out")
            return None
        negatives = _distinct(entry for entry in entries if entry.grade == 0)
        both = positives.keys() & negatives.keys()
        if both:
            report(Kind.positive_among_negatives, f"{len(both)} document(s) are both a positive and a negative")
        repeated = len(group.entries) - len(positives) - len(negatives)
        if repeated:
            report(Kind.repeated_document, f"{repeated} document(s) come more than once; each counts once")
        return [*positives.values(), *(entry for key, entry in negatives.items() if key not in both)]

    def _is_positive(self, entry: Entry) -> bool:
        return entry.grade > 0 and (self._positive_from is None or entry.grade >= self._positive_from)


def _distinct(entries: Iterable[Entry]) -> dict[int, Entry]:
    found: dict[int, Entry] = {}
    for entry in entries:
        found.setdefault(entry.key, entry)
    return found


def _document_key(document: Document) -> int:
    key = text_key(f"{document.title or ''} {document.text}")
    if document.image is None:
        return key
    image = document.image if isinstance(document.image, bytes) else document.image.encode("utf-8")
    return hash_bytes(key.to_bytes(8, "little") + image)


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
        self._groups = Table(folder / _GROUP_TABLE)
        self._documents = Table(folder / _DOCUMENT_TABLE)
        self._keys: Keys = map_numbers(folder / _DOCUMENTS, np.uint64)
        self._kept: npt.NDArray[np.int64] = map_numbers(folder / _KEPT, np.int64)
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

    def _positive_rows(self, index: int) -> npt.NDArray[np.int64]:
        return self.rows(index)[: self._groups.value(int(self._kept[index]), "num_positives")]

    def document(self, row: int) -> Document:
        """Return a document by its row number."""
        return document_from_row(self._documents.row(row))

    def document_keys(self, rows: npt.NDArray[np.int64]) -> Keys:
        """Return the hash of the content of each document."""
        return self._keys[rows]

    def id_keys(self) -> Keys:
        """Return a hash of each group's query id."""
        return map_numbers(self.folder / _IDS, np.uint64)[self._kept]

    def query_keys(self) -> Keys:
        """Return a hash of each group's query text."""
        return map_numbers(self.folder / _QUERIES, np.uint64)[self._kept]

    def known_positives(self, query_key: int) -> set[int]:
        """Return the hashes of all documents that are a positive of a query, by the `text_key` of its text."""
        if self._queries is None:
            keys = self.query_keys()
            order = np.argsort(keys, kind="stable")
            self._queries = keys[order], order
        keys, order = self._queries
        first, last = np.searchsorted(keys, np.uint64(query_key)), np.searchsorted(keys, np.uint64(query_key), "right")
        found = (self.document_keys(self._positive_rows(int(index))) for index in order[first:last])
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

    def has_scores(self) -> npt.NDArray[np.bool_]:
        """Return which groups have teacher scores."""
        valid = [batch.column("scores").is_valid().to_numpy(zero_copy_only=False) for batch in self._groups.batches()]
        return np.concatenate([np.zeros(0, np.bool_), *valid])[self._kept]


def _finish(folder: Path, files: list[str], problems: Problems) -> None:
    """Check what only the whole source shows, and write `store.json`."""
    ids = map_numbers(folder / _IDS, np.uint64)
    order = np.argsort(ids, kind="stable")
    repeated = np.sort(order[1:][ids[order[1:]] == ids[order[:-1]]])
    np.delete(np.arange(len(ids), dtype=np.int64), repeated).tofile(folder / _KEPT)
    groups = Table(folder / _GROUP_TABLE)
    for row in repeated:
        values = groups.row(int(row))
        message = f"the query id {values['query_id']!r} stands for another group above"
        problems.add(Kind.duplicate_id, message, files[values["file"]], values["line"])
    _write_about(folder, files, problems)
    _check_repeated_queries(GroupStore(folder), problems)
    _write_about(folder, files, problems)


def _write_about(folder: Path, files: list[str], problems: Problems) -> None:
    about = {"files": files, "problems": problems.to_dict()}
    (folder / STORE_FILE).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _check_repeated_queries(store: GroupStore, problems: Problems) -> None:
    """Report queries that several groups ask, and negatives that another of them has as a positive."""
    keys = store.query_keys()
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.append(True, keys[order][1:] != keys[order][:-1])[: len(keys)])
    sizes = np.diff(np.append(starts, len(keys)))
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        _check_one_query([store.group(int(index)) for index in order[start : start + size]], store, problems)


def _check_one_query(groups: list[StoredGroup], store: GroupStore, problems: Problems) -> None:
    positives = {int(key) for group in groups for key in store.document_keys(group.rows[: group.num_positives])}
    for number, group in enumerate(groups):
        if number:
            problems.add(Kind.repeated_query, "the same query as in another row", group.path, group.line)
        if not positives.isdisjoint(map(int, store.document_keys(group.rows[group.num_positives :]))):
            message = "a negative is a positive of the same query in another row"
            problems.add(Kind.positive_among_negatives, message, group.path, group.line)
