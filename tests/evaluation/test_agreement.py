"""Cohen's kappa against scikit-learn, and against a table worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from crossrank.errors import InputError
from crossrank.evaluation.agreement import cohen_kappa, compare_labels

POWERS = {"kappa_nominal": None, "kappa_linear": "linear", "kappa_quadratic": "quadratic"}


def pairs_of(grades):
    return {("q", str(i)): grade for i, grade in enumerate(grades)}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60))
def test_every_kappa_is_that_of_scikit_learn(judged):
    first, second = map(list, zip(*judged, strict=True))
    assume(len({*first, *second}) > 1)
    report = compare_labels(pairs_of(first), pairs_of(second)).to_dict()
    for name, weights in POWERS.items():
        expected = cohen_kappa_score(first, second, labels=list(range(4)), weights=weights)
        assert report[name]["value"] == pytest.approx(expected, nan_ok=True)
    size = len(report["confusion"])
    assert report["confusion"] == confusion_matrix(first, second, labels=list(range(size))).tolist()
    relevant = [[grade >= 2 for grade in grades] for grades in (first, second)]
    if len({*relevant[0], *relevant[1]}) > 1:
        assert report["kappa_binary"]["value"] == pytest.approx(cohen_kappa_score(*relevant))


def test_a_table_worked_by_hand():
    # Cohen: 20 and 15 agreed of 50, by chance half: (0.7 - 0.5) / (1 - 0.5).
    assert cohen_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)


def test_what_one_has_alone_bias_and_interval():
    human = {("q", "a"): 0, ("q", "b"): 1, ("q", "c"): 3, ("q", "d"): 2, ("r", "a"): 1}
    model = {("q", "a"): 1, ("q", "b"): 2, ("q", "c"): 3, ("q", "d"): 2, ("s", "a"): 1, ("s", "b"): 1}
    report = compare_labels(human, model).to_dict()
    assert (report["pairs"], report["only_first"], report["only_second"]) == (4, 1, 2)
    assert (report["same_grade"], report["same_relevance"], report["second_minus_first"]) == (0.5, 0.75, 0.5)
    binary = report["kappa_binary"]
    assert binary["low"] <= binary["value"] <= binary["high"] and binary["low"] < binary["high"]
    assert report == compare_labels(human, model).to_dict(), "the interval is not repeatable"


def test_where_kappa_is_not_defined_and_where_nothing_can_be_compared():
    report = compare_labels(pairs_of([1, 1]), pairs_of([1, 1])).to_dict()
    assert report["kappa_binary"] == {"value": None, "low": None, "high": None}
    with pytest.raises(InputError, match="no labelled pair in common"):
        compare_labels({("q", "a"): 1}, {("q", "b"): 1})
