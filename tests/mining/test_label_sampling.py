from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.errors import InputError
from crossrank.mining.label_sampling import STRATEGIES, sample_pairs


def run_of(num_queries=4, num_documents=50, reverse=False):
    order = range(num_documents - 1, -1, -1) if reverse else range(num_documents)
    return {
        f"q{q}": [(f"d{d}", float(num_documents - rank)) for rank, d in enumerate(order)] for q in range(num_queries)
    }


def test_uncertain_takes_the_middle_of_the_scores():
    run = {"q": [("a", 9.0), ("b", 5.2), ("c", 4.0), ("d", 1.0), ("e", 1.5)]}
    assert sample_pairs([run], budget=2, strategy="uncertain") == {"q": ["b", "c"]}


def test_disagreeing_takes_what_one_run_has_at_its_top_and_the_other_not_at_all():
    first = {"q": [("a", 3.0), ("b", 2.0), ("c", 1.0)]}
    second = {"q": [("x", 9.0), ("b", 8.0), ("c", 7.0)]}
    assert sample_pairs([first, second], budget=2, strategy="disagreeing") == {"q": ["x", "a"]}
    with pytest.raises(InputError, match="at least two"):
        sample_pairs([first], budget=2, strategy="disagreeing")


def test_stratified_takes_as_many_from_each_fifth():
    chosen = sample_pairs([run_of()], budget=4 * 10, strategy="stratified", seed=1)
    for documents in chosen.values():
        assert Counter(int(document[1:]) // 10 for document in documents) == dict.fromkeys(range(5), 2)
    assert chosen == sample_pairs([run_of()], budget=4 * 10, strategy="stratified", seed=1)
    assert chosen != sample_pairs([run_of()], budget=4 * 10, strategy="stratified", seed=2)


@given(st.sampled_from(sorted(STRATEGIES)), st.integers(1, 120), st.integers(0, 3))
def test_a_budget_is_spent_to_the_last_pair_and_evenly_over_the_queries(strategy, budget, seed):
    runs = [run_of(3, 30), run_of(3, 30, reverse=True)]
    chosen = sample_pairs(runs, budget=budget, strategy=strategy, seed=seed)
    sizes = [len(documents) for documents in chosen.values()]
    assert sum(sizes) == min(budget, 90)
    assert all(len(set(documents)) == len(documents) for documents in chosen.values())
    assert budget < 3 or max(sizes) - min(sizes) <= 1


def test_small_and_empty_runs():
    assert sample_pairs([{"q": [("a", 1.0)], "r": []}], budget=9, strategy="uncertain") == {"q": ["a"]}
    assert sample_pairs([{}], budget=9, strategy="stratified") == {}
    with pytest.raises(InputError):
        sample_pairs([run_of()], budget=0, strategy="stratified")
