from crossrank.data.trec import Candidate
from crossrank.evaluation.ordering import best_first, ideal, without_order


def test_scores_descend_and_equal_ones_keep_their_order():
    given = [Candidate("b", 1.0), Candidate("a", 2.0), Candidate("z", 1.0), Candidate("c", 1.0 + 1e-9)]
    assert [item.document_id for item in best_first(given)] == ["a", "c", "b", "z"]


def test_candidates_without_scores_are_ordered_by_something_that_knows_nothing():
    ids = [f"d{i}" for i in range(8)]
    ordered = without_order("q1", ids)
    print(ordered)
    assert sorted(item.document_id for item in ordered) == sorted(ids)
    assert ordered == without_order("q1", list(reversed(ids))) == without_order("q1", [*ids, "d3"])
    assert [item.document_id for item in ordered] != [item.document_id for item in without_order("q2", ids)]
    assert best_first(ordered) == ordered
    # Over many queries, whatever is listed first stands in the middle on average.
    places = [[item.document_id for item in without_order(f"q{i}", ids)].index("d0") for i in range(2000)]
    assert abs(sum(places) / 2000 - 3.5) < 0.2


def test_the_ideal_order_puts_grades_first():
    run = {"q1": (Candidate("a", 3.0), Candidate("b", 2.0), Candidate("c", 1.0))}
    best = ideal(run, {"q1": {"c": 2, "b": 1, "x": 3}, "q2": {"a": 1}})
    assert {query_id: [item.document_id for item in found] for query_id, found in best.items()} == {
        "q1": ["c", "b", "a"]
    }
