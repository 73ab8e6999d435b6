"""How far two assessors agree beyond chance: Cohen's kappa, and where they differ.

Shape letter: `K` grades, from 0 to the highest that either gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crossrank.errors import InputError

Pairs = Mapping[tuple[str, str], int]
Matrix = npt.NDArray[np.int64]

# Samples of a bootstrap interval; its seed is fixed, so that the same labels give the same interval.
_RESAMPLES = 2000
_WEIGHTS = {"nominal": None, "linear": 1, "quadratic": 2}


@dataclass(frozen=True)
class Agreement:
    """Two assessors on the pairs that both have labelled.

    Attributes:
        matrix: Counts `(K, K)`: rows are the first one's grades, columns the second one's.
        only_first: Pairs that the first one alone has labelled.
        only_second: The same of the second.
        relevant_from: The grade from which on a document counts as relevant.
    """

    matrix: Matrix
    only_first: int
    only_second: int
    relevant_from: int

    @property
    def binary(self) -> Matrix:
        """Counts `(2, 2)` of not relevant and relevant."""
        at = min(self.relevant_from, len(self.matrix))
        halves = (slice(None, at), slice(at, None))
        return np.array([[self.matrix[row, column].sum() for column in halves] for row in halves])

    def to_dict(self) -> dict[str, Any]:
        """Return every figure as plain values; a kappa that is not defined is None."""
        total = int(self.matrix.sum())
        grades = np.arange(len(self.matrix))
        bias = float((self.matrix * (grades[None, :] - grades[:, None])).sum() / total)
        kappas = {f"kappa_{name}": _with_interval(self.matrix, power) for name, power in _WEIGHTS.items()}
        return {
            "pairs": total,
            "only_first": self.only_first,
            "only_second": self.only_second,
            "same_grade": float(np.trace(self.matrix) / total),
            "same_relevance": float(np.trace(self.binary) / total),
            "second_minus_first": bias,
            "kappa_binary": _with_interval(self.binary, None),
            **kappas,
            "relevant_from": self.relevant_from,
            "confusion": self.matrix.tolist(),
        }


def compare_labels(first: Pairs, second: Pairs, *, relevant_from: int = 2) -> Agreement:
    """Compare the grades of two assessors.

    Args:
        first: Grade by query and document id.
        second: The same of the other.
        relevant_from: The grade from which on a document counts as relevant, at least 1.

    Raises:
        InputError: If they have no pair in common, or the bound is below 1.
    """
    common = [pair for pair in first if pair in second]
    if not common:
        raise InputError("the two have no labelled pair in common: do they name the same queries and documents?")
    if relevant_from < 1:
        raise InputError(f"relevant_from must be at least 1, not {relevant_from}")
    size = max(relevant_from, *(max(first[pair], second[pair]) for pair in common)) + 1
    matrix = np.zeros((size, size), np.int64)
    for pair in common:
        matrix[first[pair], second[pair]] += 1
    return Agreement(matrix, len(first) - len(common), len(second) - len(common), relevant_from)


def cohen_kappa(matrix: npt.NDArray[Any], power: int | None = None) -> float:
    """Return Cohen's kappa of counts `(K, K)`: 1 is perfect, 0 is chance; NaN where chance alone always agrees.

    Args:
        matrix: Counts, rows the one assessor, columns the other.
        power: Of the distance between two grades that a disagreement weighs; None weighs all the same.

    Source: Cohen, "A coefficient of agreement for nominal scales" (1960), and "Weighted kappa" (1968).
    """
    return float(_kappas(np.asarray(matrix, np.float64)[None], power)[0])


def _kappas(counts: npt.NDArray[np.float64], power: int | None) -> npt.NDArray[np.float64]:
    grades = np.arange(counts.shape[-1])
    distance = np.abs(grades[:, None] - grades[None, :])
    weights = (distance > 0).astype(np.float64) if power is None else distance.astype(np.float64) ** power
    shares = counts / counts.sum(axis=(1, 2), keepdims=True)
    by_chance = shares.sum(axis=2)[:, :, None] * shares.sum(axis=1)[:, None, :]
    observed, expected = (shares * weights).sum(axis=(1, 2)), (by_chance * weights).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - observed / expected, np.nan)


def _with_interval(matrix: Matrix, power: int | None) -> dict[str, float | None]:
    """Return a kappa with its 95% interval, from a percentile bootstrap over the pairs."""
    value = cohen_kappa(matrix, power)
    if np.isnan(value):
        return {"value": None, "low": None, "high": None}
    total = int(matrix.sum())
    drawn = np.random.default_rng(0).multinomial(total, (matrix / total).ravel(), size=_RESAMPLES)
    kappas = _kappas(drawn.reshape(-1, *matrix.shape).astype(np.float64), power)
    low, high = np.nanpercentile(kappas, [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high)}
