"""Which labelled pairs are kept, which of them count as relevant, and what a log can and cannot say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crossrank.data.label_files import LabelledPair
from crossrank.errors import InputError
from crossrank.mining.click_counts import ClickCounts
from crossrank.mining.click_models import Estimate

# Below this many impressions a label is mostly prior.
MIN_IMPRESSIONS = 5


@dataclass(frozen=True)
class ClickLabels:
    """Labels of the pairs of a log that were shown often enough.

    Attributes:
        counts: What they come from.
        estimate: Labels of all pairs, `(D,)`.
        kept: Rows of the pairs that were shown often enough.
        relevant_from: Labels above this count as relevant.
    """

    counts: ClickCounts
    estimate: Estimate
    kept: npt.NDArray[np.int64]
    relevant_from: float

    def pairs(self) -> Iterator[LabelledPair]:
        """Yield the kept pairs, query by query, the highest label of each first."""
        counts, labels = self.counts, self.estimate.labels
        impressions, clicks = counts.by_pair(counts.impressions), counts.by_pair(counts.clicks)
        order = np.lexsort((-labels[self.kept], counts.query_of_pair[self.kept]))
        for row in self.kept[order]:
            query = counts.query_of_pair[row]
            yield LabelledPair(
                query_id=counts.query_ids[query],
                query=counts.queries[query],
                document_id=counts.document_ids[row],
                label=float(labels[row]),
                relevant=bool(labels[row] > self.relevant_from and clicks[row]),
                impressions=int(impressions[row]),
                clicks=int(clicks[row]),
            )

    def report(self) -> dict[str, Any]:
        """Return what was read, kept and left out, and clicks and propensities by position, as plain values."""
        counts, propensities = self.counts, self.estimate.propensities
        shown_K, clicked_K = counts.by_position(counts.impressions), counts.by_position(counts.clicks)
        relevant = sum(pair.relevant for pair in self.pairs())
        kept_queries = len(np.unique(counts.query_of_pair[self.kept]))
        return {
            "pages": counts.num_pages,
            "impressions": int(shown_K.sum()),
            "clicks": int(clicked_K.sum()),
            "queries": {"seen": len(counts.queries), "labelled": kept_queries},
            "pairs": {
                "seen": len(counts.document_ids),
                "clicked": int((counts.by_pair(counts.clicks) > 0).sum()),
                "labelled": len(self.kept),
                "shown_too_rarely": len(counts.document_ids) - len(self.kept),
                "relevant": relevant,
            },
            "relevant_from": self.relevant_from,
            "positions": [
                {
                    "position": place + 1,
                    "impressions": int(shown_K[place]),
                    "ctr": float(clicked_K[place] / shown_K[place]) if shown_K[place] else None,
                }
                | ({} if propensities is None else {"propensity": float(propensities[place])})
                for place in range(len(shown_K))
            ],
        }


def label_clicks(
    counts: ClickCounts,
    estimate: Estimate,
    *,
    min_impressions: int = MIN_IMPRESSIONS,
    relevant_from: float | None = None,
) -> ClickLabels:
    """Keep the pairs that were shown often enough, and set where relevance begins.

    Args:
        counts: What was shown and clicked.
        estimate: Of the same counts.
        min_impressions: Pairs with fewer are left out: neither relevant nor irrelevant.
        relevant_from: Clicked pairs with a label above this count as relevant; see `two_groups` if None.

    Raises:
        InputError: If an option is out of range.
    """
    if min_impressions < 1:
        raise InputError(f"min_impressions must be at least 1, not {min_impressions}")
    if relevant_from is not None and not 0 <= relevant_from < 1:
        raise InputError(f"relevant_from must be from 0 to below 1, not {relevant_from}")
    impressions = counts.by_pair(counts.impressions)
    kept = np.flatnonzero(impressions >= min_impressions)
    if relevant_from is None:
        relevant_from = two_groups(estimate.labels[kept])
    return ClickLabels(counts, estimate, kept, relevant_from)


def two_groups(labels: npt.NDArray[np.float64]) -> float:
    """Return the number that parts labels into two groups best: the variance between the groups is the highest.

    Most of what is shown is not relevant, so the mean label lies among what is not, and the more so where a debiased
    label of a low position is one lucky click over a small chance. Labels that are all the same are not parted.

    Source: Otsu, "A threshold selection method from gray-level histograms" (1979).
    """
    ordered = np.sort(labels)
    if not len(ordered) or ordered[0] == ordered[-1]:
        return float(ordered[0]) if len(ordered) else 0.0
    below, total = np.arange(1, len(ordered)), ordered.sum()
    sums = np.cumsum(ordered)[:-1]
    above = len(ordered) - below
    between = below * above * (sums / below - (total - sums) / above) ** 2
    place = int(np.where(ordered[1:] > ordered[:-1], between, -1).argmax())
    return float((ordered[place] + ordered[place + 1]) / 2)
