from __future__ import annotations

import numpy as np
import pytest

from crossrank.errors import InputError
from crossrank.mining.click_simulator import attractiveness, position_bias, simulate_clicks

QUERIES = {"q": "red planet"}


def clicks_by_position(**options) -> np.ndarray:
    pages = simulate_clicks({"q": ["a", "b", "c"]}, {"q": {"b": 1}}, queries=QUERIES, num_pages=4000, **options)
    return np.mean([[shown.clicked for shown in page.impressions] for page in pages], axis=0)


def test_formulas_by_hand():
    assert position_bias(4).tolist() == [1, 1 / 2, 1 / 3, 1 / 4]
    assert position_bias(2, severity=0).tolist() == [1, 1]
    # Grades 0, 1, 2 of 2: gains 0, 1 and 3 of 3, over a noise of 0.1.
    assert attractiveness(np.array([0, 1, 2]), max_grade=2) == pytest.approx([0.1, 0.1 + 0.9 / 3, 1.0])


def test_clicks_have_the_rates_that_were_asked_for():
    # b is relevant (clicked whenever looked at), a and c are noise.
    assert clicks_by_position() == pytest.approx([0.1, 1 / 2, 0.1 / 3], abs=0.03)
    assert clicks_by_position(severity=0) == pytest.approx([0.1, 1.0, 0.1], abs=0.03)
    assert clicks_by_position(user="cascade") == pytest.approx([0.1, 0.9, 0.0], abs=0.03)


def test_the_same_seed_gives_the_same_users():
    def pages(seed):
        return list(simulate_clicks({"q": ["a", "b"]}, {}, queries=QUERIES, num_pages=50, shuffle=0.5, seed=seed))

    assert pages(1) == pages(1) != pages(2)


def test_a_query_without_text_is_an_error():
    with pytest.raises(InputError, match="no text for query 'x'"):
        list(simulate_clicks({"x": ["a"]}, {}, queries=QUERIES, num_pages=1))
    with pytest.raises(InputError, match="at least one query"):
        list(simulate_clicks({}, {}, queries=QUERIES, num_pages=1))
