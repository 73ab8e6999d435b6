"""Which pairs are computed together: pure arithmetic on token counts.

Shape letters: `P` pairs, `B` pairs of one batch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# A batch below this many tokens spends its time on reading weights and on overhead rather than on arithmetic.
MIN_BUDGET_TOKENS = 192
# Batches that every stream should still get out of what is left when a batch is cut.
_SHARES_PER_STREAM = 2


def plan_batches(
    lengths: npt.NDArray[np.int64], *, budget_tokens: int, num_streams: int = 1
) -> list[npt.NDArray[np.int64]]:
    """Group pairs into batches, longest pairs first.

    Every pair is in exactly one batch. Within a batch the lengths are as close as sorting makes them, and
    `longest * pairs` is at most `budget_tokens`, unless one pair alone is longer.

    With several streams, batches also become smaller towards the end, so that the streams finish together: a batch
    takes at most half of an even share of the work that is left.

    Args:
        lengths: Tokens of each pair, int64 `(P,)`, each at least 1.
        budget_tokens: Most tokens of a batch, padding included.
        num_streams: How many batches are computed at the same time.

    Returns:
        The batches in the order in which they should start, each int64 `(B,)` indices into `lengths`.

    Source: guided self-scheduling, Polychronopoulos and Kuck (1987), on the longest-processing-time-first order of
    Graham (1969).
    """
    order = np.argsort(-lengths, kind="stable")
    left = int(lengths.sum())
    batches: list[npt.NDArray[np.int64]] = []
    start = 0
    while start < len(order):
        budget = budget_tokens
        if num_streams > 1:
            share = left // (num_streams * _SHARES_PER_STREAM)
            budget = min(budget_tokens, max(share, MIN_BUDGET_TOKENS))
        count = max(1, budget // int(lengths[order[start]]))
        batch = order[start : start + count]
        batches.append(batch)
        left -= int(lengths[batch].sum())
        start += count
    return batches


def padding_share(lengths: npt.NDArray[np.int64], batches: list[npt.NDArray[np.int64]]) -> float:
    """Return the part of the positions of padded batches that holds no token, from 0 to below 1."""
    positions = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    return 1 - int(lengths.sum()) / positions
