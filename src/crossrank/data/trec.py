"""TREC runs: `query Q0 document rank score tag`, one line a candidate, read and written query by query."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from crossrank.data.text import Line, SkippedLines, display_name, read_lines, skip_or_raise
from crossrank.errors import DataError, InputError


class Candidate(NamedTuple):
    """A document of a run, and its score there."""

    document_id: str
    score: float


@dataclass(frozen=True)
class RunQuery:
    """The candidates of one query.

    Attributes:
        query_id: The first field of its lines.
        candidates: In the order of the file.
        lines: The line of each candidate, counted from 1.
    """

    query_id: str
    candidates: tuple[Candidate, ...]
    lines: tuple[int, ...]


def read_run(path: str | Path, *, skipped: SkippedLines | None = None) -> Iterator[RunQuery]:
    """Yield the queries of a run, one at a time; the lines of a query stand together.

    Args:
        path: The run; may be packed with gzip.
        skipped: Bad lines are counted here and left out. Without it the first one is an error.

    Raises:
        DataError: If the file cannot be read, a line is bad, or a query comes back after another one.
    """
    return group_run(read_lines(path), display_name(path), skipped=skipped)


def group_run(lines: Iterable[Line], name: str, *, skipped: SkippedLines | None = None) -> Iterator[RunQuery]:
    """Yield the queries of the lines of a run.

    Raises:
        DataError: If a line is bad (without `skipped`), or a query comes back after another one.
    """
    finished: set[str] = set()
    query_id: str | None = None
    candidates: dict[str, tuple[float, int]] = {}
    for line in lines:
        try:
            fields = _parse(line, name)
            if fields is None:
                continue
            if fields[0] == query_id and fields[1] in candidates:
                raise DataError(f"query {query_id!r} has {fields[1]!r} twice", path=name, line=line.number)
        except DataError as error:
            skip_or_raise(error, skipped)
            continue
        if fields[0] != query_id:
            if query_id is not None:
                yield _query(query_id, candidates)
                finished.add(query_id)
            query_id, candidates = fields[0], {}
            if query_id in finished:
                raise DataError(
                    f"query {query_id!r} comes back after others: sort the run by query", path=name, line=line.number
                )
        candidates[fields[1]] = (fields[2], line.number)
    if query_id is not None:
        yield _query(query_id, candidates)


def format_run(query_id: str, candidates: Iterable[Candidate], *, tag: str = "crossrank") -> str:
    """Return the lines of one query, best first: score descending, equal scores in the order given; ranks from 1.

    A score is written so that it is read back unchanged.

    Raises:
        InputError: If an id or the tag is empty or holds white space, or a score is not finite.
    """
    ordered = sorted(candidates, key=lambda candidate: -candidate.score)
    for field in (query_id, tag, *(candidate.document_id for candidate in ordered)):
        if field.split() != [field]:
            raise InputError(
                f"{field!r} cannot stand in a TREC run: give an id that is not empty and has no white space"
            )
    lines = []
    for rank, (document_id, score) in enumerate(ordered, start=1):
        if not math.isfinite(score):
            raise InputError(f"query {query_id!r}, document {document_id!r}: the score is {score}")
        lines.append(f"{query_id} Q0 {document_id} {rank} {float(score)!r} {tag}\n")
    return "".join(lines)


def _query(query_id: str, candidates: dict[str, tuple[float, int]]) -> RunQuery:
    scores = (Candidate(document_id, score) for document_id, (score, _) in candidates.items())
    return RunQuery(query_id, tuple(scores), tuple(line for _, line in candidates.values()))


def _parse(line: Line, name: str) -> tuple[str, str, float] | None:
    if line.error:
        raise line.error
    fields = line.text.split()
    if not fields:
        return None
    if len(fields) != 6:
        raise DataError(
            f"{len(fields)} fields where a TREC run has 6 (query Q0 document rank score tag)",
            path=name,
            line=line.number,
        )
    query_id, _, document_id, rank, number, _ = fields
    try:
        int(rank)
        score = float(number)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        problem = f"the rank must be a whole number and the score a finite one, not {rank!r} and {number!r}"
        raise DataError(problem, path=name, line=line.number)
    return query_id, document_id, score
