"""Which of the candidates that may be negatives are taken: pure functions of the scores and a seed.

Shape letter: `N` candidates, the hardest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from crossrank.data.groups.sampling import hash_text, shuffled

Sampling = Literal["top", "random", "stratified"]


def choose(scores_N: Sequence[float], num: int, *, sampling: Sampling, stream: int) -> list[int]:
    """Return the places of `num` candidates (all, where there are fewer), in ascending order.

    Args:
        scores_N: Of the candidates; `"stratified"` alone looks at them.
        num: How many.
        sampling: `"top"`: the hardest. `"random"`: any, equally likely. `"stratified"`: spread evenly over the range of
            the scores, from the hardest down.
        stream: Decides what is random.
    """
    order = shuffled(stream, len(scores_N)).tolist()
    match sampling:
        case "top":
            return list(range(min(num, len(scores_N))))
        case "random":
            return sorted(order[:num])
        case "stratified":
            return sorted(_one_a_stratum(scores_N, num, order))


def _one_a_stratum(scores_N: Sequence[float], num: int, order: Sequence[int]) -> list[int]:
    """Cut the range of the scores into `num` equal strata and take one of each in turn, until there are enough."""
    if len(scores_N) <= num:
        return list(order)
    scores = np.asarray(scores_N, np.float64)
    low, high = scores.min(), scores.max()
    share = (high - scores) / (high - low) if high > low else np.zeros_like(scores)
    stratum_N = np.minimum((share * num).astype(int), num - 1)
    strata = [[place for place in order if stratum_N[place] == number] for number in range(num)]
    taken: list[int] = []
    while len(taken) < num:
        taken += [stratum.pop(0) for stratum in strata if stratum]
    return taken[:num]


def stream_of(seed: int, query_id: str, purpose: str) -> int:
    """Return a number that decides what is random for a query, the same in every process."""
    return hash_text(f"{seed}\0{query_id}\0{purpose}")
