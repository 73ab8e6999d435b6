"""Graded pairs: the folder that an assessor's labels make, and grades read from whatever holds them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossrank.data.new_folder import check_id, new_folder
from crossrank.data.qrels import read_judgements
from crossrank.data.records import csv_records, read_json_objects
from crossrank.data.text import display_name, read_lines
from crossrank.errors import DataError
from crossrank.types import Document

LABELS_FILE = "labels.jsonl"
_COLUMNS = {
    "query": ("query_id", "query-id", "qid"),
    "document": ("document_id", "corpus-id", "doc_id", "docid"),
    "grade": ("label", "grade", "relevance", "score"),
}

Grades = dict[tuple[str, str], int]


@dataclass(frozen=True)
class GradedPair:
    """A query, a document, and how relevant an assessor found it.

    Attributes:
        query_id: In `queries.jsonl` and `qrels`.
        query: The text.
        document: With its id in the corpus.
        grade: From 0 (not at all) to 3 (exactly, and completely).
        reason: In the assessor's words; empty where it gives none.
        teacher_score: The probability of a cross-encoder, or None.
    """

    query_id: str
    query: str
    document: Document
    grade: int
    reason: str = ""
    teacher_score: float | None = None


def write_grades(folder: Path, pairs: Iterable[GradedPair], *, split: str, report: Mapping[str, Any]) -> None:
    """Write graded pairs into a new folder, which appears when it is complete.

    `labels.jsonl` has every pair with its texts: labelled pairs for training. `queries.jsonl` and `qrels/SPLIT.tsv`
    are in BEIR's layout, grade 0 included: with a corpus beside them they are evaluated on. `report.json` is the
    report.

    Args:
        folder: Must not exist yet, or be empty.
        pairs: In any order; those of a query are written together.
        split: Names the file of judgements.
        report: Written as it is.

    Raises:
        InputError: If the folder holds something, or an id cannot stand in qrels.
        OSError: If it cannot be written.
    """
    by_query: dict[str, list[GradedPair]] = {}
    for pair in pairs:
        by_query.setdefault(pair.query_id, []).append(pair)
        for part in (pair.query_id, str(pair.document.id)):
            check_id(part)
    with new_folder(folder) as fresh:
        (fresh / "qrels").mkdir()
        ordered = [pair for listed in by_query.values() for pair in listed]
        _write_lines(fresh / LABELS_FILE, map(_row, ordered))
        queries = ({"_id": query_id, "text": listed[0].query} for query_id, listed in by_query.items())
        _write_lines(fresh / "queries.jsonl", queries)
        judgements = (f"{pair.query_id}\t{pair.document.id}\t{pair.grade}\n" for pair in ordered)
        (fresh / "qrels" / f"{split}.tsv").write_text(
            "query-id\tcorpus-id\tscore\n" + "".join(judgements), encoding="utf-8"
        )
        (fresh / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def read_grades(path: Path) -> Grades:
    """Return the grades by query and document id.

    Args:
        path: A folder with `labels.jsonl`; JSONL, CSV or TSV with a query id, a document id and a grade a row (as in
            `query_id`, `document_id`, `label`; the names of BEIR's qrels do as well); or TREC qrels.

    Raises:
        DataError: If the file cannot be read or holds nothing; if a row is bad or judges a pair again.
    """
    if path.is_dir():
        path = path / LABELS_FILE
    name = display_name(path)
    grades: Grades = {}
    for number, query_id, document_id, grade in _read(path, name):
        if (query_id, document_id) in grades:
            raise DataError(f"query {query_id!r} and document {document_id!r} are judged twice", path=name, line=number)
        grades[query_id, document_id] = grade
    if not grades:
        raise DataError("no labels in the file", path=name)
    return grades


def _read(path: Path, name: str) -> Iterator[tuple[int, str, str, int]]:
    kind = path.name.lower().removesuffix(".gz")
    if kind.endswith((".jsonl", ".ndjson")):
        for line, record in read_json_objects(read_lines(path), name, None):
            yield line.number, *_fields(record, name, line.number)
    elif kind.endswith((".csv", ".tsv")):

        def check(columns: list[str], line: int | None) -> None:
            _fields(dict.fromkeys(columns, "0"), name, line)

        delimiter = "\t" if kind.endswith(".tsv") else ","
        for number, row in csv_records(read_lines(path), name, check=check, delimiter=delimiter):
            yield number, *_fields(row, name, number)
    else:
        for number, judgement in read_judgements(path):
            yield number, *judgement


def _fields(row: Mapping[str, Any], name: str, line: int | None) -> tuple[str, str, int]:
    found = []
    for what, columns in _COLUMNS.items():
        value = next((row[column] for column in columns if row.get(column) not in (None, "")), None)
        if value is None:
            wanted = " or ".join(map(repr, columns))
            raise DataError(f"no {what} under {wanted}, only {', '.join(map(repr, row))}", path=name, line=line)
        found.append(str(value).strip())
    query_id, document_id, number = found
    try:
        grade = float(number)
    except ValueError:
        grade = -1.0
    if grade < 0 or not grade.is_integer():
        raise DataError(f"the grade {number!r} is not a whole number of at least 0", path=name, line=line)
    return query_id, document_id, int(grade)


def _row(pair: GradedPair) -> dict[str, Any]:
    document = pair.document
    row = {"query_id": pair.query_id, "query": pair.query, "document_id": document.id, "label": pair.grade}
    optional = {"reason": pair.reason, "teacher_score": pair.teacher_score, "title": document.title}
    return (
        row | {key: value for key, value in optional.items() if value not in (None, "")} | {"document": document.text}
    )


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
