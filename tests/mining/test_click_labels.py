from __future__ import annotations

import numpy as np
import pytest

from crossrank.errors import InputError
from crossrank.mining.click_counts import count_clicks
from crossrank.mining.click_labels import label_clicks, two_groups
from crossrank.mining.click_models import naive_ctr, position_based_model
from crossrank.mining.click_simulator import simulate_clicks


def labels_of(pages, **options):
    counts = count_clicks(pages)
    return label_clicks(counts, naive_ctr(counts, prior_strength=0), **options)


def test_pairs_that_were_shown_too_rarely_are_neither_relevant_nor_irrelevant(page):
    # d0 is shown four times and never clicked, d1 three times and clicked twice, d2 once.
    pages = [page(None, 5.0, 9.0), page(None, 5.0), page(None, None), page(None)]
    labels = labels_of(pages, min_impressions=2)
    assert [(pair.document_id, round(pair.label, 3), pair.relevant) for pair in labels.pairs()] == [
        ("d1", 0.667, True),
        ("d0", 0.0, False),
    ]
    report = labels.report()
    assert report["pairs"] == {"seen": 3, "clicked": 2, "labelled": 2, "shown_too_rarely": 1, "relevant": 1}
    assert report["positions"][1] == {"position": 2, "impressions": 3, "ctr": pytest.approx(2 / 3)}
    assert report["relevant_from"] == pytest.approx(1 / 3), "between the two labels"


def test_relevant_from_can_be_set_and_an_unclicked_pair_never_counts(page):
    pages = [page(None, 5.0)]
    assert [pair.relevant for pair in labels_of(pages, min_impressions=1, relevant_from=0.0).pairs()] == [True, False]
    with pytest.raises(InputError, match="relevant_from"):
        labels_of(pages, relevant_from=1.0)
    with pytest.raises(InputError, match="min_impressions"):
        labels_of(pages, min_impressions=0)


def test_two_groups_are_parted_where_the_variance_between_them_is_highest():
    labels = np.array([0.9, 0.1, 0.2, 0.8, 0.1, 0.15, 0.3])

    def between(cut):
        low, high = labels[labels <= cut], labels[labels > cut]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    cuts = np.unique(labels)[:-1]
    cut = two_groups(labels)
    assert between(cut) == pytest.approx(max(map(between, cuts)))
    assert cut == pytest.approx(0.55)
    assert two_groups(np.full(4, 0.2)) == 0.2 and two_groups(np.zeros(0)) == 0.0


def test_debiased_labels_of_irrelevant_documents_do_not_count_as_relevant():
    """300 queries with one relevant document of ten, anywhere in the ranking, and a strong position bias."""
    rankings = {f"q{n}": [f"d{n}-{place}" for place in range(10)] for n in range(300)}
    qrels = {query_id: {documents[int(query_id[1:]) % 10]: 1} for query_id, documents in rankings.items()}
    queries = {query_id: query_id for query_id in rankings}
    counts = count_clicks(simulate_clicks(rankings, qrels, queries=queries, num_pages=12000, severity=1.0, shuffle=0.3))
    found = {}
    for estimator in (naive_ctr, position_based_model):
        pairs = [pair for pair in label_clicks(counts, estimator(counts)).pairs() if pair.relevant]
        right = sum(pair.document_id in qrels[pair.query_id] for pair in pairs)
        found[estimator.__name__] = (round(right / len(pairs), 3), round(right / len(qrels), 3))
    print(found)
    assert found["position_based_model"][0] > 0.9 and found["position_based_model"][1] > 0.75
    assert found["naive_ctr"][1] < found["position_based_model"][1] - 0.1
