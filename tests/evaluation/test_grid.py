"""What makes the figures honest: chance, ceiling, ties, misses, and every pair scored once."""

import numpy as np
import pytest

from crossrank.data.trec import Candidate
from crossrank.errors import DataError, InputError
from crossrank.evaluation.comparison import BM25, CEILING, FIRST_STAGE, ORACLE, RERANKED, correct_over_datasets
from crossrank.evaluation.grid import (
    Contestant,
    FirstStage,
    Rules,
    find_baselines,
    fuse_runs,
    parse_fusion,
    run_cell,
)
from crossrank.evaluation.measures import parse_measures
from crossrank.evaluation.ordering import without_order
from crossrank.evaluation.store import RunStore

RULES = Rules(parse_measures("nDCG@10,RR@10,R@5,AP@100"), depth=20)
NUM_QUERIES, DEPTH = 300, 20
QRELS = {f"q{i}": {f"d{i % DEPTH}": 1} for i in range(NUM_QUERIES)}
GRADED = {f"q{i}": {f"d{i % DEPTH}": 1, f"d{(i + 7) % DEPTH}": 2, f"d{30 + i}": 3} for i in range(NUM_QUERIES)}


@pytest.fixture(autouse=True)
def quick_resampling(monkeypatch):
    monkeypatch.setattr("crossrank.evaluation.significance.RESAMPLES", 499)


def first_stage(data):
    """All of d0 ... d19 for every query, the same order for each: the relevant one stands anywhere."""
    return {query_id: tuple(Candidate(f"d{j}", float(-j)) for j in range(DEPTH)) for query_id in data.qrels}


def evaluate(tmp_path, data, scorer, *, rules=RULES, stage=first_stage, restart=False, label="model"):
    store = RunStore(tmp_path, restart=restart)
    baselines = find_baselines(store, data, FirstStage("fixed", stage, {}), FirstStage("bm25", stage, {}), rules.depth)
    contestant = Contestant(label, {"weights": label}, lambda: scorer, ("zscore", 0.5))
    return run_cell(store, data, baselines, contestant, rules)


def test_a_random_scorer_lands_near_chance(tmp_path, make_set, look_up):
    generator = np.random.default_rng(0)
    cell, _ = evaluate(tmp_path, make_set(QRELS, num_documents=400), look_up(lambda q, d: generator.normal()))
    # One relevant document at a place from 1 to 20, each as likely.
    chance = {
        "nDCG@10": sum(1 / np.log2(place + 1) for place in range(1, 11)) / 20,
        "RR@10": sum(1 / place for place in range(1, 11)) / 20,
        "R@5": 5 / 20,
        "AP@100": sum(1 / place for place in range(1, 21)) / 20,
    }
    found = {measure: cell.mean(RERANKED, measure) for measure in cell.measures}
    print(chance, found)
    assert found == pytest.approx(chance, abs=0.06)
    difference = cell.differences[RERANKED]["nDCG@10"]
    assert difference.ci95.low < 0 < difference.ci95.high
    assert difference.p_value > 0.05


def test_an_oracle_reaches_the_ceiling_of_the_candidates_and_no_more(tmp_path, make_set, look_up):
    data = make_set(GRADED, num_documents=400)
    oracle = look_up(lambda query, document: GRADED[query.removeprefix("text of ")].get(document, 0))
    cell, _ = evaluate(tmp_path, data, oracle)
    for measure in cell.measures:
        assert cell.values[RERANKED][measure] == cell.values[CEILING][measure]
    # The best document of each query, of grade 3, is not among the candidates.
    ideal = 3 + 2 / np.log2(3) + 1 / 2
    assert cell.mean(RERANKED, "nDCG@10") == pytest.approx((2 + 1 / np.log2(3)) / ideal)
    assert cell.mean(RERANKED, "R@5") == pytest.approx(2 / 3)
    assert all((query, document) not in {("text of q0", "d30")} for query, document in oracle.pairs)


def test_a_constant_scorer_gains_nothing(tmp_path, make_set, look_up):
    cell, _ = evaluate(tmp_path, make_set(QRELS, num_documents=400), look_up(lambda q, d: 1.0))
    for measure in cell.measures:
        difference = cell.differences[RERANKED][measure]
        assert (difference.delta, difference.p_value) == (0.0, 1.0)
        assert difference.outcome == (0, 0, NUM_QUERIES)
        assert cell.values[RERANKED][measure] == cell.values[FIRST_STAGE][measure]


def test_a_constant_scorer_gains_nothing_from_lists_that_name_the_relevant_documents_first(tmp_path, make_set, look_up):
    lists = {query_id: [next(iter(grades)), *(f"d{j}" for j in range(100, 119))] for query_id, grades in QRELS.items()}
    data = make_set(QRELS, num_documents=400, candidates=lists)

    def given(data):
        return {query_id: without_order(query_id, lists[query_id]) for query_id in data.qrels}

    cell, _ = evaluate(tmp_path, data, look_up(lambda q, d: 1.0), stage=given)
    print(cell.mean(RERANKED, "R@5"))
    assert cell.mean(RERANKED, "R@5") == pytest.approx(5 / 20, abs=0.06)


def test_an_arbitrary_order_is_not_fused_with(tmp_path, make_set, look_up):
    data, scorer = make_set(QRELS, num_documents=400), look_up(lambda q, d: 1.0)
    store, stage = RunStore(tmp_path), FirstStage("given (no order)", first_stage, {}, is_ranked=False)
    baselines = find_baselines(store, data, stage, None, 20)
    model = Contestant("model", {}, lambda: scorer)
    with pytest.raises(InputError, match="come without an order or scores to fuse with"):
        run_cell(store, data, baselines, model, Rules(RULES.measures, 20, ("zscore:0.5",)))
    assert scorer.pairs == [], "said before anything is scored"
    cell, _ = run_cell(store, data, baselines, model, RULES)
    assert cell.first_stage == "given (no order)"


def test_a_query_without_candidates_counts_as_0(tmp_path, make_set, look_up):
    data = make_set({"q1": {"d1": 1}, "q2": {"d1": 1}, "q3": {"d1": 1}, "q4": {"d1": 1}})
    stage = {"q1": (Candidate("d1", 1.0),), "q2": ()}
    cell, _ = evaluate(tmp_path, data, look_up(lambda q, d: 1.0), stage=lambda data: stage)
    assert cell.values[RERANKED]["nDCG@10"] == {"q1": 1.0, "q2": 0.0, "q3": 0.0, "q4": 0.0}
    assert cell.mean(FIRST_STAGE, "nDCG@10") == cell.mean(RERANKED, "nDCG@10") == 0.25
    assert set(cell.values) == {BM25, FIRST_STAGE, RERANKED, CEILING}


def test_finished_cells_are_not_scored_again(tmp_path, make_set, look_up):
    data = make_set(QRELS, num_documents=400)
    cell, stored = evaluate(tmp_path, data, look_up(lambda q, d: len(d)))
    scorer, calls = look_up(lambda q, d: 0), []
    again, same = evaluate(tmp_path, data, scorer, stage=lambda data: calls.append(1))
    assert (scorer.pairs, calls) == ([], [])
    assert again == cell
    assert same == stored
    more = Rules(parse_measures("RR@10,P@1"), depth=20, fusions=("zscore:0.5", "checkpoint"))
    other, _ = evaluate(tmp_path, data, scorer, stage=lambda data: calls.append(1), rules=more)
    assert (scorer.pairs, calls) == ([], [])  # other measures and fusions come out of the same scores
    assert other.measures == ("RR@10", "P@1")
    assert other.rerankings == (RERANKED, "fused zscore:0.5", "fused checkpoint (zscore:0.5)")


def test_an_interrupted_cell_goes_on_and_gives_the_same_run(tmp_path, make_set, look_up):
    data = make_set(QRELS, num_documents=400)
    _, whole = evaluate(tmp_path / "whole", data, look_up(lambda q, d: hash((q, d)) % 97))

    class Interrupted:
        blocks = 0

        def score(self, pairs):
            self.blocks += 1
            if self.blocks == 3:
                raise KeyboardInterrupt
            return look_up(lambda q, d: hash((q, d)) % 97).score(pairs)

    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "cut", data, Interrupted())
    rest = look_up(lambda q, d: hash((q, d)) % 97)
    _, resumed = evaluate(tmp_path / "cut", data, rest)
    print(len(rest.pairs))
    assert 0 < len(rest.pairs) < NUM_QUERIES * DEPTH
    assert resumed.run == whole.run
    assert resumed.path.read_bytes() == whole.path.read_bytes()


def test_other_candidates_are_noticed(tmp_path, make_set, look_up):
    data = make_set(QRELS, num_documents=400)
    evaluate(tmp_path, data, look_up(lambda q, d: 0))
    with pytest.raises(DataError, match=r"made with other settings \(depth was 20, is 10\)"):
        evaluate(tmp_path, data, look_up(lambda q, d: 0), rules=Rules(RULES.measures, depth=10))
    changed = make_set({**QRELS, "q0": {"d3": 1}}, num_documents=400)
    with pytest.raises(DataError, match="queries was"):
        evaluate(tmp_path, changed, look_up(lambda q, d: 0))


def test_oracle_positives_score_only_what_was_missed_and_change_nothing_else(tmp_path, make_set, look_up):
    data = make_set(GRADED, num_documents=400)
    plain, _ = evaluate(tmp_path / "plain", data, look_up(lambda q, d: int(d[1:])))
    scorer = look_up(lambda q, d: int(d[1:]))
    rules = Rules(RULES.measures, depth=20, oracle_positives=True)
    cell, stored = evaluate(tmp_path / "oracle", data, scorer, rules=rules)
    assert len(scorer.pairs) == len(set(scorer.pairs)) == NUM_QUERIES * (DEPTH + 1)
    assert cell.values[RERANKED] == plain.values[RERANKED]
    assert cell.pairs == plain.pairs == NUM_QUERIES * DEPTH
    assert cell.mean(ORACLE, "RR@10") == 1.0  # the added ones have the highest numbers
    assert cell.mean(RERANKED, "RR@10") < 1.0
    assert all(len(found) == DEPTH for found in stored.run.values())


def test_p_values_are_corrected_over_data_sets(tmp_path, make_set, look_up):
    qrels = {f"q{i}": {"d5": 1} for i in range(8)}
    cells = [  # with 8 queries the test is exact
        evaluate(tmp_path, make_set(qrels, num_documents=400, name=name), look_up(lambda q, d: d == "d5"))[0]
        for name in ("one", "two", "three")
    ]
    corrected = correct_over_datasets(cells)
    for cell in corrected:
        difference = cell.differences[RERANKED]["nDCG@10"]
        assert difference.p_value_uncorrected == pytest.approx(2 / 2**8)
        assert difference.p_value == pytest.approx(3 * 2 / 2**8)


def test_fused_runs_worked_by_hand():
    first = {"q": (Candidate("a", 4.0), Candidate("b", 2.0), Candidate("c", 0.0)), "gone": ()}
    reranked = {"q": (Candidate("c", 9.0), Candidate("b", 8.0), Candidate("a", 5.0))}
    fused = fuse_runs(reranked, first, method="minmax", weight=0.5)
    assert [(item.document_id, round(item.score, 4)) for item in fused["q"]] == [
        ("b", 0.625), ("a", 0.5), ("c", 0.5),
    ]  # fmt: skip
    assert fused["gone"] == ()


def test_fusions():
    model = Contestant("m", {}, lambda: None, ("rrf", 0.25))
    assert parse_fusion("checkpoint", model) == ("checkpoint (rrf:0.25)", "rrf", 0.25)
    assert parse_fusion("minmax:0.7", model) == ("minmax:0.7", "minmax", 0.7)
    for bad in ("minmax", "minmax:2", "sum:0.5", "zscore:nan", ""):
        with pytest.raises(InputError, match="a fusion is 'checkpoint' or METHOD:WEIGHT"):
            parse_fusion(bad, model)
    with pytest.raises(InputError, match="m states no fusion"):
        parse_fusion("checkpoint", Contestant("m", {}, lambda: None))
