"""Which pairs are computed together: pure arithmetic on token counts.

Shape letters: `P` pairs, `B` pairs of one batch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# A batch below this many tokens spends its time on reading weights and on overhead rather than on arithmetic.
MIN_BUDGET_TOKENS = 192


def plan_batches(
    lengths: npt.NDArray[np.int64], *, budget_tokens: int, num_streams: int = 1
) -> list[npt.NDArray[np.int64]]:
    """Group pairs into batches, longest pairs first.

    Every pair is in exactly one batch. Within a batch the lengths are as close as sorting makes them, and
    `longest * pairs` is at most `budget_tokens`, unless one pair alone is longer.

    With several streams, there are as few batches of equal work as give every stream the same number of them, so that
    the streams finish together; little work is spread over fewer streams.

    Args:
        lengths: Tokens of each pair, int64 `(P,)`, each at least 1.
        budget_tokens: Most tokens of a batch, padding included.
        num_streams: How many batches are computed at the same time.

    Returns:
        The batches in the order in which they should start, each int64 `(B,)` indices into `lengths`.

    Source: the longest-processing-time-first order of Graham (1969).
    """
    order = np.argsort(-lengths, kind="stable")
    if num_streams == 1:
        return _cut(lengths, order, budget_tokens, 1)
    tokens = int(lengths.sum())
    num_batches = min(_round_up(-(-tokens // budget_tokens), num_streams), -(-tokens // MIN_BUDGET_TOKENS))
    batches = _cut(lengths, order, budget_tokens, num_batches)
    if len(batches) <= num_batches:
        return batches
    # Padding has taken the room of some tokens: one batch more would keep one stream busy while the others wait.
    return _cut(lengths, order, budget_tokens, _round_up(len(batches), num_streams))


def _cut(
    lengths: npt.NDArray[np.int64], order: npt.NDArray[np.int64], budget_tokens: int, num_batches: int
) -> list[npt.NDArray[np.int64]]:
    """Cut pairs into so many batches of equal tokens, or into more where they would not keep the budget."""
    ends = np.cumsum(lengths[order])
    middles = ends - lengths[order] // 2
    batches: list[npt.NDArray[np.int64]] = []
    start = done = 0
    while start < len(order):
        share = (int(ends[-1]) - done) / max(1, num_batches - len(batches))
        # Up to the last pair that is for the most part inside the share.
        stop = int(np.searchsorted(middles, done + share, side="right"))
        stop = start + max(1, min(stop - start, budget_tokens // int(lengths[order[start]])))
        batches.append(order[start:stop])
        start, done = stop, int(ends[stop - 1])
    return batches


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def padding_share(lengths: npt.NDArray[np.int64], batches: list[npt.NDArray[np.int64]]) -> float:
    """Return the part of the positions of padded batches that holds no token, from 0 to below 1."""
    positions = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    return 1 - int(lengths.sum()) / positions
