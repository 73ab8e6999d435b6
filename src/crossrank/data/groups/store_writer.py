"""Writing the groups of one source as Arrow files, checked while they are written; `store.py` reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import numpy as np

from crossrank.data.evaluation_set import Modality
from crossrank.data.groups.images import CheckImage, ImageFiles
from crossrank.data.groups.report import Kind, Problems
from crossrank.data.groups.same_document import document_key
from crossrank.data.groups.sampling import Keys, hash_bytes, hash_text
from crossrank.data.groups.store import (
    DOCUMENT_TABLE,
    DOCUMENTS,
    GROUP_TABLE,
    IDS,
    KEPT,
    PAGES,
    QUERIES,
    STORE_FILE,
    GroupStore,
    StoredGroup,
    text_key,
)
from crossrank.data.groups.tables import Table, TableWriter, import_pyarrow, map_numbers
from crossrank.types import Document

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


class StoreWriter:
    """Writes a store; what a reader hands its documents and groups to.

    Args:
        folder: An empty folder.
        positive_from: The least grade that counts, as 1, where the others count as 0; None keeps all grades.
        modality: What is kept of a document that has a text and an image; both where None.
        document_field: Which field says which document a page belongs to; the usual ones where None.
        check_image: Decodes an image once; without it only its file must be there.
        on_progress: Called with the number of documents that were written since the last call.

    Attributes:
        problems: What was wrong.
        images: Finds the images of rows.
    """

    def __init__(
        self,
        folder: Path,
        *,
        positive_from: float | None = None,
        modality: Modality | None = None,
        document_field: str | None = None,
        check_image: CheckImage | None = None,
        on_progress: OnProgress | None = None,
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
        self._modality = modality
        self._document_field = document_field
        self._on_progress = on_progress
        self._files: dict[str, int] = {}
        self._stack = ExitStack()
        self._documents = self._table(DOCUMENT_TABLE, documents)
        self._groups = self._table(GROUP_TABLE, groups)
        self._keys = {name: self._open(name) for name in (IDS, QUERIES, DOCUMENTS, PAGES)}
        self.images = self._stack.enter_context(ImageFiles(folder, check_image))

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
        """Write a document, whose image is one that `images` has found; return it as an entry of grade 0.

        Of its metadata, only which document it is a page of is kept.
        """
        document = _seen_as(document, self._modality)
        key, image = self._content_key(document), document.image
        path, data = (None, image) if isinstance(image, bytes) else (image, None)
        size = len(document.text) + len(document.title or "") + len(image or "") + 32
        row = self._documents.add((document.text, document.title, document.id, path, data), size=size)
        self._keys[DOCUMENTS].write(key.to_bytes(8, "little"))
        self._keys[PAGES].write(document_key(document, self._document_field).to_bytes(8, "little"))
        if self._on_progress and row % _PROGRESS_STEP == _PROGRESS_STEP - 1:
            self._on_progress(_PROGRESS_STEP)
        return Entry(row, key, 0.0)

    def finish_documents(self) -> tuple[Table, Keys]:
        """Return all documents and the hashes of their contents; none can be added after this."""
        self._documents.close()
        self._keys[DOCUMENTS].close()
        return Table(self._folder / DOCUMENT_TABLE), map_numbers(self._folder / DOCUMENTS, np.uint64)

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
        self._keys[IDS].write(hash_text(query_id).to_bytes(8, "little"))
        self._keys[QUERIES].write(text_key(group.query).to_bytes(8, "little"))

    def _check(self, group: NewGroup) -> list[Entry] | None:
        """Return the documents of a group, positives first and each once, or None where it cannot be used."""

        def report(kind: Kind, message: str) -> None:
            self.problems.add(kind, message, group.path, group.line)

        if not group.query.strip() or any(entry.key == EMPTY_KEY for entry in group.entries):
            report(Kind.empty_text, "a document is empty" if group.query.strip() else "the query is empty")
            return None
        entries = [entry._replace(grade=self._label(entry.grade)) for entry in group.entries]
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

    def _content_key(self, document: Document) -> int:
        key = text_key(f"{document.title or ''} {document.text}")
        if document.image is None:
            return key
        return hash_bytes(key.to_bytes(8, "little") + self.images.content_key(document.image).to_bytes(8, "little"))

    def _label(self, grade: float) -> float:
        return max(grade, 0.0) if self._positive_from is None else float(grade >= self._positive_from)


def _distinct(entries: Iterable[Entry]) -> dict[int, Entry]:
    found: dict[int, Entry] = {}
    for entry in entries:
        found.setdefault(entry.key, entry)
    return found


def _seen_as(document: Document, modality: Modality | None) -> Document:
    if modality == "text":
        return replace(document, image=None)
    return replace(document, text="", title=None) if modality == "image" else document


def _finish(folder: Path, files: list[str], problems: Problems) -> None:
    """Check what only the whole source shows, and write `store.json`."""
    ids = map_numbers(folder / IDS, np.uint64)
    order = np.argsort(ids, kind="stable")
    repeated = np.sort(order[1:][ids[order[1:]] == ids[order[:-1]]])
    np.delete(np.arange(len(ids), dtype=np.int64), repeated).tofile(folder / KEPT)
    groups = Table(folder / GROUP_TABLE)
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
