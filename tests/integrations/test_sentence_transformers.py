"""There and back with the real library: the same scores on both sides, and its evaluators over any scorer."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="pip install sentence-transformers")

import torch
from sentence_transformers import CrossEncoder

from crossrank import Reranker
from crossrank.errors import InputError
from crossrank.integrations.remote import RemoteReranker
from crossrank.integrations.sentence_transformers import CrossEncoderAdapter, from_cross_encoder, to_cross_encoder

QUERY = "Which planet is known as the Red Planet?"
TEXTS = ["Bread needs flour and water.", "Mars is often referred to as the Red Planet.", "Paris"]
PAIRS = [(QUERY, text) for text in TEXTS]


@pytest.mark.parametrize("kind", ["bert", "roberta", "modular"])
def test_a_reranker_becomes_a_cross_encoder_and_comes_back(kind, tiny_checkpoint, tmp_path):
    reranker = Reranker.load(tiny_checkpoint(kind), backend="torch")
    encoder = to_cross_encoder(reranker, device="cpu")
    assert isinstance(encoder, CrossEncoder)
    logits = encoder.predict(PAIRS, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(logits, reranker.score(PAIRS), atol=1e-4)
    back = from_cross_encoder(encoder, tmp_path / "back", backend="torch")
    np.testing.assert_allclose(back.score(PAIRS), reranker.score(PAIRS), atol=1e-4)
    probabilities = [hit.score for hit in back.rank(QUERY, TEXTS, score_type="probability")]
    assert probabilities == pytest.approx([hit["score"] for hit in encoder.rank(QUERY, TEXTS)], abs=1e-4)
    with pytest.raises(InputError, match="not empty"):
        from_cross_encoder(encoder, tmp_path / "back")


def test_the_cpu_form_has_no_torch_weights():
    with pytest.raises(InputError, match="CrossEncoderAdapter"):
        to_cross_encoder(Reranker.load())


def test_the_adapter_answers_as_a_cross_encoder_does(tiny_checkpoint, tiny_reranker):
    encoder = CrossEncoder(str(tiny_checkpoint("bert")), device="cpu")
    adapter = CrossEncoderAdapter(tiny_reranker)
    np.testing.assert_allclose(adapter.predict(PAIRS, batch_size=2), encoder.predict(PAIRS, batch_size=2), atol=1e-5)
    assert adapter.predict(PAIRS[0]) == pytest.approx(encoder.predict(PAIRS[0]), abs=1e-5)
    identity = {"activation_fn": torch.nn.Identity(), "convert_to_tensor": True}
    torch.testing.assert_close(
        adapter.predict(PAIRS, **identity), encoder.predict(PAIRS, **identity), atol=1e-4, rtol=0
    )
    ours, theirs = (model.rank(QUERY, TEXTS, top_k=2, return_documents=True) for model in (adapter, encoder))
    assert [(hit["corpus_id"], hit["text"]) for hit in ours] == [(hit["corpus_id"], hit["text"]) for hit in theirs]
    assert [hit["score"] for hit in ours] == pytest.approx([hit["score"] for hit in theirs], abs=1e-5)
    assert adapter.rank(QUERY, []) == []
    assert isinstance(adapter.predict(PAIRS, convert_to_numpy=False), list)
    with pytest.raises(InputError, match="several labels"):
        adapter.predict(PAIRS, apply_softmax=True)


def test_its_evaluator_takes_a_remote_scorer(server, tiny_checkpoint):
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator

    samples = [{"query": QUERY, "positive": [TEXTS[1]], "negative": [TEXTS[0], TEXTS[2]]}]
    evaluator = CrossEncoderRerankingEvaluator(samples, show_progress_bar=False, write_csv=False)
    remote = CrossEncoderAdapter(RemoteReranker("tei", url=f"{server.url}/tei"), activation="sigmoid")
    assert evaluator(remote) == evaluator(CrossEncoder(str(tiny_checkpoint("bert")), device="cpu"))
