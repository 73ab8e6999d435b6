import numpy as np
import pytest
import torch
import transformers

from crossrank.models import packed_model
from crossrank.models.bidirectional import as_bidirectional_classifier, bidirectional_config
from crossrank.models.bidirectional_layout import HeadSettings
from crossrank.models.causal_lm import LastTokenScorer
from crossrank.models.checkpoint import open_checkpoint
from crossrank.models.modular import load_modular
from crossrank.models.packed_attention import pack
from crossrank.models.packed_model import pack_model
from crossrank.models.sequence_classification import Float32Linear, load_sequence_classifier

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 64, "vocab_size": 300, "initializer_range": 0.3, "num_labels": 1, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LENGTHS = [7, 30, 30, 1, 12, 30, 2]
# Class, what its configuration has besides, whether the last layer may be cut.
DECODERS = {
    "Llama": ({}, True),
    "Llama scaled": ({"rope_parameters": {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
    }}, True),
    "Mistral": ({"sliding_window": 5}, True),
    "Qwen2": ({"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}, True),
    "Qwen3": ({}, True),
    "Gemma": ({}, True),
    "Ministral3": ({}, False),
    "Phi3": ({}, False),
    "Gemma3Text": ({}, False),
}  # fmt: skip


def decoder(name):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name.split()[0]}Config")(**SIZES | DECODERS[name][0])
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    model.score.__class__ = Float32Linear
    return LastTokenScorer(model.model, model.score)


def sequences(size=300):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(5, size, (length,), generator=generator) for length in LENGTHS]


@torch.inference_mode()
def one_by_one(model, ids):
    """The reference: the model's own forward pass, a sequence at a time, nothing padded."""
    outputs = [model(input_ids=row[None], attention_mask=torch.ones(1, len(row), dtype=torch.long)) for row in ids]
    return torch.cat([x if isinstance(x, torch.Tensor) else x.logits for x in outputs])


def packed_logits(model, ids, **options):
    runner = pack_model(model, **options)
    row = torch.cat(ids)
    return runner, runner(row, torch.zeros_like(row), pack([len(x) for x in ids]))


def rms(x):
    return x.square().mean().sqrt()


@pytest.mark.parametrize("name", DECODERS)
def test_packed_decoders_score_as_padded_ones(name):
    model, ids = decoder(name), sequences()
    expected = one_by_one(model, ids)
    assert expected.std() > 0.1, "scores that tell sequences apart"
    runner, found = packed_logits(model, ids)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert runner._is_short is DECODERS[name][1]


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Qwen3"])
def test_the_whole_last_layer_gives_the_same(name, monkeypatch):
    monkeypatch.setattr(packed_model, "shorten_last_layer", lambda layers, position: False)
    model, ids = decoder(name), sequences()
    expected = one_by_one(model, ids)
    runner, found = packed_logits(model, ids)
    assert not runner._is_short
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "mistral", "ministral3", "qwen2", "qwen3"])
@pytest.mark.parametrize("pooling", ["avg", "cls", "last"])
def test_packed_bidirectional_decoders_score_as_padded_ones(tiny_reranker, kind, pooling):
    folder = tiny_reranker(kind, pooling=pooling)
    config = bidirectional_config(folder, kind)
    native = transformers.AutoModelForSequenceClassification.from_pretrained(folder, config=config).eval()
    model = as_bidirectional_classifier(native, HeadSettings(pooling, 2.0))
    ids = sequences()
    expected = one_by_one(model, ids)
    assert expected.std() > 0.1, "scores that tell sequences apart"
    runner, found = packed_logits(model, ids)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert runner._is_short is (pooling != "avg" and kind != "ministral3")


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_packed_modernbert_scores_as_the_padded_one(tiny_checkpoint, pooling):
    model = load_sequence_classifier(open_checkpoint(tiny_checkpoint("modernbert")), dtype=torch.float32)
    model.config.classifier_pooling = pooling
    ids = sequences(model.config.vocab_size)
    expected = one_by_one(model, ids)
    runner, found = packed_logits(model, ids)
    assert runner._is_short is (pooling == "cls")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["ernie", "gte", "nomic_bert", "modular"])
def test_other_packed_encoders_score_as_padded_ones(tiny_checkpoint, kind):
    checkpoint = open_checkpoint(tiny_checkpoint(kind))
    load = load_modular if kind == "modular" else load_sequence_classifier
    model = load(checkpoint, dtype=torch.float32)
    ids = sequences(checkpoint.config["vocab_size"])
    expected = one_by_one(model, ids)
    _, found = packed_logits(model, ids, uses_segments=checkpoint.uses_segments)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["albert", "deberta", "deberta-v2", "distilbert", "mpnet", "xlm-roberta-xl"])
def test_a_model_that_cannot_be_packed_stays_as_it_was(tiny_checkpoint, kind):
    model = load_sequence_classifier(open_checkpoint(tiny_checkpoint(kind)), dtype=torch.float32)
    ids = sequences(model.config.vocab_size)
    expected = one_by_one(model, ids)
    assert pack_model(model, uses_segments=False) is None
    np.testing.assert_array_equal(one_by_one(model, ids).numpy(), expected.numpy())


def test_a_class_that_computes_something_else_is_noticed():
    model = decoder("Llama")
    plain = model.body.layers[1].forward
    # Mixes in the neighbours of a row, as a convolution would: right for one sequence, wrong for packed ones.
    model.body.layers[1].forward = lambda hidden, **options: plain(hidden, **options) + hidden.roll(1, dims=1)
    ids = sequences()
    expected = one_by_one(model, ids)
    assert pack_model(model) is None
    np.testing.assert_array_equal(one_by_one(model, ids).numpy(), expected.numpy())


def test_bfloat16_stays_near_float32():
    ids = sequences()
    exact = one_by_one(decoder("Llama"), ids)
    _, half = packed_logits(decoder("Llama").bfloat16(), ids)
    assert rms(half.float() - exact) < 0.15 * (exact.max() - exact.min())


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["Llama", "Mistral", "Qwen3"])
def test_packed_decoders_on_cuda(name):
    ids = sequences()
    exact = one_by_one(decoder(name), ids)
    runner = pack_model(decoder(name).bfloat16().cuda())
    assert runner is not None
    row = torch.cat(ids).cuda()
    found = runner(row, torch.zeros_like(row), pack(LENGTHS, "cuda")).float().cpu()
    assert rms(found - exact) < 0.15 * (exact.max() - exact.min())
