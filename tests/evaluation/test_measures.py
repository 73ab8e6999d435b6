import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from crossrank.data.trec import Candidate
from crossrank.errors import InputError
from crossrank.evaluation.measures import DEFAULT_MEASURES, parse_measures, per_query
from crossrank.evaluation.ordering import best_first

MEASURES = parse_measures(DEFAULT_MEASURES)
TREC_EVAL = {"nDCG@10": "ndcg_cut_10", "R@5": "recall_5", "AP@100": "map_cut_100"}


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000))
def test_equal_to_trec_eval_where_no_scores_are_equal(seed):
    generator = np.random.default_rng(seed)
    documents = [f"d{i}" for i in range(30)]
    qrels = {
        f"q{i}": {d: int(generator.integers(0, 4)) for d in generator.permutation(documents)[:10]} for i in range(4)
    }
    scores = {
        query_id: dict(zip(generator.permutation(documents), generator.permutation(30) / 7.0 - 2, strict=True))
        for query_id in qrels
    }
    run = {
        query_id: best_first(Candidate(str(d), float(s)) for d, s in found.items())
        for query_id, found in scores.items()
    }
    ours = per_query(run, qrels, MEASURES)
    plain = {query_id: {str(d): float(s) for d, s in found.items()} for query_id, found in scores.items()}
    reference = pytrec_eval.RelevanceEvaluator(qrels, {*TREC_EVAL.values(), "recip_rank"}).evaluate(plain)
    for query_id in qrels:
        for name, key in TREC_EVAL.items():
            assert ours[name][query_id] == pytest.approx(reference[query_id][key], abs=1e-12), (query_id, name)
        reciprocal = reference[query_id]["recip_rank"]
        assert ours["RR@10"][query_id] == pytest.approx(reciprocal if reciprocal >= 0.1 else 0.0)


@pytest.mark.parametrize(("relevant", "place"), [("a", 1), ("b", 2), ("c", 3)])
def test_equal_scores_worked_by_hand(relevant, place):
    # Three equal scores stay in the order given: a, b, c. One rule for every measure.
    run = {"q": best_first([Candidate("a", 1.0), Candidate("b", 1.0), Candidate("c", 1.0)])}
    values = per_query(run, {"q": {relevant: 1}}, parse_measures("nDCG@10,RR@10,RR,P@1,R@2,AP@100,Success@2"))
    print(relevant, values)
    expected = {
        "nDCG@10": 1 / math.log2(place + 1),
        "RR@10": 1 / place,
        "RR": 1 / place,
        "P@1": float(place == 1),
        "R@2": float(place <= 2),
        "AP@100": 1 / place,
        "Success@2": float(place <= 2),
    }
    assert {name: found["q"] for name, found in values.items()} == pytest.approx(expected)


def test_scores_that_float32_cannot_tell_apart_are_told_apart():
    run = {"q": best_first([Candidate("z", 1.0), Candidate("a", 1.0 + 1e-12)])}
    assert per_query(run, {"q": {"a": 1}}, MEASURES)["RR@10"]["q"] == 1.0


def test_every_judged_query_counts():
    run = {"q1": (Candidate("a", 1.0),), "q2": (), "stranger": (Candidate("a", 1.0),)}
    qrels = {"q1": {"a": 1}, "q2": {"a": 1}, "q3": {"a": 1}, "q4": {"a": 0}}
    assert per_query(run, qrels, MEASURES)["nDCG@10"] == {"q1": 1.0, "q2": 0.0, "q3": 0.0, "q4": 0.0}
    for name in (DEFAULT_MEASURES, "Judged@10"):
        for values in per_query({}, qrels, parse_measures(name)).values():
            assert values == dict.fromkeys(qrels, 0.0)


def test_names():
    assert [m.name for m in parse_measures("Recall@5, MRR@10,nDCG@10,R@5")] == ["R@5", "RR@10", "nDCG@10"]
    assert [m.cutoff for m in parse_measures("nDCG@3,RR,AP(rel=2)@10")] == [3, None, 10]


@pytest.mark.parametrize("name", ["", "nDCG@0", "nDCG@-1", "nDCG@", "foo@10", "ERR@10", "nDCG@10,,R@5", "RR@x",
                                  "nDCG(dcg='exp-log2')@10", "R(x=1)@5"])  # fmt: skip
def test_a_name_that_is_none(name):
    with pytest.raises(InputError, match=r"is no measure; known are nDCG@k"):
        parse_measures(name)
