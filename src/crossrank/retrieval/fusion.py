"""First-stage scores and reranker scores of one query, combined into one.

Shape letter: `N` candidates of one query.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from crossrank.errors import InputError

# Source: Cormack, Clarke, Buettcher, "Reciprocal rank fusion outperforms Condorcet" (SIGIR 2009).
RRF_K = 60

Floats = npt.NDArray[np.float64]


def fuse(reranker: npt.ArrayLike, first_stage: npt.ArrayLike, *, method: str, weight: float) -> npt.NDArray[np.float32]:
    """Combine the two score lists of one query: `weight * reranker + (1 - weight) * first_stage`, both normalised.

    Args:
        reranker: Scores `(N,)`; higher is better.
        first_stage: Scores of the same documents, `(N,)`; higher is better.
        method: `"zscore"` (mean 0, standard deviation 1), `"minmax"` (0 to 1) or `"rrf"` (reciprocal ranks).
        weight: Share of the reranker, 0 to 1.

    Returns:
        Fused scores, float32 `(N,)`; comparable within this query only.

    Raises:
        InputError: If the lists differ in length, a score is not finite, or an option is unknown.
    """
    scores = np.asarray(reranker, np.float64)
    first = np.asarray(first_stage, np.float64)
    if scores.ndim != 1 or scores.shape != first.shape:
        raise InputError(f"fusion needs one first-stage score a document: {first.shape} against {scores.shape}")
    if not np.isfinite(first).all():
        raise InputError(
            f"the first-stage score of document {int(np.flatnonzero(~np.isfinite(first))[0])} is not finite"
        )
    if method not in NORMALISATIONS:
        raise InputError(f"fusion method must be one of {', '.join(NORMALISATIONS)}, not {method!r}")
    if not 0 <= weight <= 1:
        raise InputError(f"the weight of the reranker must be between 0 and 1, not {weight}")
    normalise = NORMALISATIONS[method]
    return (weight * normalise(_scaled(scores)) + (1 - weight) * normalise(_scaled(first))).astype(np.float32)


def _scaled(scores: Floats) -> Floats:
    """Bring scores that are too large or too small to be squared near 1; no normalisation looks at their unit."""
    peak = float(np.abs(scores).max(initial=0.0))
    return scores / peak if peak and not 1e-100 < peak < 1e100 else scores


def zscore(scores: Floats) -> Floats:
    """Return the scores with mean 0 and standard deviation 1; all 0 where they are all equal."""
    # Of equal scores the deviation need not be 0: their mean is rounded.
    spread = scores.std() if len(scores) and np.ptp(scores) > 0 else 0.0
    return (scores - scores.mean()) / spread if spread > 0 else np.zeros_like(scores)


def minmax(scores: Floats) -> Floats:
    """Return the scores between 0 and 1; all 0 where they are all equal."""
    spread = np.ptp(scores) if len(scores) else 0.0
    return (scores - scores.min()) / spread if spread > 0 else np.zeros_like(scores)


def reciprocal_ranks(scores: Floats) -> Floats:
    """Return `1 / (60 + rank)`, rank 1 for the best; equal scores share the best of their ranks."""
    ranks = 1 + np.searchsorted(np.sort(-scores), -scores, side="left")
    result: Floats = 1.0 / (RRF_K + ranks)
    return result


NORMALISATIONS: dict[str, Callable[[Floats], Floats]] = {"zscore": zscore, "minmax": minmax, "rrf": reciprocal_ranks}
