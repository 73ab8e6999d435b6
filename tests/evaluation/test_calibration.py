import json

import numpy as np
import pytest
from scipy.special import expit

from crossrank.data.trec import Candidate
from crossrank.errors import InputError
from crossrank.evaluation.calibration import (
    Bin,
    LabelledPairs,
    Scaling,
    fit,
    judge,
    split_by_query,
    thresholds,
)
from crossrank.evaluation.calibration_report import CalibrationResult, write_calibration_report


def draw(slope, intercept, *, count=20_000, seed=0):
    """Scores whose labels follow a known curve."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(2.0, 4.0, count)
    return LabelledPairs(scores, generator.random(count) < expit(slope * scores + intercept), 10)


@pytest.mark.parametrize(("slope", "intercept"), [(0.5, -3.0), (2.0, 1.0), (0.05, -0.5)])
def test_platt_finds_the_curve_that_made_the_labels(slope, intercept):
    found = fit(draw(slope, intercept), "platt")
    print(found)
    assert found == pytest.approx((slope, intercept), rel=0.1, abs=0.05)


def test_temperature_finds_the_slope_and_has_no_intercept():
    found = fit(draw(0.4, 0.0), "temperature")
    print(found)
    assert found.slope == pytest.approx(0.4, rel=0.05)
    assert found.intercept == 0.0


def test_platt_agrees_with_another_implementation():
    from scipy.optimize import minimize

    pairs = draw(0.7, -2.0, count=500)
    positives, negatives = pairs.relevant.sum(), (~pairs.relevant).sum()
    targets = np.where(pairs.relevant, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(parameters):
        p = expit(parameters[0] * pairs.scores + parameters[1])
        return -np.sum(targets * np.log(p) + (1 - targets) * np.log(1 - p))

    assert fit(pairs, "platt") == pytest.approx(minimize(loss, [1.0, 0.0], method="Nelder-Mead").x, rel=1e-2)


def test_separable_labels_have_a_finite_slope():
    scores = np.arange(10.0)
    found = fit(LabelledPairs(scores, scores > 4.5, 1), "platt")
    print(found)
    assert 0 < found.slope < 20
    assert np.isfinite(found.intercept)


@pytest.mark.parametrize("scores", [[3.0, 2.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
def test_scores_that_do_not_rise_with_relevance_are_an_error(scores):
    with pytest.raises(InputError, match="relevant candidates do not score higher"):
        fit(LabelledPairs(np.array(scores), np.array([False, False, True, True]), 1), "platt")


def test_quality_worked_by_hand():
    found = judge(np.array([0.1, 0.1, 0.8, 1.0]), np.array([False, True, True, True]))
    print(found)
    assert found.bins == (
        Bin(2, pytest.approx(0.1), 0.5), Bin(1, pytest.approx(0.8), 1.0), Bin(1, 1.0, 1.0),
    )  # fmt: skip
    assert found.ece == pytest.approx((2 * 0.4 + 1 * 0.2 + 0) / 4)
    assert found.brier == pytest.approx((0.01 + 0.81 + 0.04 + 0) / 4)
    assert found.log_loss == pytest.approx(-np.mean(np.log([0.9, 0.1, 0.8, 1.0])))


def test_calibrated_probabilities_are_better_and_keep_the_order():
    to_fit, held_out = draw(0.3, -2.5, seed=1), draw(0.3, -2.5, seed=2)
    scaling = fit(to_fit, "platt")
    before = judge(Scaling(1.0, 0.0).probabilities(held_out.scores), held_out.relevant)
    after = judge(scaling.probabilities(held_out.scores), held_out.relevant)
    print(before.ece, after.ece)
    assert after.ece < 0.02 < before.ece
    assert after.brier < before.brier
    ordered = np.argsort(held_out.scores)
    assert (np.diff(scaling.probabilities(held_out.scores)[ordered]) >= 0).all()


def test_thresholds_worked_by_hand():
    fitted, labels = np.array([0.9, 0.8, 0.8, 0.3]), np.array([True, True, False, True])
    held_out, held_out_labels = np.array([0.95, 0.85, 0.7]), np.array([True, False, True])
    found = thresholds(fitted, labels, held_out, held_out_labels, [0.6, 0.75, 0.9])
    print(found)
    # Down to 0.9: 1 of 1; to 0.8: 2 of 3; to 0.3: 3 of 4.
    assert found[0] == (0.6, 0.3, pytest.approx(2 / 3), 1.0)
    assert found[1] == (0.75, 0.3, pytest.approx(2 / 3), 1.0)
    assert found[2] == (0.9, 0.9, 1.0, 0.5)
    assert thresholds(fitted, ~labels, held_out, held_out_labels, [0.9]) == [(0.9, None, None, None)]


def run_of(num_queries, relevant="d0"):
    run = {f"q{i}": (Candidate("d0", 2.0), Candidate("d1", 1.0)) for i in range(num_queries)}
    return run, {query_id: {relevant: 1} for query_id in run}


def test_the_halves_share_no_query_and_unjudged_candidates_are_not_relevant():
    one, other = split_by_query(*run_of(9))
    assert (one.num_queries, other.num_queries) == (5, 4)
    assert (len(one), one.relevant.sum(), len(other), other.relevant.sum()) == (10, 5, 8, 4)
    assert set(one.scores[one.relevant]) == {2.0}


@pytest.mark.parametrize("arguments", [run_of(1), run_of(6, "elsewhere"), ({}, {"q": {"d": 1}})])
def test_too_few_labels_are_an_error(arguments):
    with pytest.raises(InputError, match="too few labels"):
        split_by_query(*arguments)


def test_the_report(tmp_path):
    to_fit, held_out = draw(0.3, -2.5, seed=1, count=400), draw(0.3, -2.5, seed=2, count=400)
    scaling = fit(to_fit, "platt")
    after = scaling.probabilities(held_out.scores)
    cuts = thresholds(scaling.probabilities(to_fit.scores), to_fit.relevant, after, held_out.relevant, [0.5, 1.0])
    quality = judge(after, held_out.relevant)
    result = CalibrationResult("<m>", "data", "platt", scaling, to_fit, held_out, quality, quality, cuts)
    write_calibration_report(tmp_path, result)
    facts = json.loads((tmp_path / "calibration.json").read_text())
    assert facts["slope"] == scaling.slope
    assert facts["held_out"] == {"queries": 10, "pairs": 400, "relevant": int(held_out.relevant.sum())}
    assert facts["after"]["ece"] == quality.ece
    page = (tmp_path / "calibration.html").read_text()
    assert page.count("<svg") == 1
    assert "&lt;m&gt;" in page
    assert "true precision is at least what is shown" in (tmp_path / "calibration.md").read_text()
