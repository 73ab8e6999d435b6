"""What is wrong in training data: problems with file and line, counted by kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from crossrank.data.text import SkippedLines
from crossrank.errors import DataError, InputError

# Of each kind this many problems are kept to be shown; all are counted.
MAX_KEPT_PROBLEMS = 10


class Kind(StrEnum):
    """Kinds of problems."""

    malformed = "malformed row"
    missing_id = "missing id"
    duplicate_id = "duplicate id"
    no_positive = "no positive"
    positive_among_negatives = "positive among the negatives"
    empty_text = "empty text"
    unreadable_image = "unreadable image"
    no_document = "no document of pages"
    unknown_document = "page of an unknown document"
    too_few_negatives = "too few negatives"
    no_group = "no group"
    leakage = "train query in dev"
    lost_scores = "teacher scores lost by filling up"
    repeated_query = "repeated query"
    repeated_document = "repeated document"
    shared_positive = "positive in train and dev"
    too_few_groups = "fewer groups than num_samples"

    @property
    def is_error(self) -> bool:
        """Whether data with this problem is broken; the others are worth knowing."""
        return self not in _WARNINGS


_WARNINGS = {
    Kind.no_positive,
    Kind.unknown_document,
    Kind.lost_scores,
    Kind.repeated_query,
    Kind.repeated_document,
    Kind.shared_positive,
    Kind.too_few_groups,
}


class UnknownId(InputError):
    """A row names a query or a document that is nowhere."""


class UnreadableImage(InputError):
    """An image is missing, or cannot be read."""


@dataclass(frozen=True)
class Problem:
    """One problem: what, and where.

    Attributes:
        kind: Its kind.
        message: What is wrong.
        path: The file.
        line: The line, counted from 1 (in Parquet and in JSON lists: the row), or None.
    """

    kind: Kind
    message: str
    path: str
    line: int | None = None


@dataclass
class Problems:
    """Problems, counted by kind; the first of each kind are kept.

    Attributes:
        counts: How many, by kind.
        examples: The first ones, in the order found.
    """

    counts: dict[Kind, int] = field(default_factory=dict)
    examples: list[Problem] = field(default_factory=list)

    def add(self, kind: Kind, message: str, path: str, line: int | None = None) -> None:
        """Count one."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= MAX_KEPT_PROBLEMS:
            self.examples.append(Problem(kind, message, path, line))

    def add_row(self, error: InputError, path: str, line: int | None) -> None:
        """Count a row that cannot be used."""
        kinds = {UnknownId: Kind.missing_id, UnreadableImage: Kind.unreadable_image}
        self.add(kinds.get(type(error), Kind.malformed), str(error), path, line)

    def merge(self, other: Problems) -> None:
        """Count those of another report too."""
        for kind, count in other.counts.items():
            before = self.counts.get(kind, 0)
            self.counts[kind] = before + count
            kept = [problem for problem in other.examples if problem.kind == kind]
            self.examples += kept[: max(0, MAX_KEPT_PROBLEMS - before)]

    @property
    def num_errors(self) -> int:
        """How many problems make the data broken."""
        return sum(count for kind, count in self.counts.items() if kind.is_error)

    def raise_errors(self) -> None:
        """Refuse broken data.

        Raises:
            DataError: If there is an error; names the first one, and how many there are of each kind.
        """
        first = next((problem for problem in self.examples if problem.kind.is_error), None)
        if first is None:
            return
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts.items() if kind.is_error)
        advice = "`crossrank data check` lists them; `on_bad_row: drop` leaves bad rows out"
        raise DataError(f"{first.message} (in all: {counts}; {advice})", path=first.path, line=first.line)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "problems": [
                {"kind": kind.value, "count": count, "is_error": kind.is_error} for kind, count in self.counts.items()
            ],
            "examples": [
                {"kind": p.kind.value, "message": p.message, "path": p.path, "line": p.line} for p in self.examples
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Problems:
        """Return what `to_dict` gave."""
        return cls(
            {Kind(problem["kind"]): problem["count"] for problem in values["problems"]},
            [Problem(Kind(p["kind"]), p["message"], p["path"], p["line"]) for p in values["examples"]],
        )


@dataclass
class BadLines(SkippedLines):
    """Takes the lines that a reader skips, and reports them.

    Attributes:
        problems: Where they are reported.
    """

    problems: Problems = field(default_factory=Problems)

    def add(self, error: DataError) -> None:
        """Report one."""
        super().add(error)
        self.problems.add(Kind.malformed, error.message, error.path, error.line)
