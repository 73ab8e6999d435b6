"""Orders: the windows of a list, its sorting by choices of the best, and the order that several orders agree on.

Shape letters: `N` documents, `V` votes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt


def windows(count: int, *, size: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield half-open windows over a list, from its back to its front; the last one begins at 0.

    Source: Sun et al., "Is ChatGPT Good at Search?" (EMNLP 2023): what is best in a window is in the next one too.
    """
    end = count
    while end > 0:
        start = max(end - size, 0)
        yield start, end
        end = end - step if start else 0


def heap_order(count: int, choose: Callable[[list[int]], int], *, top: int, set_size: int) -> list[int]:
    """Sort positions by a heap whose nodes are compared with all their children in one choice.

    Args:
        count: Number of positions.
        choose: Gets positions in no particular order, at most `set_size`, and returns the best of them.
        top: So many places are sorted; the other positions follow in their own order.
        set_size: Positions of one choice, at least 2: a node and its children.

    Source: Zhuang et al., "A Setwise Approach for Effective and Highly Efficient Zero-shot Ranking with Large Language
    Models" (SIGIR 2024).
    """
    children = set_size - 1
    heap = list(range(count))

    def sift_down(node: int) -> None:
        while below := range(children * node + 1, min(children * (node + 1) + 1, len(heap))):
            family = [node, *below]
            best = heap.index(choose([heap[member] for member in family]))
            if best == node:
                return
            heap[node], heap[best] = heap[best], heap[node]
            node = best

    for node in reversed(range((count - 2) // children + 1)):
        sift_down(node)
    order: list[int] = []
    while heap and len(order) < top:
        order.append(heap[0])
        last = heap.pop()
        if heap:
            heap[0] = last
            if len(order) < top:
                sift_down(0)
    return order + sorted(heap)


def consensus(votes: Sequence[Sequence[int]]) -> list[int]:
    """Return an order with few disagreements with all votes, pair by pair (Kendall tau distance).

    It begins with the order of mean ranks, and moves single positions as long as that lowers the number of
    disagreements: a local optimum, and with three positions or fewer the best there is. Where votes are even, the
    lower position comes first.

    Args:
        votes: Orders of the same positions 0 to N-1, `(V, N)`.

    Source: Tang et al., "Found in the Middle: Permutation Self-Consistency Improves Listwise Ranking in Large Language
    Models" (NAACL 2024), for the central ranking.
    """
    ranks_VN = np.argsort(np.asarray(votes, np.int64), axis=1)
    # How many votes more put n before m than m before n.
    before_NN = np.sign(ranks_VN[:, None, :] - ranks_VN[:, :, None]).sum(axis=0)
    order = [int(n) for n in np.argsort(ranks_VN.mean(axis=0), kind="stable")]
    while _move_one(order, before_NN):
        pass
    return _settle_ties(order, before_NN)


def _move_one(order: list[int], before_NN: npt.NDArray[np.int64]) -> bool:
    """Move the first position that has a better place to its best one, and return whether there was any."""
    for at, position in enumerate(order):
        others = order[:at] + order[at + 1 :]
        # Gain of every place: votes for standing after what is in front, minus votes against.
        wins = before_NN[position, others]
        gains = np.concatenate([[0], -np.cumsum(wins)])
        best = int(gains.argmax())
        if gains[best] > gains[at]:
            order[:] = [*others[:best], position, *others[best:]]
            return True
    return False


def _settle_ties(order: list[int], before_NN: npt.NDArray[np.int64]) -> list[int]:
    """Swap neighbours on which the votes are even into the order that came in."""
    settled = list(order)
    for end in range(len(settled) - 1, 0, -1):
        for i in range(end):
            first, second = settled[i], settled[i + 1]
            if first > second and before_NN[first, second] == 0:
                settled[i], settled[i + 1] = second, first
    return settled
