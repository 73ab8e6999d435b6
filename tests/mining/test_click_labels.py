from __future__ import annotations

import pytest

from crossrank.errors import InputError
from crossrank.mining.click_counts import count_clicks
from crossrank.mining.click_labels import label_clicks
from crossrank.mining.click_models import naive_ctr


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
    assert report["relevant_from"] == pytest.approx(3 / 8), "the mean label of what was shown: three clicks in eight"


def test_relevant_from_can_be_set_and_an_unclicked_pair_never_counts(page):
    pages = [page(None, 5.0)]
    assert [pair.relevant for pair in labels_of(pages, min_impressions=1, relevant_from=0.0).pairs()] == [True, False]
    with pytest.raises(InputError, match="relevant_from"):
        labels_of(pages, relevant_from=1.0)
    with pytest.raises(InputError, match="min_impressions"):
        labels_of(pages, min_impressions=0)
