import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.data.audited_groups import AuditedDocument, AuditedGroup
from crossrank.errors import InputError
from crossrank.mining.audit import MAX_EXAMPLES, NUM_BINS, Finding, audit_groups
from crossrank.mining.negative_filters import score_limit

LONG = "The fourth planet from the Sun is Mars, a red and dusty world"


def document(text, score=None, id=None, source=None, scale="score"):
    return AuditedDocument(id, text, {} if score is None else {scale: score}, source)


def group(positives, negatives, query="red planet", query_id="q1"):
    return AuditedGroup(query_id, query, tuple(positives), tuple(negatives))


def audit(*groups, **options):
    return audit_groups(lambda: iter(groups), **options)


def found(result):
    return {finding.name: count for finding, count in result.findings.items()}


def test_sound_groups_have_no_findings():
    result = audit(group([document("mars", 8.0)], [document("venus", 2.0), document("pluto", -1.0)]))
    assert (result.groups, result.positives, result.negatives, found(result)) == (1, 1, 2, {})


@pytest.mark.parametrize(
    ("negatives", "expected"),
    [
        ([document("MARS ")], {"known_positive": 1}),  # the same text
        ([document("other text", id="d1")], {"known_positive": 1}),  # the same id
        ([document("venus"), document("Venus")], {"repeated": 1}),
        ([document("venus", 7.7)], {"suspect": 1}),  # 95% of 8 is 7.6
        ([document("venus", 7.6)], {}),
        ([document("venus", 7.7, scale="bm25")], {}),  # not the scale of the positive
        ([document("venus", -math.inf)], {"not_finite": 1}),
        ([], {"no_negatives": 1}),
        ([document("mars", 9.0)], {"known_positive": 1, "suspect": 1}),
    ],
)
def test_each_finding(negatives, expected):
    assert found(audit(group([document("mars", 8.0, id="d1")], negatives))) == expected


def test_near_duplicates():
    groups = group([document(LONG)], [document(LONG + "."), document("Venus")])
    assert found(audit(groups)) == {"near_duplicate": 1}
    assert found(audit(groups, near_duplicate=1.0)) == {}


def test_a_positive_of_another_row_with_the_same_query_is_known():
    rows = [
        group([document("mars")], [document("phobos")], query_id="q_0"),
        group([document("phobos")], [document("venus")], query="Red  planet", query_id="q_1"),
        group([document("bread")], [document("mars")], query="food", query_id="q2"),
    ]
    result = audit(*rows)
    assert found(result) == {"known_positive": 1} and result.repeated_queries == 1
    assert (result.examples[0].query_id, result.examples[0].text) == ("q_0", "phobos")


def test_judgements_add_positives():
    rows = group([document("mars", id="d1")], [document("venus", id="d2"), document("pluto", id="d3")])
    assert found(audit(rows, relevant={"q1": {"d3"}, "q2": {"d2"}})) == {"known_positive": 1}


def test_the_lowest_positive_sets_the_limit():
    rows = group([document("mars", 8.0), document("phobos", 2.0)], [document("venus", 1.95), document("ceres", 1.8)])
    (example,) = audit(rows).examples
    assert (example.text, example.positive_scores) == ("venus", {"score": 2.0})


def test_coverage_and_the_most_used():
    rows = [
        group([document(f"p{i}")], [document("venus", id="d7", source="random"), document(f"n{i}")], query=str(i))
        for i in range(3)
    ]
    result = audit(*rows, group([document("x")], [], query="last"))
    assert result.negatives_of_group == {2: 3, 0: 1} and result.sources == {"random": 3, "unknown": 3}
    assert result.distinct_negatives == 4 and result.most_used == [(3, "d7", "venus")]


def test_examples_are_bounded_and_counts_are_not():
    rows = [group([document("mars")], [document("mars")], query=str(i)) for i in range(MAX_EXAMPLES + 5)]
    result = audit(*rows)
    assert result.findings[Finding.known_positive] == 25 and len(result.examples) == MAX_EXAMPLES


@given(st.lists(st.floats(-1e18, 1e18), min_size=1, max_size=30), st.floats(-1e18, 1e18))
def test_a_histogram_holds_every_score_and_suspects_are_those_above_the_limit(scores, positive):
    negatives = [document(f"n{i}", score) for i, score in enumerate(scores)]
    result = audit(group([document("mars", positive)], negatives))
    (histogram,) = result.histograms
    assert sum(histogram.negatives) == len(scores) and sum(histogram.positives) == 1
    assert len(histogram.edges) == NUM_BINS + 1
    assert result.findings[Finding.suspect] == sum(s > score_limit(positive, percent=0.95) for s in scores)


def test_json_has_no_infinity():
    result = audit(group([document("mars", 1.0)], [document("venus", -math.inf)]))
    assert "Infinity" not in json.dumps(result.to_dict(), allow_nan=False)


def test_limits_out_of_range_are_refused():
    with pytest.raises(InputError):
        audit(percent=0.0)
