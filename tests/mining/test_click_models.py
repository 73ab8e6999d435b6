"""Each estimator against numbers worked by hand, and against clicks whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from crossrank.errors import InputError
from crossrank.mining.click_counts import ClickCounts, count_clicks
from crossrank.mining.click_models import (
    ESTIMATORS,
    cascade_model,
    inverse_propensity,
    naive_ctr,
    position_based_model,
    satisfied_ctr,
)
from crossrank.mining.click_simulator import attractiveness, position_bias, simulate_clicks


def test_rates_by_hand(page):
    counts = count_clicks([page(None, 40.0, 2.0, None), page(None, None)])
    assert naive_ctr(counts, prior_strength=0).labels.tolist() == [0, 1 / 2, 1, 0]
    assert cascade_model(counts, prior_strength=0).labels[:2].tolist() == [0, 1 / 2]
    # Two clicks in six impressions are the prior; worth 3 impressions it moves d0 from 0 of 2 to 1 of 5.
    assert naive_ctr(counts, prior_strength=3).labels[0] == pytest.approx((0 + 3 * 2 / 6) / (2 + 3))
    assert satisfied_ctr(counts, prior_strength=0).labels.tolist() == [0, 1 / 2, 1, 0]


def test_inverse_propensity_by_hand(page):
    counts = count_clicks([page(None, 1.0), page(None, None), page(None, None), page(None, None)])
    # d1 is clicked once in four impressions at a position that is looked at half of the time.
    labels = inverse_propensity(counts, propensities=np.array([1.0, 0.5]), prior_strength=0).labels
    assert labels.tolist() == [0, 0.5]
    clipped = inverse_propensity(counts, propensities=np.array([1.0, 0.01]), min_propensity=0.25, prior_strength=0)
    assert clipped.labels.tolist() == [0, 1.0], "weighs 4 rather than 100"
    with pytest.raises(InputError, match="1 propensities for 2 positions"):
        inverse_propensity(counts, propensities=np.array([1.0]))
    with pytest.raises(InputError, match="above 0 and at most 1"):
        inverse_propensity(counts, propensities=np.array([1.0, 0.0]))


def simulated(user: str, *, severity: float = 1.0, shuffle: float = 0.2) -> tuple[ClickCounts, np.ndarray]:
    """Return clicks on 40 queries with 8 documents and the true attractiveness of each pair; the worst stand on top."""
    rng = np.random.default_rng(5)
    qrels = {f"q{q}": {f"d{d}": int(rng.integers(0, 4)) for d in range(8)} for q in range(40)}
    rankings = {query: sorted(grades, key=lambda d: grades[d] + rng.normal(0, 1)) for query, grades in qrels.items()}
    queries = {query: f"query {query}" for query in qrels}
    pages = simulate_clicks(
        rankings, qrels, queries=queries, num_pages=20_000, severity=severity, shuffle=shuffle, user=user, seed=1
    )
    counts = count_clicks(pages)
    pairs = zip(counts.query_of_pair, counts.document_ids, strict=True)
    grades = np.array([qrels[counts.query_ids[query]][document_id] for query, document_id in pairs])
    return counts, attractiveness(grades, max_grade=3)


def agreement(counts: ClickCounts, labels: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of document pairs of a query, of different relevance, that the labels order rightly."""
    right = total = 0
    for query in range(len(counts.queries)):
        rows = np.flatnonzero(counts.query_of_pair == query)
        better = truth[rows][:, None] > truth[rows][None, :]
        right += ((labels[rows][:, None] > labels[rows][None, :]) & better).sum()
        total += better.sum()
    return right / total


def test_under_a_strong_position_bias_the_debiased_labels_are_nearer_to_the_truth():
    counts, truth = simulated("pbm")
    found = {name: agreement(counts, estimate(counts).labels, truth) for name, estimate in ESTIMATORS.items()}
    assert found["naive"] < 0.9, found
    assert min(found["pbm"], found["ips"]) > found["naive"] + 0.1, found
    assert found["naive"] < found["satisfied"] < found["pbm"], found


def test_without_position_bias_nothing_is_lost_by_counting_plainly():
    counts, truth = simulated("pbm", severity=0.0)
    assert agreement(counts, naive_ctr(counts).labels, truth) > 0.97


def test_the_position_based_model_finds_the_propensities_and_the_attractiveness():
    counts, truth = simulated("pbm", shuffle=1.0)
    estimate = position_based_model(counts, prior_strength=0)
    np.testing.assert_allclose(estimate.propensities, position_bias(8), atol=0.04)
    assert np.abs(estimate.labels - truth).mean() < 0.06


def test_the_cascade_model_is_right_about_users_who_stop_at_a_click():
    counts, truth = simulated("cascade")
    cascade, naive = cascade_model(counts).labels, naive_ctr(counts).labels
    assert agreement(counts, cascade, truth) > agreement(counts, naive, truth) + 0.05
    enough = counts.by_pair(counts.examined) > 100
    assert np.abs(cascade - truth)[enough].mean() < 0.05


def test_every_label_is_between_0_and_1_and_an_empty_log_has_none():
    counts, _ = simulated("pbm")
    for estimate in ESTIMATORS.values():
        labels = estimate(counts).labels
        assert labels.min() >= 0 and labels.max() <= 1
        assert estimate(count_clicks([])).labels.shape == (0,)
    with pytest.raises(InputError, match="at least 0 impressions"):
        naive_ctr(counts, prior_strength=-1)
