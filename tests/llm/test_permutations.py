from __future__ import annotations

from itertools import combinations, pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossrank.llm.permutations import consensus, heap_order, windows


def test_the_windows_of_rankgpt():
    assert list(windows(100, size=20, step=10)) == [(start, start + 20) for start in range(80, -1, -10)]
    assert list(windows(25, size=20, step=10)) == [(5, 25), (0, 15)]
    assert list(windows(7, size=20, step=10)) == [(0, 7)]
    assert list(windows(0, size=20, step=10)) == []


@given(st.integers(0, 60), st.integers(2, 12), st.data())
def test_windows_reach_everything_and_overlap(count, size, data):
    step = data.draw(st.integers(1, size))
    found = list(windows(count, size=size, step=step))
    assert {i for start, end in found for i in range(start, end)} == set(range(count))
    assert all(end - start <= size for start, end in found)
    assert all(first[0] <= second[1] for first, second in pairwise(found))


@given(st.permutations(range(15)), st.integers(1, 15), st.integers(2, 6))
def test_a_heap_sorts_its_top_and_leaves_the_rest(relevance, top, set_size):
    sets = []

    def choose(positions):
        sets.append(len(positions))
        return max(positions, key=lambda position: relevance[position])

    order = heap_order(15, choose, top=top, set_size=set_size)
    best = sorted(range(15), key=lambda position: -relevance[position])[:top]
    assert order == best + sorted(set(range(15)) - set(best))
    assert max(sets) <= set_size


def test_a_heap_needs_far_fewer_choices_than_pairs():
    calls = []
    heap_order(100, lambda positions: calls.append(0) or min(positions), top=10, set_size=4)
    assert len(calls) < 80


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_small_heaps(count):
    assert heap_order(count, max, top=10, set_size=3) == list(range(count))[::-1]


def test_a_judge_without_an_opinion_keeps_the_order():
    assert heap_order(40, min, top=10, set_size=4) == list(range(40))


def disagreements(order, votes):
    places = [np.argsort(vote) for vote in [*votes, order]]
    *votes_places, own = places
    return sum(
        (own[a] < own[b]) != (place[a] < place[b])
        for place in votes_places
        for a, b in combinations(range(len(order)), 2)
    )


@settings(max_examples=60)
@given(st.lists(st.permutations(range(5)), min_size=1, max_size=7))
def test_consensus_is_close_to_the_best_of_all_orders(votes):
    found = consensus(votes)
    assert sorted(found) == list(range(5))
    best = min(disagreements(order, votes) for order in permutations(range(5)))
    assert disagreements(found, votes) <= best + 2
    if len(votes) == 1:
        assert found == list(votes[0])


@given(st.lists(st.permutations(range(3)), min_size=1, max_size=7))
def test_consensus_of_three_is_the_best_there_is(votes):
    best = min(disagreements(order, votes) for order in permutations(range(3)))
    assert disagreements(consensus(votes), votes) == best


def test_consensus_outvotes_an_outlier_and_settles_ties_by_input():
    assert consensus([[2, 0, 1], [2, 0, 1], [1, 0, 2]]) == [2, 0, 1]
    assert consensus([[0, 1], [1, 0]]) == [0, 1]
    assert consensus([[3, 2, 1, 0], [0, 1, 2, 3]]) == [0, 1, 2, 3]
