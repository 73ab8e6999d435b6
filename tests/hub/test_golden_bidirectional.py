"""Scores on the model card of nvidia/llama-nemotron-rerank-1b-v2 (bfloat16), loaded without its code; 2.5 GB."""

import numpy as np
import pytest

from crossrank import Reranker

pytestmark = pytest.mark.hub

NAME = "nvidia/llama-nemotron-rerank-1b-v2"
QUERY = "how much protein should a female eat?"
DOCUMENTS = [
    "As a general guideline, the CDC's average requirement of protein for women ages 19 to 70 is 46 grams per day. "
    "But, as you can see from this chart, you'll need to increase that if you're expecting or training for a marathon. "
    "Check out the chart below to see how much protein you should be eating each day.",
    "Definition of summit for English Language Learners. : 1  the highest point of a mountain : the top of a mountain. "
    ": 2  the highest level. : 3  a meeting or series of meetings between the leaders of two or more governments.",
    "Calorie intake should not fall below 1,200 a day in women or 1,500 a day in men, except under the supervision of "
    "a health professional.",
]
CARD = [20.6250, -23.1250, -0.2617]
# The card's head rounds to bfloat16, whose step between 16 and 32 is 0.125; its batch is padded on the left.
STEP = 0.125


@pytest.fixture(scope="module")
def card_reranker():
    return Reranker.load(NAME, dtype="bfloat16", max_length=512)


def test_the_scores_of_the_card(card_reranker):
    scores = card_reranker.score([(QUERY, document) for document in DOCUMENTS])
    np.testing.assert_allclose(scores, CARD, atol=2 * STEP)


def test_a_batch_of_one_is_not_causal(card_reranker):
    alone = [float(card_reranker.score([(QUERY, document)])[0]) for document in DOCUMENTS]
    np.testing.assert_allclose(alone, CARD, atol=2 * STEP)


def test_what_its_files_say(card_reranker):
    checkpoint = card_reranker.checkpoint
    assert checkpoint.family.name == "llama_bidirectional"
    assert checkpoint.config["pooling"] == "avg"
    assert Reranker.load(NAME, dtype="bfloat16").checkpoint.max_length == 8192


def test_the_round_trip_through_the_published_layout(card_reranker, tmp_path):
    folder = card_reranker.save(tmp_path / "saved")
    pairs = [(QUERY, document) for document in DOCUMENTS]
    again = Reranker.load(folder, dtype="bfloat16").score(pairs)
    np.testing.assert_array_equal(again, card_reranker.score(pairs))
