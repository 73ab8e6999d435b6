"""Fusion is checked against numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.errors import InputError
from crossrank.retrieval.fusion import NORMALISATIONS, fuse


def test_zscore_by_hand():
    # z of (1, 2, 3) is (-1.2247, 0, 1.2247); z of (30, 10, 20) is (1.2247, -1.2247, 0)
    fused = fuse([1, 2, 3], [30, 10, 20], method="zscore", weight=0.75)
    np.testing.assert_allclose(fused, [-0.6124, -0.3062, 0.9186], atol=1e-4)


def test_minmax_by_hand():
    fused = fuse([0, 5, 10], [4, 2, 0], method="minmax", weight=0.5)
    np.testing.assert_allclose(fused, [0.5, 0.5, 0.5])


def test_reciprocal_ranks_by_hand_and_equal_scores_share_a_rank():
    fused = fuse([9, 9, 1], [1, 2, 3], method="rrf", weight=0.5)
    np.testing.assert_allclose(fused, [(1 / 61 + 1 / 63) / 2, (1 / 61 + 1 / 62) / 2, (1 / 63 + 1 / 61) / 2], rtol=1e-6)


@pytest.mark.parametrize("method", NORMALISATIONS)
def test_equal_scores_leave_the_order_to_the_other_side(method):
    assert np.argsort(-fuse([7, 7, 7], [1, 3, 2], method=method, weight=0.9)).tolist() == [1, 2, 0]


@pytest.mark.parametrize("method", ["zscore", "minmax"])
def test_equal_scores_count_nothing(method):
    """The mean of three times 0.1 is not 0.1, and 0.1 less that mean is as large as the deviation."""
    assert fuse([0.1, 0.1, 0.1], [0.3, 0.3, 0.3], method=method, weight=0.5).tolist() == [0, 0, 0]


@pytest.mark.parametrize("unit", [1e-308, 1e-200, 1.0, 1e200, 8e307])
@pytest.mark.parametrize("method", NORMALISATIONS)
def test_the_unit_of_the_scores_does_not_matter(method, unit):
    scores = np.array([1.0, -2.0, 2.0, 0.5])
    fused = fuse([0, 0, 0, 0], scores * unit, method=method, weight=0.5)
    np.testing.assert_allclose(fused, fuse([0, 0, 0, 0], scores, method=method, weight=0.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("first_stage", "options", "message"),
    [
        ([1.0], {"method": "zscore", "weight": 0.5}, "one first-stage score a document"),
        ([1.0, float("nan")], {"method": "zscore", "weight": 0.5}, "document 1 is not finite"),
        ([1.0, 2.0], {"method": "mean", "weight": 0.5}, "zscore, minmax, rrf"),
        ([1.0, 2.0], {"method": "rrf", "weight": 1.5}, "between 0 and 1"),
    ],
)
def test_bad_input_is_an_error(first_stage, options, message):
    with pytest.raises(InputError, match=message):
        fuse([1.0, 2.0], first_stage, **options)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.sampled_from(sorted(NORMALISATIONS)))
def test_the_whole_weight_on_one_side_keeps_its_order(scores, method):
    reranker = np.round(np.array(scores), 3)
    fused = fuse(reranker, np.zeros(len(scores)), method=method, weight=1.0)
    for i in range(len(scores)):
        assert all(fused[i] >= fused[j] for j in range(len(scores)) if reranker[i] > reranker[j])
