import re
from html.parser import HTMLParser

import pytest

from crossrank.data.evaluation_set import EvaluationSet
from crossrank.data.trec import Candidate
from crossrank.evaluation.measures import parse_measures
from crossrank.evaluation.run_comparison import Move, compare_runs, comparison_page, summary_table


def ranked(*ids):
    return tuple(Candidate(document_id, -float(place)) for place, document_id in enumerate(ids))


FIRST = {"won": ranked("d0", "d1"), "lost": ranked("d2", "d3"), "tied": ranked("d4")}
SECOND = {"won": ranked("d1", "d5", "d0"), "lost": ranked("d3", "d6", "d7", "d2"), "tied": ranked("d4")}
QRELS = {"tied": {"d4": 1}, "won": {"d1": 2, "d0": 0}, "lost": {"d2": 1}, "nowhere": {"d9": 1}}


@pytest.fixture
def data(make_set):
    return make_set(QRELS)


@pytest.fixture
def comparison(data):
    return compare_runs(data, FIRST, SECOND, parse_measures("RR@10,R@1"), names=("a<b", "other"), depth=2)


def test_who_won_and_what_moved(comparison):
    print(comparison)
    assert [(change.query_id, round(change.delta, 3)) for change in comparison.changes] == [
        ("won", 0.5), ("tied", 0.0), ("nowhere", 0.0), ("lost", -0.75),
    ]  # fmt: skip
    assert comparison.outcome == (1, 1, 2)
    assert comparison.means["RR@10"] == (pytest.approx((1 + 0.5 + 1) / 4), pytest.approx((1 + 1 + 0.25) / 4))
    won, *_, lost = comparison.changes
    assert won.moves == (Move("d1", 2, 1, 2), Move("d5", None, 2, None), Move("d0", 1, 3, 0))
    # The relevant document is shown although the second run has it below the depth.
    assert lost.moves == (Move("d3", 2, 1, None), Move("d6", None, 2, None), Move("d2", 1, 4, 1))
    assert [move.label for move in won.moves] == ["up 1", "new", "down 2"]
    assert [Move("d", 3, None, None).label, Move("d", 3, 3, None).label] == ["gone", "stays"]


def test_the_summary(comparison):
    table = summary_table(comparison)
    print(table)
    assert table.columns[:3] == ("measure", "a<b", "other")
    assert table.rows[0][:4] == ("RR@10", "0.6250", "0.5625", "-0.0625")
    assert table.rows[0][-1] == "1/1/2"
    assert table.note.endswith("is 0 there. Not in either run: 1; of a sample, give the same --num-queries.")


def test_the_page_is_readable_and_escaped(comparison, data):
    page = comparison_page(comparison, data, num_shown=10)
    assert "a<b" not in page
    assert "a&lt;b" in page
    assert page.count("<details>") == 2
    assert page.index("text of won") < page.index("text of lost")
    assert "words of d5" in page
    assert len(re.findall(r'<tr class="relevant">', page)) == 2
    assert "<svg" in page
    HTMLParser().feed(page)


def test_only_the_largest_changes_are_shown(make_set):
    qrels = {f"q{i}": {"d1": 1} for i in range(6)}
    first = {query_id: ranked("d0", "d1") for query_id in qrels}
    second = {query_id: ranked("d1", "d0") for query_id in qrels}
    data: EvaluationSet = make_set(qrels)
    comparison = compare_runs(data, first, second, parse_measures("RR@10"), names=("a", "b"), depth=5)
    page = comparison_page(comparison, data, num_shown=2)
    assert page.count("<details>") == 2
    assert "Won: 6 queries, the 2 largest shown" in page
    assert "Lost: 0 queries<" in page
