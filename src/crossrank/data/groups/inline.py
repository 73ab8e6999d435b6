"""Groups that hold their texts: JSON lines, a JSON list, `{"data": [...]}` or Parquet, one group a row.

    {"query": "...", "positives": ["..."], "negatives": ["...", {"text": "...", "title": "..."}]}
    {"query": "...", "positives": [{"text": "...", "image": "page.png", "score": 9.1}], "negatives": []}
    {"query": "...", "documents": ["...", "..."], "scores": [8.2, -3.0], "labels": [1, 0]}

The field names of NeMo AutoModel (`question`, `pos_doc`, `neg_doc`, `question_id`) are taken too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crossrank.data.groups.config import SourceConfig
from crossrank.data.groups.report import BadLines, Kind, Problems
from crossrank.data.groups.store_writer import Entry, NewGroup, StoreWriter
from crossrank.data.json_stream import stream_json
from crossrank.data.records import ID_KEYS as RECORD_ID_KEYS
from crossrank.data.records import document_from_record, json_kind, parquet_records, read_json_objects, record_id
from crossrank.data.text import display_name, read_lines
from crossrank.errors import InputError
from crossrank.types import Document

QUERY_KEYS = ("query", "question")
ID_KEYS = ("query_id", "question_id", "qid")
POSITIVE_KEYS = ("positives", "positive", "pos_doc", "pos")
NEGATIVE_KEYS = ("negatives", "negative", "neg_doc", "neg")


def read_inline_groups(source: SourceConfig, writer: StoreWriter) -> None:
    """Write the groups of a file whose rows hold their texts.

    Raises:
        DataError: If the file cannot be read.
    """
    path = Path(source.path)
    name = display_name(path)
    for line, row in read_rows(path, writer.problems):
        try:
            writer.add_group(_group(row, name, line, writer))
        except InputError as error:
            writer.problems.add_row(error, name, line)


def read_rows(path: Path, problems: Problems) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the rows of JSON lines, of a JSON list or of Parquet, each with its line (in Parquet: its number).

    Raises:
        DataError: If the file cannot be read, or is one JSON value and broken.
    """
    name = display_name(path)
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    if kind == ".parquet":
        yield from parquet_records(path, check=lambda columns, line: None)
    elif kind == ".json":
        for key, line, row in stream_json(path):
            if key not in (None, "data"):
                continue
            if isinstance(row, dict):
                yield line, row
            else:
                problems.add(Kind.malformed, f"expected a JSON object, found {json_kind(row)}", name, line)
    else:
        yield from read_jsonl(path, problems)


def read_jsonl(path: Path, problems: Problems) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the objects of JSON lines, each with its line; bad lines are reported.

    Raises:
        DataError: If the file cannot be read.
    """
    for line, row in read_json_objects(read_lines(path), display_name(path), BadLines(problems=problems)):
        yield line.number, row


def _group(row: Mapping[str, Any], path: str, line: int, writer: StoreWriter) -> NewGroup:
    query = first_field(row, QUERY_KEYS)
    if not isinstance(query, str):
        raise InputError(f"the query must be a string, not {json_kind(query)}")
    if "documents" in row:
        entries = _judged_entries(row, path, writer)
    else:
        positives = _entries(first_field(row, POSITIVE_KEYS), path, writer)
        if not positives:
            raise InputError("there is no positive")
        negatives = _entries(first_field(row, NEGATIVE_KEYS), path, writer)
        entries = [*(entry._replace(grade=1.0) for entry in positives), *negatives]
    return NewGroup(query_id(row, (*ID_KEYS, *RECORD_ID_KEYS)), query, tuple(entries), path, line)


def first_field(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the value of the first field that is there.

    Raises:
        InputError: If none is.
    """
    for name in names:
        if name in row:
            return row[name]
    raise InputError(f"no {names[0]!r} among the fields ({', '.join(map(repr, row)) or 'there are none'})")


def query_id(row: Mapping[str, Any], names: Sequence[str] = ID_KEYS) -> str | None:
    """Return the key of a row's query, or None where it has none.

    Raises:
        InputError: If it is neither a string nor a whole number.
    """
    return record_id({"id": next((row[key] for key in names if key in row), None)})


def finite(value: Any, what: str) -> float:
    """Return a number.

    Raises:
        InputError: If it is none, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{what} must be a finite number, not {value!r}")
    return float(value)


def _judged_entries(row: Mapping[str, Any], path: str, writer: StoreWriter) -> list[Entry]:
    """Return the entries of a row with `documents` and `labels`, `scores` or both; the best score is the positive."""
    entries = _entries(row["documents"], path, writer)
    for name in ("labels", "scores"):
        if name in row and (not isinstance(row[name], list) or len(row[name]) != len(entries)):
            raise InputError(f"{name!r} must be a list of one number a document, {len(entries)} in all")
    if "scores" in row:
        scores = [finite(value, "a score") for value in row["scores"]]
        entries = [entry._replace(score=score) for entry, score in zip(entries, scores, strict=True)]
    if "labels" in row:
        grades = [finite(value, "a label") for value in row["labels"]]
        return [entry._replace(grade=grade) for entry, grade in zip(entries, grades, strict=True)]
    if not entries or any(entry.score is None for entry in entries):
        raise InputError("'documents' need 'labels', or 'scores', or both")
    ordered = sorted(entries, key=lambda entry: -(entry.score or 0.0))
    return [ordered[0]._replace(grade=1.0), *ordered[1:]]


def _entries(value: Any, path: str, writer: StoreWriter) -> list[Entry]:
    documents = value if isinstance(value, list) else [value]
    return [_entry(document, path, writer) for document in documents]


def _entry(value: Any, path: str, writer: StoreWriter) -> Entry:
    if isinstance(value, str):
        return writer.add_document(Document(value))
    if not isinstance(value, dict):
        raise InputError(f"a document must be a string or an object, not {json_kind(value)}")
    image = writer.images.find(value["image"], Path(path).parent) if value.get("image") else None
    document = document_from_record({"text": "", **value} if image else value)
    score = None if value.get("score") is None else finite(value["score"], "a score")
    return writer.add_document(replace(document, image=image))._replace(score=score)
