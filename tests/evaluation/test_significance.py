import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from crossrank.evaluation.significance import (
    Interval,
    Outcome,
    bootstrap_interval,
    count_outcomes,
    holm,
    randomisation_p_value,
)


def test_the_interval_agrees_with_the_normal_approximation():
    differences = np.random.default_rng(0).normal(0.03, 0.2, 400)
    low, high = bootstrap_interval([differences])
    expected = stats.norm.interval(0.95, differences.mean(), differences.std() / 20)
    print((low, high), expected)
    assert (low, high) == pytest.approx(expected, abs=0.002)
    assert bootstrap_interval([differences]) == (low, high)


def test_the_interval_of_a_mean_over_data_sets_counts_each_the_same():
    generator = np.random.default_rng(1)
    groups = [generator.normal(0.1, 0.2, 1000), generator.normal(0.3, 0.2, 100)]
    low, high = bootstrap_interval(groups)
    middle = (groups[0].mean() + groups[1].mean()) / 2
    spread = np.sqrt(groups[0].var() / 1000 + groups[1].var() / 100) / 2
    assert (low, high) == pytest.approx((middle - 1.96 * spread, middle + 1.96 * spread), abs=0.002)


def test_equal_differences_have_no_spread():
    assert bootstrap_interval([[0.0, 0.0, 0.0]]) == Interval(0.0, 0.0)
    assert bootstrap_interval([[0.25]]) == Interval(0.25, 0.25)
    assert bootstrap_interval([[0.5], [0.1, 0.1]]) == pytest.approx((0.3, 0.3))
    low, high = bootstrap_interval([[0.0, 1.0] * 50, [0.5]])
    assert low == pytest.approx(0.45, abs=0.01)
    assert high == pytest.approx(0.55, abs=0.01)


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [([1, 1, 1], 2 / 8), ([1, 2, -3], 1.0), ([3, 2, -1], 4 / 8), ([0, 0], 1.0), ([1], 1.0), ([0, 1, 1, 1, 0], 2 / 8)],
)
def test_the_p_value_worked_by_hand(differences, p_value):
    # All 8 ways to set three signs; for 3, 2, -1 the sums are ±6, ±4, ±2, 0, 0, and |4| or more comes 4 times.
    assert randomisation_p_value(differences) == pytest.approx(p_value)


def test_the_p_value_of_many_queries_agrees_with_the_t_test():
    differences = np.random.default_rng(2).normal(0.02, 0.2, 300)
    expected = stats.ttest_1samp(differences, 0).pvalue
    print(expected)
    assert randomisation_p_value(differences) == pytest.approx(expected, abs=0.02)


def test_holm_worked_by_hand():
    # Smallest times 3, next times 2, largest times 1; never below the one before.
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.6, "b": 0.5}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8))
def test_holm_never_lowers_and_keeps_the_order(p_values):
    corrected = holm(p_values)
    assert list(corrected) == list(p_values)
    assert all(p_values[name] <= corrected[name] <= 1 for name in p_values)
    ordered = sorted(p_values, key=p_values.__getitem__)
    assert [corrected[name] for name in ordered] == sorted(corrected.values())


def test_outcomes():
    assert count_outcomes([0.1, -0.2, 0.0, 1e-12, 0.3]) == Outcome(2, 1, 2)
