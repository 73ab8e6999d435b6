import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from crossrank import Reranker
from crossrank.errors import CheckpointError, UnsupportedModel
from tiny_decoders import decoder_tokenizer

PAIRS = [("how much protein", "46 grams per day"), ("highest point", "The top of a mountain. " * 3), ("a", "b")]
SIZES = {
    "gemma2": {"num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4},  # the shared head
    "gpt2": {"n_layer": 2, "n_embd": 32, "n_head": 4},  # a head of its own, the last token by the padding id
    "roformer": {"num_hidden_layers": 2, "type_vocab_size": 2},  # an encoder with segments
}


@pytest.fixture(params=SIZES)
def native(request, tmp_path):
    config = AutoConfig.for_model(
        request.param, vocab_size=320, hidden_size=32, num_attention_heads=4, intermediate_size=64, num_labels=1,
        initializer_range=0.3, eos_token_id=1, pad_token_id=None if request.param == "gpt2" else 1,
        max_position_embeddings=512, **SIZES[request.param],
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).eval().save_pretrained(tmp_path)
    decoder_tokenizer("llama").save_pretrained(tmp_path)
    return tmp_path


@torch.inference_mode()
def test_the_scores_are_those_of_transformers(native):
    reranker = Reranker.load(native, device="cpu", max_length=500)
    assert reranker.checkpoint.family.name == "native"
    model = AutoModelForSequenceClassification.from_pretrained(native, dtype=torch.float32).eval()
    encoded = reranker._encoder.encode(PAIRS)
    expected = []
    for ids, types in zip(encoded.input_ids, encoded.token_type_ids, strict=True):
        inputs = {"input_ids": torch.from_numpy(ids.astype(np.int64))[None]}
        if reranker.checkpoint.uses_segments:
            inputs["token_type_ids"] = torch.from_numpy(types.astype(np.int64))[None]
        expected.append(float(model(**inputs).logits))
    np.testing.assert_allclose(reranker.score(PAIRS), expected, atol=1e-5)
    assert np.ptp(expected) > 1e-3


def test_a_class_that_transformers_has_not_is_no_fallback(native):
    path = native / "config.json"
    config = json.loads(path.read_text())
    for values in ({"model_type": "novel"}, {"architectures": ["NovelForSequenceClassification"]}):
        path.write_text(json.dumps(config | values | {"auto_map": {"AutoConfig": "x.Y"}}))
        with pytest.raises(UnsupportedModel, match="never runs code from a checkpoint"):
            Reranker.load(native)


def test_a_missing_head_is_an_error(native):
    from safetensors.torch import load_file, save_file

    tensors = load_file(native / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(("score", "classifier"))}
    assert len(kept) < len(tensors)
    save_file(kept, native / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="scoring head are missing"):
        Reranker.load(native)
