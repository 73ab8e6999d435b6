"""Raw scores to probabilities of relevance: fitted on labelled candidates, without changing any order.

Shape letter: `P` pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from crossrank.data.evaluation_set import stable_hash
from crossrank.errors import InputError, MissingExtra
from crossrank.evaluation.ordering import Qrels, Run

Floats = npt.NDArray[np.float64]
Method = Literal["platt", "temperature"]

# Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017): ECE over 15 bins of equal width.
NUM_BINS = 15


@dataclass(frozen=True)
class LabelledPairs:
    """Candidates with their labels.

    Attributes:
        scores: Raw scores `(P,)`.
        relevant: Whether the qrels call the pair relevant `(P,)`; one that nobody judged counts as not relevant.
        num_queries: How many queries they come from.
    """

    scores: Floats
    relevant: npt.NDArray[np.bool_]
    num_queries: int

    def __len__(self) -> int:
        return len(self.scores)


class Scaling(NamedTuple):
    """`probability = sigmoid(slope * score + intercept)`."""

    slope: float
    intercept: float

    def probabilities(self, scores: Floats) -> Floats:
        """Return the probabilities of scores `(P,)`."""
        from scipy.special import expit

        result: Floats = expit(self.slope * scores + self.intercept)
        return result


UNCALIBRATED = Scaling(1.0, 0.0)


class Bin(NamedTuple):
    """Pairs of about the same probability: how many, their mean probability, and the share that is relevant."""

    num_pairs: int
    probability: float
    relevant: float


@dataclass(frozen=True)
class Quality:
    """How far probabilities can be believed.

    Attributes:
        ece: Expected calibration error: mean distance of probability and share of relevant pairs, over bins.
        brier: Mean squared distance of probability and label.
        log_loss: Mean negative log likelihood, in nats.
        bins: Those that are not empty.
    """

    ece: float
    brier: float
    log_loss: float
    bins: tuple[Bin, ...]


class Threshold(NamedTuple):
    """Where to cut for a wanted precision; None where no cut reaches it.

    Attributes:
        wanted: Precision.
        probability: Keep what is at least this probable.
        precision: On the held-out pairs.
        recall: Share of their relevant candidates that are kept.
    """

    wanted: float
    probability: float | None
    precision: float | None
    recall: float | None


def split_by_query(run: Run, qrels: Qrels) -> tuple[LabelledPairs, LabelledPairs]:
    """Return the labelled candidates of one half of the queries, to fit on, and of the other half, to report on.

    Raises:
        InputError: If one half has no relevant or no irrelevant candidate.
    """
    ordered = sorted((query_id for query_id in qrels if run.get(query_id)), key=lambda q: stable_hash("calibration", q))
    halves = _label(ordered[::2], run, qrels), _label(ordered[1::2], run, qrels)
    for half in halves:
        if not 0 < half.relevant.sum() < len(half):
            raise InputError(
                f"too few labels: of {len(half)} candidates of {half.num_queries} queries, {int(half.relevant.sum())} "
                "are relevant, and both kinds are needed in each half; take more queries or more candidates"
            )
    return halves


def _label(query_ids: Sequence[str], run: Run, qrels: Qrels) -> LabelledPairs:
    found = [
        (item.score, qrels[query_id].get(item.document_id, 0) > 0) for query_id in query_ids for item in run[query_id]
    ]
    scores, relevant = zip(*found, strict=True) if found else ((), ())
    return LabelledPairs(np.array(scores, np.float64), np.array(relevant, np.bool_), len(query_ids))


def fit(pairs: LabelledPairs, method: Method) -> Scaling:
    """Return the scaling that makes the labels most likely; its slope is above 0, so no order changes.

    Args:
        pairs: To fit on.
        method: `"platt"` fits slope and intercept, `"temperature"` the slope alone.

    Raises:
        InputError: If the scores of relevant pairs are no higher than those of others: there is nothing to scale.
        MissingExtra: If scipy is not installed.

    Source: Platt, "Probabilistic outputs for support vector machines" (1999), with its smoothed targets, which keep
    separable labels from an infinite slope; temperature: Guo et al. (2017).
    """
    try:
        from scipy.optimize import minimize
        from scipy.special import expit
    except ImportError as error:
        raise MissingExtra("calibration", extra="eval") from error
    scores, relevant = pairs.scores, pairs.relevant
    spread = float(scores.std())
    if spread == 0 or scores[relevant].mean() <= scores[~relevant].mean():
        raise InputError(
            "relevant candidates do not score higher than others, so no increasing curve fits: check the model, its "
            "label and the judgements"
        )
    positives, negatives = int(relevant.sum()), int((~relevant).sum())
    targets = np.where(relevant, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    # The intercept is that of scores around their mean, and the slope is in spreads, so that the search is well scaled.
    centre = float(scores.mean()) if method == "platt" else 0.0
    inputs = (scores - centre) / spread

    def loss(parameters: Floats) -> tuple[float, Floats]:
        slope = np.exp(parameters[0])
        logits = slope * inputs + (parameters[1] if method == "platt" else 0.0)
        error = (expit(logits) - targets) / len(targets)
        value = float(np.mean(np.logaddexp(0, logits) - targets * logits))
        gradient = [float(error @ inputs) * slope, float(error.sum())]
        return value, np.array(gradient[: len(parameters)])

    found = minimize(loss, np.zeros(2 if method == "platt" else 1), jac=True, method="BFGS").x
    slope = float(np.exp(found[0])) / spread
    return Scaling(slope, float(found[1]) - slope * centre if method == "platt" else 0.0)


def judge(probabilities: Floats, relevant: npt.NDArray[np.bool_]) -> Quality:
    """Return how far probabilities `(P,)` can be believed against labels `(P,)`."""
    labels = relevant.astype(np.float64)
    places = np.minimum((probabilities * NUM_BINS).astype(int), NUM_BINS - 1)
    bins = tuple(
        Bin(int(inside.sum()), float(probabilities[inside].mean()), float(labels[inside].mean()))
        for place in range(NUM_BINS)
        if (inside := places == place).any()
    )
    ece = sum(one.num_pairs * abs(one.probability - one.relevant) for one in bins) / len(labels)
    safe = np.clip(probabilities, 1e-12, 1 - 1e-12)
    log_loss = -np.mean(labels * np.log(safe) + (1 - labels) * np.log1p(-safe))
    return Quality(float(ece), float(np.mean((probabilities - labels) ** 2)), float(log_loss), bins)


def thresholds(
    fitted: Floats, fitted_relevant: npt.NDArray[np.bool_], held_out: Floats, held_out_relevant: npt.NDArray[np.bool_],
    precisions: Sequence[float],
) -> list[Threshold]:  # fmt: skip
    """Return for each wanted precision the lowest cut that reaches it, and what it gives on pairs that it has not seen.

    Args:
        fitted: Probabilities `(P,)` that the cut is chosen on.
        fitted_relevant: Their labels.
        held_out: Probabilities that it is tried on.
        held_out_relevant: Their labels.
        precisions: Wanted, each between 0 and 1.
    """
    found = []
    for wanted in precisions:
        cut = _lowest_cut(fitted, fitted_relevant, wanted)
        kept = held_out >= cut if cut is not None else np.zeros(len(held_out), np.bool_)
        hits = int((kept & held_out_relevant).sum())
        precision = hits / int(kept.sum()) if kept.any() else None
        recall = hits / int(held_out_relevant.sum()) if cut is not None else None
        found.append(Threshold(wanted, cut, precision, recall))
    return found


def _lowest_cut(probabilities: Floats, relevant: npt.NDArray[np.bool_], wanted: float) -> float | None:
    order = np.argsort(-probabilities, kind="stable")
    ordered, hits = probabilities[order], np.cumsum(relevant[order])
    precision = hits / np.arange(1, len(hits) + 1)
    # A cut keeps all pairs of its probability, so it may only lie after the last of equal ones.
    is_last = np.append(ordered[1:] < ordered[:-1], True)
    good = np.flatnonzero((precision >= wanted) & is_last)
    return float(ordered[good[-1]]) if len(good) else None
