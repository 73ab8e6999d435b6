"""Which candidates may serve as negatives: rules without state, each of which may refuse one candidate of one query."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from crossrank.errors import InputError
from crossrank.types import Document

# Source: Moreira et al., "NV-Retriever: Improving text embedding models with effective hard-negative mining" (2024),
# TopK-PercPos: a negative scores at most 95% of the positive.
PERCENT = 0.95
NEAR_DUPLICATE = 0.9
# Characters, so that the rule also holds in scripts without spaces.
SHINGLE_LENGTH = 5
_ID_PREFIX = "id:"


class Reason(StrEnum):
    """Why a candidate is no negative."""

    copy = "copy of a positive or of another candidate"
    rank = "outside the rank window"
    same_document = "same document as a positive"
    near_duplicate = "near-duplicate of a positive"
    close = "scores too close to the positive"
    positive_not_found = "positive not found by the retriever"
    ceiling = "scores above the ceiling"


@dataclass(frozen=True)
class Rules:
    """The limits that a candidate must keep.

    Attributes:
        first_rank: Best ranks above it are refused, counted from 1.
        last_rank: Best ranks below it are refused.
        percent: Highest share of the positive's score (see `score_limit`), or None.
        margin: Least distance below the positive's score, or None.
        max_score: Highest score, or None.
        near_duplicate: Least Jaccard similarity to a positive that is refused, above 0; or None.
        same_document: The field that names the document that a passage is from (see `document_key`), or None.

    Raises:
        InputError: If a limit is out of range.
    """

    first_rank: int = 1
    last_rank: int = 100
    percent: float | None = PERCENT
    margin: float | None = None
    max_score: float | None = None
    near_duplicate: float | None = NEAR_DUPLICATE
    same_document: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.first_rank <= self.last_rank:
            raise InputError(f"the rank window needs 1 <= first <= last, not {self.first_rank}-{self.last_rank}")
        if self.percent is not None and not 0 < self.percent <= 1:
            raise InputError(f"percent is a share of the positive's score, above 0 and at most 1, not {self.percent}")
        if self.max_score is not None and math.isnan(self.max_score):
            raise InputError("the highest score must be a number, not NaN")
        if self.margin is not None and not self.margin >= 0:
            raise InputError(f"the margin must be at least 0, not {self.margin}")
        if self.near_duplicate is not None and not 0 < self.near_duplicate <= 1:
            raise InputError(f"near_duplicate must be above 0 and at most 1, not {self.near_duplicate}")


def score_limit(positive: float, *, percent: float | None = None, margin: float | None = None) -> float | None:
    """Return the highest score of a negative, by the positive's score; None where no rule is set.

    The percentage is a distance of `(1 - percent) * |positive|` below the positive. For scores above 0 that is
    `percent * positive`; for negative ones a plain product would lie above the positive and refuse nothing.

    Args:
        positive: The score of the lowest positive.
        percent: As in 0.95.
        margin: A distance on the scale of the scores.
    """
    limits = []
    if percent is not None:
        limits.append(positive - (1 - percent) * abs(positive))
    if margin is not None:
        limits.append(positive - margin)
    return min(limits, default=None)


def refuse_by_score(scores: Mapping[str, float], positives: Mapping[str, float | None], rules: Rules) -> Reason | None:
    """Return why a candidate's scores refuse it, or None.

    Args:
        scores: Of the candidate, by who gave them; each is compared with the positive on its own scale.
        positives: Of the lowest positive. None, where a retriever did not find a positive: it ranks every candidate
            of its list above it.
        rules: The limits.
    """
    for scale, score in scores.items():
        if rules.max_score is not None and score > rules.max_score:
            return Reason.ceiling
        if rules.percent is None and rules.margin is None:
            continue
        positive = positives.get(scale)
        if positive is None:
            return Reason.positive_not_found
        limit = score_limit(positive, percent=rules.percent, margin=rules.margin)
        if limit is not None and score > limit:
            return Reason.close
    return None


def in_window(ranks: Iterable[int], rules: Rules) -> bool:
    """Return whether the best of a candidate's ranks lies in the window; a candidate without ranks does."""
    best = min(ranks, default=rules.first_rank)
    return rules.first_rank <= best <= rules.last_rank


def shingles(text: str) -> frozenset[str]:
    """Return all runs of 5 characters of a text, without regard to case and white space."""
    plain = " ".join(text.split()).casefold()
    return frozenset(plain[i : i + SHINGLE_LENGTH] for i in range(max(1, len(plain) - SHINGLE_LENGTH + 1)))


def similarity(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the Jaccard similarity of two sets, 0 to 1.

    Source: Broder, "On the resemblance and containment of documents" (1997).
    """
    return len(first & second) / len(first | second)


def is_near_duplicate(candidate: str, positives: Iterable[frozenset[str]], threshold: float) -> bool:
    """Return whether a text is at least so similar to one of the positives, which come as their shingles."""
    found = shingles(candidate)
    # The sizes alone bound the similarity, and settle most pairs.
    return any(
        min(len(found), len(positive)) >= threshold * max(len(found), len(positive))
        and similarity(found, positive) >= threshold
        for positive in positives
    )


def document_key(document: Document, rule: str) -> str | None:
    """Return what a passage shares with the other passages of its document, or None where it has none.

    Args:
        document: The passage.
        rule: A field of the record, `title`, or `id:SEPARATOR`: the id up to the last separator.
    """
    if rule.startswith(_ID_PREFIX):
        before, found, _ = (document.id or "").rpartition(rule.removeprefix(_ID_PREFIX))
        return before if found else document.id
    value = document.title if rule == "title" else document.metadata.get(rule)
    return None if value in (None, "") else str(value)
