"""BEIR collections: `queries.jsonl`, `corpus.jsonl` read by id without holding it in memory, and the whole folder."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from crossrank.data.evaluation_set import EvaluationSet, Modality
from crossrank.data.pages import attach_images, named_image
from crossrank.data.qrels import read_qrels
from crossrank.data.records import document_from_record, parse_object, read_json_objects, record_id
from crossrank.data.text import (
    SkippedLines,
    decode_lines,
    display_name,
    open_binary,
    read_lines,
    reading,
    skip_or_raise,
)
from crossrank.errors import DataError, InputError
from crossrank.types import Document

# What is evaluated on where nobody says; never the training split.
USUAL_SPLITS = ("test", "dev", "validation")
# Collections whose queries are documents of the corpus, too; known by their names, as in BEIR's and mteb's own readers.
_QUERIES_ARE_DOCUMENTS = ("arguana", "quora")


def read_queries(path: str | Path, *, skipped: SkippedLines | None = None) -> dict[str, str]:
    """Return the queries of a `queries.jsonl` by id, in the order of the file.

    Args:
        path: JSON lines with `_id` (or `id`) and `text`; may be packed with gzip.
        skipped: Bad lines are counted here and left out. Without it the first one is an error.

    Raises:
        DataError: If the file cannot be read, a line is bad, or one id stands for two texts.
    """
    name = display_name(path)
    queries: dict[str, str] = {}
    for line, record in read_json_objects(read_lines(path), name, skipped):
        try:
            query = document_from_record(record)
            if query.id is None:
                raise InputError("no '_id'")
            if queries.setdefault(query.id, query.text) != query.text:
                raise InputError(f"the id {query.id!r} stands for another query above")
        except InputError as error:
            skip_or_raise(DataError(str(error), path=name, line=line.number), skipped)
    return queries


class Corpus:
    """The documents of a `corpus.jsonl`, each read from the file when it is asked for.

    In memory it takes 16 bytes a document, a hash of the id and the place in the file; the ids themselves are
    compared in the file, so two ids with one hash are told apart. Not safe to call from several threads.

    Attributes:
        modality: What there is to read of the documents; some may have text alone, or an image alone.
    """

    def __init__(
        self,
        stream: IO[bytes],
        name: str,
        hashes: npt.NDArray[np.uint64],
        offsets: npt.NDArray[np.int64],
        modality: Modality,
    ) -> None:
        self.modality = modality
        self._stream = stream
        self._name = name
        self._hashes = hashes
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._hashes)

    def get(self, document_id: str) -> Document | None:
        """Return the document with this id, or None where there is none."""
        key = _hash(document_id)
        at = int(np.searchsorted(self._hashes, np.uint64(key)))
        while at < len(self._hashes) and self._hashes[at] == key:
            document = self._read(int(self._offsets[at]))
            if document.id == document_id:
                return document
            at += 1
        return None

    def __contains__(self, document_id: object) -> bool:
        return isinstance(document_id, str) and self.get(document_id) is not None

    def __iter__(self) -> Iterator[Document]:
        """Yield every document, in the order of the file."""
        for offset in self._places:
            yield self._read(int(offset))

    def at(self, row: int) -> Document:
        """Return a document by its place in the file, counted from 0."""
        return self._read(int(self._places[row]))

    @cached_property
    def _places(self) -> npt.NDArray[np.int64]:
        return np.sort(self._offsets)

    def _read(self, offset: int) -> Document:
        self._stream.seek(offset)
        return document_from_record(parse_object(self._stream.readline().decode("utf-8").removeprefix("\ufeff")))

    def check_unique(self, *, allow_same: bool = True) -> None:
        """Check that no id stands for two documents.

        Args:
            allow_same: Whether one document may be there twice; not where the corpus is searched: both are found.

        Raises:
            DataError: If one does; names the line of the later one.
        """
        for at in np.flatnonzero(self._hashes[1:] == self._hashes[:-1]):
            first, second = int(self._offsets[at]), int(self._offsets[at + 1])
            document, other = self._read(first), self._read(second)
            if document.id == other.id and not (allow_same and document == other):
                what = "comes twice" if document == other else "stands for another document above"
                raise DataError(f"the id {other.id!r} {what}", path=self._name, line=self._line(second))

    def _line(self, offset: int) -> int:
        self._stream.seek(0)
        number = 1
        while offset > 0:
            block = self._stream.read(min(offset, 1 << 20))
            number += block.count(b"\n")
            offset -= len(block)
        return number


@contextmanager
def open_corpus(path: str | Path, *, skipped: SkippedLines | None = None) -> Iterator[Corpus]:
    """Open a `corpus.jsonl` for reading by id; every line of it is read once and checked.

    A packed file (`.gz`) is unpacked into a temporary file, in the folder that `TMPDIR` names.

    Args:
        path: JSON lines with `_id` (or `id`), `text` and maybe `title`.
        skipped: Bad lines are counted here and left out. Without it the first one is an error.

    Raises:
        DataError: If the file cannot be read, a line is bad, or one id stands for two different documents.
    """
    name = display_name(path)
    with ExitStack() as stack:
        stream = stack.enter_context(open_binary(path))
        if str(path).lower().endswith(".gz"):
            packed, stream = stream, stack.enter_context(tempfile.TemporaryFile())
            with reading(name):
                shutil.copyfileobj(packed, stream, 1 << 20)
            stream.seek(0)
        corpus = Corpus(stream, name, *_index(stream, name, skipped))
        corpus.check_unique()
        yield corpus


@contextmanager
def open_beir(folder: str | Path, *, split: str | None = None, name: str | None = None) -> Iterator[EvaluationSet]:
    """Open a BEIR folder: `queries.jsonl`, `corpus.jsonl` (either may end in `.gz`) and `qrels/SPLIT.tsv`.

    An `image` of a document is a path in the folder.

    Args:
        folder: The folder.
        split: Which judgements; if None, those of test, else dev, else validation.
        name: For tables; the name of the folder if None.

    Raises:
        DataError: If a file is missing, empty or bad, the split has no relevant document, or a judgement names an
            unknown query or document.
    """
    files = find_beir(folder, split=split)
    queries = read_queries(files.queries)
    if not queries:
        raise DataError("no queries in the file", path=files.queries)
    with open_corpus(files.corpus) as corpus:
        if not len(corpus):
            raise DataError("no documents in the file", path=files.corpus)
        corpus.check_unique(allow_same=False)
        qrels = read_qrels(files.qrels, queries=queries, documents=corpus)
        if not any(grade for grades in qrels.values() for grade in grades.values()):
            raise DataError("no document is judged relevant: there is nothing to evaluate on", path=files.qrels)
        found_set = EvaluationSet(
            name or Path(folder).resolve().name,
            queries,
            corpus,
            qrels,
            split=files.split,
            modality=corpus.modality,
            queries_are_documents=queries_are_documents(str(name or ""), Path(folder).resolve().name),
            fingerprint=_fingerprint(files.queries, files.corpus),
        )
        yield found_set if corpus.modality == "text" else _with_images(found_set, Path(folder))


def queries_are_documents(*names: str) -> bool:
    """Return whether one of the names of a set says that its queries are documents, and must not find themselves."""
    return any(known in name.lower() for known in _QUERIES_ARE_DOCUMENTS for name in names)


class BeirFiles(NamedTuple):
    """The files of one split."""

    split: str
    queries: Path
    corpus: Path
    qrels: Path


def find_beir(folder: str | Path, *, split: str | None = None) -> BeirFiles:
    """Return the files of a BEIR folder; none is read.

    Args:
        folder: The folder.
        split: Which judgements; if None, those of test, else dev, else validation.

    Raises:
        DataError: If one of them is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError("no such folder", path=folder)
    found = sorted(path.name.removesuffix(".gz").removesuffix(".tsv") for path in folder.glob("qrels/*.tsv*"))
    split = split or next((usual for usual in USUAL_SPLITS if usual in found), USUAL_SPLITS[0])
    qrels = _find(folder / "qrels", f"{split}.tsv")
    if qrels is None:
        hint = f"there are {', '.join(found)}" if found else "a BEIR folder has qrels/SPLIT.tsv"
        raise DataError(f"no split {split!r}: {hint}", path=folder)
    return BeirFiles(split, _find_or_raise(folder, "queries.jsonl"), _find_or_raise(folder, "corpus.jsonl"), qrels)


def _with_images(data: EvaluationSet, folder: Path) -> EvaluationSet:
    """Return the set with the images of its documents: their content is part of what the set is known by."""
    digest = hashlib.sha256()
    for document in data.corpus:
        named = named_image(document)
        if named is not None and not named.startswith("data:"):
            with suppress(OSError, ValueError):  # whatever reads the image says what is wrong with it
                digest.update(_digest(folder / named).encode("ascii"))
            digest.update(b"\n")
    fingerprint = f"{data.fingerprint}, images {digest.hexdigest()[:16]}"
    return replace(data, corpus=attach_images(data.corpus, folder), fingerprint=fingerprint)


def _fingerprint(*files: Path) -> str:
    """What files hold: a copy of them is the same data. The day of a file says less, and reading it costs little."""
    return ", ".join(f"{file.name} {_digest(file)}" for file in files)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _find_or_raise(folder: Path, name: str) -> Path:
    found = _find(folder, name)
    if found is None:
        raise DataError(f"no such file, and no {name}.gz", path=folder / name)
    return found


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _index(
    stream: IO[bytes], name: str, skipped: SkippedLines | None
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], Modality]:
    hashes, offsets = array("Q"), array("q")
    has_images = has_text = False
    for line, record in read_json_objects(decode_lines(stream, name), name, skipped):
        try:
            document = document_from_record(record)
            document_id = record_id(record)
            if document_id is None:
                raise InputError("no '_id'")
        except InputError as error:
            skip_or_raise(DataError(str(error), path=name, line=line.number), skipped)
            continue
        has_images |= named_image(document) is not None
        has_text |= bool(document.text)
        hashes.append(_hash(document_id))
        offsets.append(line.offset)
    keys = np.frombuffer(hashes, np.uint64) if hashes else np.zeros(0, np.uint64)
    places = np.frombuffer(offsets, np.int64) if offsets else np.zeros(0, np.int64)
    order = np.argsort(keys, kind="stable")
    return keys[order], places[order], ("image+text" if has_text else "image") if has_images else "text"


def _hash(document_id: str) -> int:
    return hash(document_id) & 0xFFFF_FFFF_FFFF_FFFF
