"""Labelled pairs: CSV, TSV, JSONL or Parquet with a query, a document and a label a row.

A label is 0 or 1, or a grade; above 0 (or from `positive_from` on) the document is relevant. Rows of one query become
one group, wherever they stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossrank.data.groups.config import SourceConfig
from crossrank.data.groups.grouping import Grouper
from crossrank.data.groups.inline import finite, first_field, query_id, read_jsonl
from crossrank.data.groups.report import BadLines
from crossrank.data.groups.store_writer import StoreWriter
from crossrank.data.records import csv_records, json_kind, parquet_records
from crossrank.data.text import display_name, read_lines
from crossrank.errors import DataError, InputError
from crossrank.types import Document

QUERY_COLUMNS = ("query", "question", "sentence1")
DOCUMENT_COLUMNS = ("document", "passage", "text", "answer", "sentence2")
LABEL_COLUMNS = ("label", "grade", "relevance", "score")
TEACHER_COLUMN = "teacher_score"
_ROLES = {"query": QUERY_COLUMNS, "document": DOCUMENT_COLUMNS, "label": LABEL_COLUMNS}


def read_pairs(source: SourceConfig, writer: StoreWriter) -> None:
    """Write the groups of a file of labelled pairs.

    Raises:
        DataError: If the file cannot be read, or a column is missing.
    """
    path = Path(source.path)
    name = display_name(path)
    grouper = Grouper(writer, name)
    for line, row in _rows(path, writer):
        try:
            query = _text(first_field(row, QUERY_COLUMNS), "the query")
            title = _text(row.get("title") or "", "the title") or None
            document = Document(_text(first_field(row, DOCUMENT_COLUMNS), "the document"), title=title)
            grade = _number(first_field(row, LABEL_COLUMNS), "the label")
            score = row.get(TEACHER_COLUMN)
            entry = writer.add_document(document)._replace(
                grade=grade, score=None if score in (None, "") else _number(score, "the teacher's score")
            )
            grouper.add(query_id(row), query, (entry,), line)
        except InputError as error:
            writer.problems.add_row(error, name, line)
    grouper.write(merge=False)


def has_pair_columns(columns: Sequence[str]) -> bool:
    """Return whether these are the columns of labelled pairs."""
    return all(any(name in columns for name in names) for names in _ROLES.values())


def _rows(path: Path, writer: StoreWriter) -> Iterator[tuple[int, Mapping[str, Any]]]:
    name = display_name(path)
    kind = Path(path.name.lower().removesuffix(".gz")).suffix

    def check(columns: list[str], line: int | None) -> None:
        for role, names in _ROLES.items():
            if not any(column in names for column in columns):
                wanted = f"no column of the {role} ({', '.join(map(repr, names))})"
                raise DataError(f"{wanted}; there are {', '.join(map(repr, columns))}", path=name, line=line)

    skipped = BadLines(problems=writer.problems)
    if kind == ".parquet":
        yield from parquet_records(path, check=check)
    elif kind in (".csv", ".tsv"):
        delimiter = "\t" if kind == ".tsv" else ","
        yield from csv_records(read_lines(path), name, check=check, delimiter=delimiter, skipped=skipped)
    else:
        yield from read_jsonl(path, writer.problems)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{what} must be a string, not {json_kind(value)}")
    return value


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise InputError(f"{what} must be a number, not {value!r}") from None
    return finite(value, what)
