"""Relevance judgements: BEIR's `query-id`, `corpus-id`, `score` with tabs, and TREC's `query 0 document grade`."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple

from crossrank.data.text import Line, display_name, read_lines
from crossrank.errors import DataError

Qrels = dict[str, dict[str, int]]

_BEIR_HEADER = ("query-id", "corpus-id", "score")


class Judgement(NamedTuple):
    """One line of a qrels file: how relevant a document is for a query, from 0 (not at all) upwards."""

    query_id: str
    document_id: str
    grade: int


def read_qrels(
    path: str | Path, *, queries: Container[str] | None = None, documents: Container[str] | None = None
) -> Qrels:
    """Return the grades by query and document, in the order of the file.

    Args:
        path: BEIR or TREC qrels; may be packed with gzip.
        queries: Where given, the ids that a line may name.
        documents: Where given, the ids that a line may name.

    Raises:
        DataError: If the file cannot be read or holds nothing; if a line is bad, has a negative grade, judges a pair
            that was judged above, or names an id that is not known.
    """
    name = display_name(path)
    qrels: Qrels = {}
    for number, judgement in read_judgements(path):
        query_id, document_id, grade = judgement
        if queries is not None and query_id not in queries:
            raise DataError(f"query {query_id!r} is not among the queries", path=name, line=number)
        if documents is not None and document_id not in documents:
            raise DataError(f"document {document_id!r} is not in the corpus", path=name, line=number)
        if document_id in qrels.setdefault(query_id, {}):
            raise DataError(f"query {query_id!r} and document {document_id!r} are judged twice", path=name, line=number)
        qrels[query_id][document_id] = grade
    if not qrels:
        raise DataError("no judgements in the file: there is nothing to evaluate on", path=name)
    return qrels


def read_judgements(path: str | Path) -> Iterator[tuple[int, Judgement]]:
    """Yield the lines of a qrels file with their numbers.

    Raises:
        DataError: If the file cannot be read, a line is bad or a grade is negative.
    """
    name = display_name(path)
    for line in read_lines(path):
        if line.error:
            raise line.error
        fields = tuple(field.strip() for field in line.text.strip().split("\t"))
        if fields == _BEIR_HEADER or not any(fields):
            continue
        yield line.number, _parse(fields, line, name)


def _parse(fields: tuple[str, ...], line: Line, name: str) -> Judgement:
    trec = line.text.split()
    if len(fields) != 3 and len(trec) == 4:
        fields = (trec[0], trec[2], trec[3])
    if len(fields) != 3 or not all(fields):
        raise DataError(
            "neither three fields with tabs (query-id, corpus-id, score) nor TREC's four (query 0 document grade)",
            path=name,
            line=line.number,
        )
    query_id, document_id, number = fields
    try:
        grade = int(number)
    except ValueError:
        raise DataError(f"the grade {number!r} is not a whole number", path=name, line=line.number) from None
    if grade < 0:
        raise DataError(
            f"the grade {grade} is negative: write 0 for a document that is not relevant", path=name, line=line.number
        )
    return Judgement(query_id, document_id, grade)
