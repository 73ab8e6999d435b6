"""NeMo AutoModel's corpus-ID format: a JSON file whose rows name documents of corpus folders.

    {"corpus": [{"path": "wiki_corpus"}],
     "data": [{"question_id": "q1", "question": "...", "corpus_id": "wiki",
               "pos_doc": [{"id": "d1"}], "neg_doc": ["d2"]}]}

A corpus folder holds `merlin_metadata.json` (`{"class": "TextQADataset", "corpus_id": "wiki"}`) and its documents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossrank.data.groups.config import SourceConfig
from crossrank.data.groups.corpus_index import CorpusIndex
from crossrank.data.groups.inline import ID_KEYS, QUERY_KEYS, finite, first_field, query_id, read_rows
from crossrank.data.groups.store_writer import Entry, NewGroup, StoreWriter
from crossrank.data.json_stream import stream_json
from crossrank.data.records import json_kind, record_id
from crossrank.data.text import display_name, reading
from crossrank.errors import DataError, InputError
from crossrank.types import Document

METADATA_FILE = "merlin_metadata.json"
# Of each class of corpus: the columns that hold the id, the text and the image.
_CLASSES = {
    "TextQADataset": ("id", "text", None),
    "WikiSSNQDataset": ("docid", "text", "image"),
    "ColPaliDataset": ("image_filename", "nr_ocr", "image"),
}
_KINDS = (".parquet", ".jsonl", ".jsonl.gz")


def read_corpus_id_groups(source: SourceConfig, writer: StoreWriter) -> None:
    """Write the groups of a corpus-ID file.

    Raises:
        DataError: If the file, a corpus folder or its metadata cannot be read.
    """
    path = Path(source.path)
    name = display_name(path)
    corpora = read_corpora(path, writer)
    for key, line, row in stream_json(path):
        if key != "data":
            continue
        try:
            writer.add_group(_group(row, name, line, corpora))
        except InputError as error:
            writer.problems.add_row(error, name, line)


def corpus_folders(path: Path) -> list[Path]:
    """Return the corpus folders that a corpus-ID file names, relative to where it stands.

    Raises:
        DataError: If it names none, or one that is not there.
    """
    name = display_name(path)
    folders: list[Path] = []
    for key, line, value in stream_json(path):
        if key != "corpus":
            if folders:
                break
            continue
        reference = value.get("path") if isinstance(value, dict) else value
        if not isinstance(reference, str):
            raise DataError("a 'corpus' is an object with a 'path'", path=name, line=line)
        folders.append(path.parent / reference)
        if not folders[-1].is_dir():
            raise DataError(f"no corpus folder {folders[-1]}", path=name, line=line)
    if not folders:
        raise DataError("no 'corpus' in the file", path=name)
    return folders


def corpus_files(folder: Path) -> list[Path]:
    """Return the files that hold the documents of a corpus folder: those named `train`, or all where none is.

    Raises:
        DataError: If there are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.name.lower().endswith(_KINDS))
    found = [path for path in found if path.name.startswith("train")] or found
    if not found:
        raise DataError(f"no documents in this corpus folder ({', '.join(_KINDS)})", path=folder)
    return found


def read_corpora(path: Path, writer: StoreWriter) -> dict[str, CorpusIndex]:
    """Write the documents of all corpus folders of a corpus-ID file, and return the corpora by their ids.

    Raises:
        DataError: If a folder or its metadata cannot be read, or one id stands for two folders.
    """
    corpora: dict[str, CorpusIndex] = {}
    places: dict[str, Path] = {}
    for folder in corpus_folders(path):
        metadata = _read_metadata(folder)
        corpus_id = metadata["corpus_id"]
        if places.setdefault(corpus_id, folder.resolve()) != folder.resolve():
            raise DataError(f"the corpus_id {corpus_id!r} stands for {places[corpus_id]} too", path=folder)
        if corpus_id not in corpora:
            corpora[corpus_id] = CorpusIndex(writer, display_name(folder))
            for file in corpus_files(folder):
                _add_documents(file, metadata["class"], corpora[corpus_id], writer)
    for corpus in corpora.values():
        corpus.finish()
    return corpora


def _read_metadata(folder: Path) -> dict[str, str]:
    file = folder / METADATA_FILE
    with reading(display_name(file)):
        text = file.read_text(encoding="utf-8")
    try:
        metadata = json.loads(text)
    except ValueError as error:
        raise DataError(f"malformed JSON: {error}", path=file) from error
    if not isinstance(metadata, dict) or not isinstance(metadata.get("corpus_id"), str):
        raise DataError("no 'corpus_id' in the metadata of the corpus", path=file)
    metadata.setdefault("class", "TextQADataset")
    if metadata["class"] not in _CLASSES:
        raise DataError(f"unknown class {metadata['class']!r}; known are {', '.join(_CLASSES)}", path=file)
    return metadata


def _add_documents(file: Path, kind: str, corpus: CorpusIndex, writer: StoreWriter) -> None:
    id_column, text_column, image_column = _CLASSES[kind]
    name = display_name(file)
    for line, row in read_rows(file, writer.problems):
        try:
            text = row.get(text_column)
            image = (
                writer.images.find(row[image_column], file.parent) if image_column and row.get(image_column) else None
            )
            if not isinstance(text, str) and image is None:
                raise InputError(f"{text_column!r} must be a string, not {json_kind(text)}")
            title = row.get("title") or None
            document_id = record_id({"id": row.get(id_column)})
            corpus.add(Document(text or "", title=title, id=document_id, metadata=row, image=image), line)
        except InputError as error:
            writer.problems.add_row(error, name, line)


def group_of_ids(row: Mapping[str, Any], corpus: CorpusIndex, path: str, line: int) -> NewGroup:
    """Return the group that a row describes by the ids of its documents.

    Raises:
        InputError: If a field is missing or of a wrong kind; an `UnknownId` if the corpus lacks a document.
    """
    query = first_field(row, QUERY_KEYS)
    if not isinstance(query, str):
        raise InputError(f"the query must be a string, not {json_kind(query)}")
    positives = _entries(first_field(row, ("pos_doc",)), corpus)
    if not positives:
        raise InputError("there is no positive")
    negatives = _entries(row.get("neg_doc") or [], corpus)
    entries = (*(entry._replace(grade=1.0) for entry in positives), *negatives)
    return NewGroup(query_id(row), query, entries, path, line)


def _group(row: Any, path: str, line: int, corpora: Mapping[str, CorpusIndex]) -> NewGroup:
    if not isinstance(row, dict):
        raise InputError(f"expected a JSON object, found {json_kind(row)}")
    for required in (ID_KEYS, ("corpus_id",), ("neg_doc",)):
        first_field(row, required)
    corpus = corpora.get(row["corpus_id"])
    if corpus is None:
        raise InputError(f"unknown corpus_id {row['corpus_id']!r}; known are {', '.join(map(repr, corpora))}")
    return group_of_ids(row, corpus, path, line)


def _entries(value: Any, corpus: CorpusIndex) -> list[Entry]:
    return [_entry(reference, corpus) for reference in (value if isinstance(value, list) else [value])]


def _entry(reference: Any, corpus: CorpusIndex) -> Entry:
    document_id = record_id(reference if isinstance(reference, dict) else {"id": reference})
    if document_id is None:
        raise InputError("a document is an id, or an object with an 'id'")
    score = reference.get("score") if isinstance(reference, dict) else None
    return corpus.entry(document_id)._replace(score=None if score is None else finite(score, "a score"))
