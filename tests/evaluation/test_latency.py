import numpy as np
import pytest

from crossrank.evaluation.latency import (
    WARM_UP,
    made_up_requests,
    measure_latency,
    pareto_frontier,
    peak_memory_bytes,
)
from crossrank.types import Hit, Ranking


class Model:
    """Each request takes its number of milliseconds on a clock that only this model moves."""

    def __init__(self):
        self.now, self.ranked, self.scored = 0.0, [], 0

    def rank(self, query, documents, *, top_k=None):
        self.ranked.append(query)
        self.now += int(query) / 1000
        return Ranking(query, tuple(Hit(i, 0.0, document) for i, document in enumerate(documents)))


class Scoring(Model):
    def score(self, pairs):
        self.scored += len(pairs)
        self.now += 0.5
        return np.zeros(len(pairs), np.float32)


REQUESTS = [(str(i), ["a", "b"]) for i in range(1, 101)]


def test_percentiles_worked_by_hand():
    model = Scoring()
    found = measure_latency(model, REQUESTS, clock=lambda: model.now)
    print(found)
    assert found.p50_ms == pytest.approx(50.5)
    assert found.p95_ms == pytest.approx(95.05)
    assert found.pairs_per_second == pytest.approx(200 / 0.5)
    assert (found.documents, found.requests) == (2, 100)
    assert model.ranked == [str(i) for i in range(1, WARM_UP + 1)] + [query for query, _ in REQUESTS]
    assert model.scored == 200


def test_a_model_that_only_ranks():
    model = Model()
    found = measure_latency(model, REQUESTS, clock=lambda: model.now)
    assert found.pairs_per_second == pytest.approx(200 / (sum(range(1, 101)) / 1000))


def test_made_up_requests_are_the_same_every_time():
    requests = made_up_requests(3, 4)
    assert requests == made_up_requests(3, 4)
    assert [len(documents) for _, documents in requests] == [4, 4, 4]
    assert {len(document.text.split()) for _, documents in requests for document in documents} == {100}
    assert len({query for query, _ in requests}) == 3


def test_peak_memory_grows_with_what_is_held():
    before = peak_memory_bytes()
    held = np.ones(30_000_000)
    after = peak_memory_bytes()
    print(before, after)
    assert 10e6 < before <= after
    assert after >= held.nbytes


def test_the_frontier():
    points = [("fast", 1.0, 0.5), ("good", 9.0, 0.9), ("worse", 5.0, 0.5), ("same", 1.0, 0.4), ("twin", 9.0, 0.9)]
    assert pareto_frontier(points) == ["fast", "good", "twin"]
