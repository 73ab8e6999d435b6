"""Click counts to relevance labels: how often a document is clicked, and how often it would be wherever it stood.

Every estimator returns one label a pair, float64 `(D,)`, between 0 and 1. An unclicked document is not irrelevant: its
label is low only as far as it was shown, and with the prior it is the average of all for a document that hardly was.

Shape letters: `D` pairs of a query and a document, `K` positions, `E` places: a pair at one position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossrank.errors import InputError
from crossrank.mining.click_counts import ClickCounts

Labels = npt.NDArray[np.float64]
Propensities = npt.NDArray[np.float64]

# Impressions that the prior is worth.
PRIOR_STRENGTH = 5.0
# A click counts at most 1 / this times: clipping trades a little bias for much variance.
# Source: Joachims, Swaminathan and Schnabel, "Unbiased learning-to-rank with biased feedback" (2017), section 7.
MIN_PROPENSITY = 0.1
_MAX_ITERATIONS = 500
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Estimate:
    """Labels `(D,)`, and the chance that a position is looked at `(K,)` where the estimator knows one."""

    labels: Labels
    propensities: Propensities | None = None


def naive_ctr(counts: ClickCounts, *, prior_strength: float = PRIOR_STRENGTH) -> Estimate:
    """Return clicks over impressions, wherever they happened.

    The strongest start on real judgements: within one query the documents were shown at similar positions.

    Source: the reproduction of the Baidu-ULTR experiments, Hager et al. (SIGIR 2024).
    """
    return Estimate(_smoothed(counts.by_pair(counts.clicks), counts.by_pair(counts.impressions), prior_strength))


def satisfied_ctr(counts: ClickCounts, *, prior_strength: float = PRIOR_STRENGTH) -> Estimate:
    """Return satisfied clicks over impressions: the last click of a page, or one after which the user stayed."""
    clicks, impressions = counts.by_pair(counts.satisfied), counts.by_pair(counts.impressions)
    return Estimate(_smoothed(clicks, impressions, prior_strength))


def inverse_propensity(
    counts: ClickCounts,
    *,
    propensities: Propensities | None = None,
    min_propensity: float = MIN_PROPENSITY,
    prior_strength: float = PRIOR_STRENGTH,
) -> Estimate:
    """Return clicks, each weighed by one over the chance that its position is looked at, over impressions.

    `sum over positions of c_k / max(theta_k, min_propensity)`, over the impressions, at most 1.

    Args:
        counts: What was shown and clicked.
        propensities: Chance that each position is looked at, `(K,)`; those of the position-based model if None.
        min_propensity: Where the weights are clipped.
        prior_strength: Impressions that the prior is worth.

    Raises:
        InputError: If there are fewer propensities than positions, or one is not above 0 and at most 1.

    Source: Joachims, Swaminathan and Schnabel, "Unbiased learning-to-rank with biased feedback" (WSDM 2017).
    """
    if propensities is None:
        propensities = _checked(position_based_model(counts, prior_strength=prior_strength).propensities, counts)
    propensities = _checked(propensities, counts)
    weighed = counts.by_pair(counts.clicks / np.maximum(propensities[counts.position], min_propensity))
    labels = _smoothed(weighed, counts.by_pair(counts.impressions), prior_strength)
    return Estimate(np.minimum(labels, 1.0), propensities)


def position_based_model(counts: ClickCounts, *, prior_strength: float = PRIOR_STRENGTH) -> Estimate:
    """Return how attractive each document is, fitted together with how often each position is looked at.

    `P(click) = theta_k * alpha_qd`, by expectation maximisation; the position that is looked at most has `theta = 1`.
    The two can be told apart only where documents were shown at more than one position.

    Source: Richardson et al. (WWW 2007) for the model; Chuklin, Markov and de Rijke, "Click Models for Web Search"
    (2015), section 4.2, for the updates.
    """
    pair, position = counts.pair, counts.position
    clicks, skips = counts.clicks, counts.impressions - counts.clicks
    shown_D, shown_K = counts.by_pair(counts.impressions), counts.by_position(counts.impressions)
    alpha, theta = naive_ctr(counts, prior_strength=prior_strength).labels, np.full(counts.num_positions, 0.5)
    for _ in range(_MAX_ITERATIONS):
        before = theta
        unclicked_E = 1 - alpha[pair] * theta[position]
        attracted_E = clicks + skips * alpha[pair] * (1 - theta[position]) / unclicked_E
        looked_at_E = clicks + skips * theta[position] * (1 - alpha[pair]) / unclicked_E
        alpha = _smoothed(counts.by_pair(attracted_E), shown_D, prior_strength)
        theta = np.clip(counts.by_position(looked_at_E) / np.maximum(shown_K, 1), 1e-9, 1 - 1e-9)
        if np.abs(theta - before).max(initial=0) < _TOLERANCE:
            break
    highest = theta.max(initial=1e-9)
    return Estimate(np.minimum(alpha * highest, 1.0), theta / highest)


def cascade_model(counts: ClickCounts, *, prior_strength: float = PRIOR_STRENGTH) -> Estimate:
    """Return first clicks over the impressions that were read until then: users read from the top and stop at a click.

    Source: Craswell et al., "An experimental comparison of click position-bias models" (WSDM 2008).
    """
    first_clicks, examined = counts.by_pair(counts.first_clicks), counts.by_pair(counts.examined)
    return Estimate(_smoothed(first_clicks, examined, prior_strength))


ESTIMATORS: dict[str, Callable[..., Estimate]] = {
    "naive": naive_ctr,
    "satisfied": satisfied_ctr,
    "ips": inverse_propensity,
    "pbm": position_based_model,
    "cascade": cascade_model,
}


def _smoothed(successes_D: Labels, trials_D: Labels, strength: float) -> Labels:
    """Return the mean of a Beta posterior whose prior has the overall rate and is worth `strength` trials."""
    if strength < 0:
        raise InputError(f"the prior is worth at least 0 impressions, not {strength}")
    total = trials_D.sum()
    rate = successes_D.sum() / total if total else 0.0
    return (successes_D + strength * rate) / np.maximum(trials_D + strength, 1e-12)


def _checked(propensities: Propensities | None, counts: ClickCounts) -> Propensities:
    assert propensities is not None
    needed = counts.num_positions
    if len(propensities) < needed:
        raise InputError(f"{len(propensities)} propensities for {needed} positions: give one for each, from the top")
    if not ((propensities > 0) & (propensities <= 1)).all():
        raise InputError("a propensity is the chance that a position is looked at: above 0 and at most 1")
    return propensities
