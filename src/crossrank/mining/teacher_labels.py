"""A cross-encoder as an assessor: its probabilities to grades from 0 to 3."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from crossrank.errors import InputError

# From a half on a document counts as relevant (grade 2); the outer ones are where a calibrated model hardly errs.
CUTS = (0.1, 0.5, 0.9)


def check_cuts(cuts: Sequence[float]) -> None:
    """Check the probabilities from which on a document gets grade 1, 2 and 3.

    Raises:
        InputError: If they are not three rising numbers between 0 and 1.
    """
    if len(cuts) != 3 or list(cuts) != sorted(set(cuts)) or not cuts[0] > 0 or not cuts[-1] < 1:
        raise InputError(f"cuts are three rising probabilities between 0 and 1, as in 0.1,0.5,0.9, not {list(cuts)}")


def grade_of(probability: float, cuts: Sequence[float] = CUTS) -> int:
    """Return the grade of a probability of relevance: how many of the cuts it reaches."""
    return bisect_right(cuts, probability)
