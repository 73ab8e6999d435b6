import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.mining.negative_sampling import choose, stream_of

SAMPLINGS = ("top", "random", "stratified")


@given(
    st.lists(st.floats(-20, 20), max_size=40), st.integers(1, 20), st.sampled_from(SAMPLINGS), st.integers(0, 2**64 - 1)
)
def test_as_many_as_there_are_none_twice_in_order_and_again_the_same(scores, num, sampling, stream):
    scores = sorted(scores, reverse=True)
    chosen = choose(scores, num, sampling=sampling, stream=stream)
    assert len(chosen) == min(num, len(scores))
    assert chosen == sorted(set(chosen)) and all(0 <= place < len(scores) for place in chosen)
    assert chosen == choose(scores, num, sampling=sampling, stream=stream)


def test_top_takes_the_hardest():
    assert choose([9, 8, 7, 6], 2, sampling="top", stream=5) == [0, 1]


def test_random_takes_each_equally_often():
    taken = [place for stream in range(3000) for place in choose([0.0] * 10, 3, sampling="random", stream=stream)]
    np.testing.assert_allclose(np.bincount(taken) / 3000, 0.3, atol=0.04)


@pytest.mark.parametrize("stream", range(20))
def test_strata_have_equal_width_in_score_not_in_number(stream):
    """The range 10 to 0 in four strata: 10 to 7.5, to 5, to 2.5, to 0. Most candidates lie in the last one."""
    scores = [10.0, 7.0, 4.0, *(2.0 - i / 100 for i in range(100)), 0.0]
    chosen = choose(scores, 4, sampling="stratified", stream=stream)
    assert chosen[:3] == [0, 1, 2] and chosen[3] >= 3


def test_an_empty_stratum_leaves_its_turn_to_the_others():
    assert choose([10.0, 9.9, 9.8, 0.0], 3, sampling="stratified", stream=1)[-1] == 3
    assert len(choose([5.0] * 6, 4, sampling="stratified", stream=1)) == 4


def test_a_stream_depends_on_seed_query_and_purpose():
    streams = {stream_of(seed, query, purpose) for seed in (0, 1) for query in ("a", "b") for purpose in ("x", "y")}
    assert len(streams) == 8
