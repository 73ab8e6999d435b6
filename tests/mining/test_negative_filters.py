import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.errors import InputError
from crossrank.mining.negative_filters import (
    Reason,
    Rules,
    document_key,
    in_window,
    is_near_duplicate,
    refuse_by_score,
    score_limit,
    shingles,
    similarity,
)
from crossrank.types import Document

scores = st.floats(-50, 50).map(lambda value: round(value, 6))


@pytest.mark.parametrize(
    ("positive", "percent", "margin", "limit"),
    [
        (0.8, 0.95, None, 0.76),
        (10.0, 0.95, None, 9.5),
        (-2.0, 0.95, None, -2.1),  # not -1.9, which is above the positive
        (0.0, 0.95, None, 0.0),
        (3.0, None, 1.0, 2.0),
        (3.0, 0.5, 1.0, 1.5),  # both rules hold: the lower limit
        (3.0, None, None, None),
    ],
)
def test_the_limit_lies_below_the_positive(positive, percent, margin, limit):
    assert score_limit(positive, percent=percent, margin=margin) == (None if limit is None else pytest.approx(limit))


@given(scores, st.floats(0.01, 1), scores)
def test_the_percentage_means_what_automodel_and_sentence_transformers_mean(positive, percent, candidate):
    """Above 0 the product of AutoModel, everywhere the relative margin of sentence-transformers; never over the top."""
    limit = score_limit(positive, percent=percent)
    assert limit <= positive
    if positive >= 0:
        assert limit == pytest.approx(percent * positive)
    gap = positive - candidate - abs(positive) * (1 - percent)
    if abs(gap) > 1e-6:
        refused = refuse_by_score({"s": candidate}, {"s": positive}, Rules(percent=percent))
        assert (refused is Reason.close) == (gap < 0)


@given(scores, scores, st.floats(0, 10), st.floats(0, 10))
def test_a_wider_margin_refuses_no_less(positive, candidate, margin, more):
    def refused(distance):
        return refuse_by_score({"s": candidate}, {"s": positive}, Rules(percent=None, margin=distance))

    assert not refused(margin) or refused(margin + more)


def test_every_scale_is_compared_with_its_own_positive():
    rules = Rules(percent=0.95)
    assert refuse_by_score({"bm25": 9.0, "dense": 0.5}, {"bm25": 10.0, "dense": 0.6}, rules) is None
    assert refuse_by_score({"bm25": 9.0, "dense": 0.59}, {"bm25": 10.0, "dense": 0.6}, rules) is Reason.close
    assert refuse_by_score({"bm25": 1.0}, {"dense": 0.6}, rules) is Reason.positive_not_found
    assert refuse_by_score({"bm25": 1.0}, {}, Rules(percent=None)) is None
    assert refuse_by_score({"t": 4.0}, {"t": 9.0}, Rules(max_score=3.0)) is Reason.ceiling
    assert refuse_by_score({}, {"t": 9.0}, rules) is None  # a random document that nobody scored


def test_the_window_counts_the_best_rank():
    rules = Rules(first_rank=3, last_rank=10)
    assert [in_window(ranks, rules) for ranks in ([3], [10], [2], [11], [2, 5], [30, 4], [])] == [
        *(True, True, False, False),
        *(False, True, True),
    ]


def test_similarity_by_hand():
    """abcdef has abcde, bcdef; abcdeg has abcde, bcdeg: one of three is shared."""
    assert similarity(shingles("abcdef"), shingles("abcdeg")) == pytest.approx(1 / 3)
    assert shingles("Red  PLANET\n") == shingles("red planet")
    assert shingles("") == {""} and similarity(shingles(""), shingles("")) == 1.0


@given(st.text(max_size=60), st.text(max_size=60), st.floats(0.05, 1))
def test_near_duplicates_are_those_above_the_threshold(first, second, threshold):
    expected = similarity(shingles(first), shingles(second)) >= threshold
    assert is_near_duplicate(first, [shingles(second)], threshold) == expected
    assert is_near_duplicate(first, [shingles("something else"), shingles(first)], threshold)


def test_scripts_without_spaces_have_near_duplicates_too():
    text = "火星是太阳系中由内往外数的第四颗行星属于类地行星"
    assert is_near_duplicate(text + "。", [shingles(text)], 0.9)
    assert not is_near_duplicate(text[::-1], [shingles(text)], 0.5)


@pytest.mark.parametrize(
    ("rule", "key"),
    [("source", "manual"), ("title", "Mars"), ("id:#", "doc-7"), ("missing", None), ("id:/", "doc-7#2")],
)
def test_the_document_of_a_passage(rule, key):
    passage = Document("text", title="Mars", id="doc-7#2", metadata={"source": "manual"})
    assert document_key(passage, rule) == key


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_rank": 0},
        {"first_rank": 5, "last_rank": 4},
        {"percent": 1.2},
        {"percent": 0.0},
        {"margin": -1.0},
        {"near_duplicate": 0.0},
        {"margin": float("nan")},
    ],
)
def test_limits_out_of_range_are_refused(wrong):
    with pytest.raises(InputError):
        Rules(**wrong)
