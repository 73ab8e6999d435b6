"""What is wrong with mined groups, or may be: false negatives, duplicates, scores, coverage."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from crossrank.data.audited_groups import AuditedDocument, AuditedGroup, ReadGroups
from crossrank.data.groups.sampling import hash_text
from crossrank.data.groups.store import text_key
from crossrank.mining.negative_filters import (
    NEAR_DUPLICATE,
    PERCENT,
    Rules,
    is_near_duplicate,
    refuse_by_score,
    shingles,
)

# Of each kind of finding this many are kept to be shown; all are counted.
MAX_EXAMPLES = 20
NUM_BINS = 20


class Finding(StrEnum):
    """What a negative, or a group, may suffer from."""

    known_positive = "known positive among the negatives"
    near_duplicate = "near-duplicate of a positive"
    suspect = "scores too close to a positive"
    repeated = "repeated within a group"
    not_finite = "score is not a finite number"
    no_negatives = "group without negatives"


@dataclass(frozen=True)
class Example:
    """One finding.

    Attributes:
        finding: Its kind.
        query_id: Of the group.
        query: The text.
        document_id: Of the negative; None where the group is meant, or the document has no id.
        text: Of the negative.
        scores: Of the negative, by who gave them.
        positive_scores: The lowest of a positive, by who gave them.
    """

    finding: Finding
    query_id: str
    query: str
    document_id: str | None
    text: str
    scores: Mapping[str, float]
    positive_scores: Mapping[str, float]


@dataclass(frozen=True)
class Histogram:
    """Scores on one scale.

    Attributes:
        scale: Who gave them.
        edges: Of the bins, ascending; one more than there are bins.
        positives: Counts by bin.
        negatives: Counts by bin.
    """

    scale: str
    edges: tuple[float, ...]
    positives: tuple[int, ...]
    negatives: tuple[int, ...]


@dataclass
class Audit:
    """What an audit found.

    Attributes:
        percent: Negatives that score above this share of the lowest positive are suspects.
        groups: How many.
        positives: How many, in all groups.
        negatives: How many, in all groups.
        negatives_of_group: Number of groups by their number of negatives.
        sources: Number of negatives by how they became one.
        distinct_negatives: Different texts among them.
        most_used: The negatives of the most groups: how many, id, text.
        repeated_queries: Groups whose query stands in a group above, as in unrolled files.
        findings: Negatives or groups, by kind. A negative may have several.
        examples: The first of each kind.
        histograms: A scale each.
    """

    percent: float
    groups: int = 0
    positives: int = 0
    negatives: int = 0
    negatives_of_group: Counter[int] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    distinct_negatives: int = 0
    most_used: list[tuple[int, str | None, str]] = field(default_factory=list)
    repeated_queries: int = 0
    findings: Counter[Finding] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)
    histograms: list[Histogram] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON; numbers that JSON does not know are None."""
        plain = {key: value for key, value in vars(self).items() if key not in ("examples", "histograms", "findings")}
        return plain | {
            "negatives_of_group": dict(sorted(self.negatives_of_group.items())),
            "findings": {finding.value: self.findings[finding] for finding in Finding},
            "examples": [_plain_example(example) for example in self.examples],
            "histograms": [vars(histogram) for histogram in self.histograms],
        }


def audit_groups(
    read: ReadGroups,
    *,
    percent: float = PERCENT,
    near_duplicate: float = NEAR_DUPLICATE,
    relevant: Mapping[str, Container[str]] | None = None,
) -> Audit:
    """Read the groups twice and judge every negative.

    In memory are a hash a positive and a negative, and their scores: about 100 bytes a document.

    Args:
        read: Yields the groups; called twice.
        percent: Share of the lowest positive's score above which a negative is a suspect (see `score_limit`).
        near_duplicate: Least similarity to a positive that is reported, above 0.
        relevant: Ids of relevant documents by query, besides those in the groups.

    Raises:
        InputError: If a limit is out of range.
        DataError: If a row is bad.
    """
    return _Auditor(Rules(percent=percent, near_duplicate=near_duplicate), relevant or {}).run(read)


class _Auditor:
    def __init__(self, rules: Rules, relevant: Mapping[str, Container[str]]) -> None:
        assert rules.percent is not None and rules.near_duplicate is not None
        self._rules = rules
        self._near_duplicate = rules.near_duplicate
        self._relevant = relevant
        self._audit = Audit(rules.percent)
        self._known: dict[int, set[int]] = {}
        self._used: Counter[int] = Counter()
        self._scores: dict[str, tuple[array[float], array[float]]] = {}

    def run(self, read: ReadGroups) -> Audit:
        for group in read():
            # A row for each positive is common: what is relevant in one row is so in all with the same query.
            known = self._known.setdefault(text_key(group.query), set())
            self._audit.repeated_queries += bool(known)
            known.update(_keys(group))
        for group in read():
            self._add(group)
        self._finish(read)
        return self._audit

    def _add(self, group: AuditedGroup) -> None:
        audit = self._audit
        audit.groups += 1
        audit.positives += len(group.positives)
        audit.negatives += len(group.negatives)
        audit.negatives_of_group[len(group.negatives)] += 1
        audit.sources.update(negative.source or "unknown" for negative in group.negatives)
        for is_negative, documents in enumerate((group.positives, group.negatives)):
            for document in documents:
                self._add_scores(document, is_negative)
        lowest = _lowest(group)
        if not group.negatives:
            self._report(Finding.no_negatives, group, None, lowest)
        positives = [shingles(positive.text) for positive in group.positives]
        seen: set[int] = set()
        for negative in group.negatives:
            for finding in self._judge(group, negative, positives, seen, lowest):
                self._report(finding, group, negative, lowest)

    def _judge(
        self,
        group: AuditedGroup,
        negative: AuditedDocument,
        positives: list[frozenset[str]],
        seen: set[int],
        lowest: Mapping[str, float],
    ) -> Iterator[Finding]:
        key = text_key(negative.text)
        self._used[key] += key not in seen
        if key in seen:
            yield Finding.repeated
        seen.add(key)
        if self._is_known(group, negative, key):
            yield Finding.known_positive
        elif negative.text.strip() and is_near_duplicate(negative.text, positives, self._near_duplicate):
            yield Finding.near_duplicate
        finite = {scale: score for scale, score in negative.scores.items() if math.isfinite(score)}
        if len(finite) < len(negative.scores):
            yield Finding.not_finite
        comparable = {scale: score for scale, score in finite.items() if scale in lowest}
        if refuse_by_score(comparable, lowest, self._rules):
            yield Finding.suspect

    def _is_known(self, group: AuditedGroup, negative: AuditedDocument, key: int) -> bool:
        known = self._known[text_key(group.query)]
        if key in known or (negative.id is not None and _id_key(negative.id) in known):
            return True
        return negative.id is not None and negative.id in self._relevant.get(group.query_id, ())

    def _add_scores(self, document: AuditedDocument, is_negative: int) -> None:
        for scale, score in document.scores.items():
            if math.isfinite(score):
                self._scores.setdefault(scale, (array("d"), array("d")))[is_negative].append(score)

    def _report(
        self, finding: Finding, group: AuditedGroup, negative: AuditedDocument | None, lowest: Mapping[str, float]
    ) -> None:
        self._audit.findings[finding] += 1
        if self._audit.findings[finding] <= MAX_EXAMPLES:
            about = (negative.id, negative.text, negative.scores) if negative else (None, "", {})
            self._audit.examples.append(Example(finding, group.query_id, group.query, *about, lowest))

    def _finish(self, read: ReadGroups) -> None:
        self._audit.distinct_negatives = len(self._used)
        self._audit.histograms = [_histogram(scale, *scores) for scale, scores in sorted(self._scores.items())]
        most = {key: count for key, count in self._used.most_common(10) if count > 1}
        for group in read() if most else ():
            for negative in group.negatives:
                count = most.pop(text_key(negative.text), None)
                if count:
                    self._audit.most_used.append((count, negative.id, negative.text))
            if not most:
                break
        self._audit.most_used.sort(key=lambda used: -used[0])


def _keys(group: AuditedGroup) -> Iterator[int]:
    for positive in group.positives:
        if positive.text.strip():
            yield text_key(positive.text)
        if positive.id is not None:
            yield _id_key(positive.id)


def _id_key(document_id: str) -> int:
    return hash_text(f"id\0{document_id}")


def _lowest(group: AuditedGroup) -> dict[str, float]:
    lowest: dict[str, float] = {}
    for positive in group.positives:
        for scale, score in positive.scores.items():
            if math.isfinite(score):
                lowest[scale] = min(score, lowest.get(scale, math.inf))
    return lowest


def _histogram(scale: str, positives: array[float], negatives: array[float]) -> Histogram:
    scores = np.concatenate([positives, negatives])
    low, high = float(scores.min()), float(scores.max())
    # Scores that are the same but for rounding leave no room for bins.
    room = 0.0 if high - low > 1e-9 * max(abs(low), abs(high)) else max(1.0, abs(high)) / 2
    edges = np.linspace(low - room, high + room, NUM_BINS + 1)
    counts = [tuple(np.histogram(side, edges)[0].tolist()) for side in (positives, negatives)]
    return Histogram(scale, tuple(edges.tolist()), *counts)


def _plain_example(example: Example) -> dict[str, Any]:
    scores = {scale: score if math.isfinite(score) else None for scale, score in example.scores.items()}
    return vars(example) | {
        "finding": example.finding.value,
        "scores": scores,
        "positive_scores": dict(example.positive_scores),
    }
