from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.llm.answers import read_choice, read_grade, read_queries, read_ranking


@pytest.mark.parametrize(
    ("text", "order", "faults"),
    [
        ('{"ranking": [2, 3, 1]}', [2, 3, 1], {}),
        (' {"ranking":[2,3,1]}\n', [2, 3, 1], {}),
        ('```json\n{"ranking": [2, 3, 1]}\n```', [2, 3, 1], {"prose": 1}),
        ('Here are the 3 passages in order: {"ranking": [2, 3, 1]}. I hope this helps!', [2, 3, 1], {"prose": 1}),
        ('<think>1 is off, {"ranking": [1]}</think>{"ranking": [2, 3, 1]}', [2, 3, 1], {}),
        ('{"ranking": ["2", "[3]", 1.0]}', [2, 3, 1], {}),
        ('{"ranking": [2, 2, 3, 1, 2]}', [2, 3, 1], {"duplicate": 2}),
        ('{"ranking": [7, 2, 0, -1, 3, 1]}', [2, 3, 1], {"unknown": 3}),
        ('{"ranking": [3]}', [3, 1, 2], {"missing": 2}),
        ('{"ranking": [3, 9, 3]}', [3, 1, 2], {"unknown": 1, "duplicate": 1, "missing": 2}),
        ('{"ranking": [3, 1', [3, 1, 2], {"prose": 1, "missing": 1}),
        ("[2] > [3] > [1]", [2, 3, 1], {"prose": 1}),
        ("The ranking of the 3 passages is [2] > [1]", [2, 1, 3], {"prose": 1, "missing": 1}),
        ("[2, 3, 1]", [2, 3, 1], {"prose": 1}),
        ("2 > 3 > 1", [2, 3, 1], {"prose": 1}),
        ("[²] > [③] > [１]", [2, 3, 1], {"prose": 1}),
        ("First 2, then 3, at last 1.", [2, 3, 1], {"prose": 1}),
    ],
)
def test_orders_are_made_out_and_repaired(text, order, faults):
    found = read_ranking(text, 3)
    assert [position + 1 for position in found.value] == order
    assert found.faults == faults


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I'm sorry, but I can't help with that.",
        "None of the 20 passages answers the question.",
        '{"ranking": []}',
        '{"ranking": null}',
        '{"ranking": [99]}',
        "<think>[1] > [2] > ",
        "{" * 5000,
    ],
)
def test_no_order(text):
    assert read_ranking(text, 20) is None


@given(st.text(alphabet='0123456789[]{}",:> ranking\n²', max_size=200), st.integers(1, 30))
def test_whatever_the_answer_an_order_has_every_position_once(text, count):
    found = read_ranking(text, count)
    assert found is None or sorted(found.value) == list(range(count))


@given(st.permutations(range(8)), st.integers(0, 8))
def test_what_is_stated_leads_and_the_rest_keeps_its_order(order, kept):
    found = read_ranking(str({"ranking": [position + 1 for position in order[:kept]]}).replace("'", '"'), 8)
    if kept == 0:
        assert found is None
    else:
        assert found.value == [*order[:kept], *sorted(order[kept:])]


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ('{"best": 2}', 2),
        ('{"best": "2"}', 2),
        ('{"best": [2]}', 2),
        ("Passage 2 is the most relevant.", 2),
        ("[2]", 2),
        ("Passage 2 rather than 3", None),
        ('{"best": 5}', None),
        ("I cannot say.", None),
    ],
)
def test_choices(text, choice):
    found = read_choice(text, 3)
    assert (found.value + 1 if found else None) == choice


@pytest.mark.parametrize(
    ("text", "grade", "reason"),
    [
        ('{"intent": "x", "match": 1, "trust": 3, "reason": "It says so.", "grade": 2}', 2, "It says so."),
        ('{"grade": "3", "reason": "exact"}', 3, "exact"),
        ('{"match": 2, "grade": 1.0}', 1, ""),
        ("It only touches the matter.\n##final score: 1", 1, "It only touches the matter. ##final score: 1"),
        ("Grade: 3", 3, "Grade: 3"),
        ("2", 2, "2"),
        ('{"grade": 4}', None, ""),
        ('{"grade": 2.5}', None, ""),
        ("score: 2.5", None, ""),
        ('{"grade": true}', None, ""),
        ("I would give this 100 points", None, ""),
        ("", None, ""),
    ],
)
def test_grades(text, grade, reason):
    found = read_grade(text)
    assert (tuple(found.value) if found else None) == (None if grade is None else (grade, reason))


def test_queries():
    assert read_queries('{"queries": ["a  b", "A b", "", 3, "c"]}', 5).value == ["a b", "c"]
    assert read_queries('{"queries": ["a", "b", "c"]}', 2).value == ["a", "b"]
    assert read_queries('Sure!\n1. "what is x"\n2) y price\n- z', 5).value == ["what is x", "y price", "z"]
    assert read_queries("I cannot write queries for this text.", 5) is None
