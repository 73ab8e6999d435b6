from __future__ import annotations

from crossrank.mining.click_counts import count_clicks


def test_counts_by_hand(page):
    # d0 is skipped, d1 clicked for 40 s, d2 clicked for 2 s and last, d3 below the first click.
    counts = count_clicks([page(None, 40.0, 2.0, None), page(None, None)])
    assert counts.document_ids == ["d0", "d1", "d2", "d3"]
    assert counts.by_pair(counts.impressions).tolist() == [2, 2, 1, 1]
    assert counts.by_pair(counts.clicks).tolist() == [0, 1, 1, 0]
    assert counts.by_pair(counts.satisfied).tolist() == [0, 1, 1, 0], "long, and last"
    assert counts.by_pair(counts.first_clicks).tolist() == [0, 1, 0, 0]
    assert counts.by_pair(counts.examined).tolist() == [2, 2, 0, 0], "read until the first click; to the end without"
    assert counts.by_position(counts.impressions).tolist() == [2, 2, 1, 1]


def test_a_short_click_before_another_is_not_satisfied(page):
    counts = count_clicks([page(2.0, 2.0)])
    assert counts.by_pair(counts.satisfied).tolist() == [0, 1]


def test_queries_differ_by_words_not_by_case_or_spaces(page):
    pages = [page(None, query="Red  planet"), page(1.0, query="red planet"), page(None, query="redplanet")]
    counts = count_clicks(pages)
    assert counts.queries == ["Red planet", "redplanet"]
    assert counts.query_ids == ["q1", "q2"]
    assert counts.by_pair(counts.impressions).tolist() == [2, 1]


def test_an_empty_log():
    counts = count_clicks([])
    assert (counts.num_pages, counts.num_positions, counts.document_ids) == (0, 0, [])
