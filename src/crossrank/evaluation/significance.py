"""How sure a difference is: intervals over queries, a paired test, and its correction over data sets.

Shape letter: `Q` queries, of which each has one difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from crossrank.errors import MissingExtra

Floats = npt.NDArray[np.float64]

RESAMPLES = 9999
# Values that one step of resampling may hold at a time.
_VALUES_A_BATCH = 2_000_000
# Two values of a measure that are closer than this are the same.
TOLERANCE = 1e-9


class Interval(NamedTuple):
    """Both ends of a confidence interval."""

    low: float
    high: float


class Outcome(NamedTuple):
    """How many queries got better, worse, or stayed."""

    won: int
    lost: int
    tied: int


def bootstrap_interval(groups: Sequence[npt.ArrayLike], *, seed: int = 0) -> Interval:
    """Return the 95% interval of the mean of the groups' means, by resampling the queries within each group.

    Args:
        groups: Differences `(Q,)` of each data set; one group gives the interval of its own mean.
        seed: Of the resampling.

    Source: Efron, "Bootstrap methods" (1979); percentiles of 9,999 resamples.
    """
    stats = _scipy_stats()
    arrays = [_floats(group) for group in groups]
    # scipy wants two observations; with equal ones there is nothing to resample.
    varied = [array for array in arrays if np.ptp(array) > 0]
    fixed = sum(float(array.mean()) for array in arrays if np.ptp(array) == 0)
    if not varied:
        return Interval(fixed / len(arrays), fixed / len(arrays))

    def mean_of_means(*samples: Floats, axis: int) -> Floats:
        total: Floats = sum(sample.mean(axis=axis) for sample in samples) + np.float64(fixed)
        return total / len(arrays)

    found = stats.bootstrap(
        varied,
        mean_of_means,
        n_resamples=RESAMPLES,
        batch=_batch(max(map(len, varied))),
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


def randomisation_p_value(differences: npt.ArrayLike, *, seed: int = 0) -> float:
    """Return the two-sided p-value of paired differences `(Q,)`: how often random signs give a mean as far from 0.

    Exact where there are at most 9,999 ways to set the signs.

    Source: Smucker, Allan, Carterette, "A comparison of statistical significance tests for information retrieval
    evaluation" (CIKM 2007), which recommends this test.
    """
    stats = _scipy_stats()
    array = _floats(differences)
    array = array[np.abs(array) > TOLERANCE]  # the sign of a 0 changes nothing
    if len(array) < 2:
        return 1.0
    found = stats.permutation_test(
        (array,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=_batch(len(array)),
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for being several tests.

    Source: Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    corrected: dict[str, float] = {}
    largest = 0.0
    for done, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[name] * (len(p_values) - done)))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}


def count_outcomes(differences: npt.ArrayLike) -> Outcome:
    """Count queries won, lost and tied."""
    array = _floats(differences)
    won, lost = int((array > TOLERANCE).sum()), int((array < -TOLERANCE).sum())
    return Outcome(won, lost, len(array) - won - lost)


def _floats(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, np.float64)


def _batch(num_queries: int) -> int:
    return max(1, min(RESAMPLES, _VALUES_A_BATCH // num_queries))


def _scipy_stats() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingExtra("evaluation", extra="eval") from error
    return stats
