import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from crossrank import Reranker
from crossrank.errors import CheckpointError, InputError, RerankError, UnsupportedModel
from crossrank.models.backbone import build_from_backbone
from tiny_decoders import KINDS

PAIRS = [("how much protein", "46 grams per day"), ("highest point", "The top of a mountain. " * 3)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_body_keeps_its_bits_and_lm_head_goes(tiny_backbone, kind, dtype):
    source = load_file(tiny_backbone(kind, dtype) / "model.safetensors")
    assert ("lm_head.weight" in source) == (kind != "llama")  # Llama 3.2 1B ties it to the embeddings
    model, checkpoint = build_from_backbone(tiny_backbone(kind, dtype))
    built = model.state_dict()
    assert set(built) == {name for name in source if name != "lm_head.weight"} | {"score.weight"}
    for name, tensor in built.items():
        assert tensor.dtype == getattr(torch, dtype)
        assert name == "score.weight" or torch.equal(tensor, source[name])
    assert checkpoint.settings.untrained_head and checkpoint.max_length == 8192
    assert checkpoint.family.layout == "bidirectional"


def test_the_head_is_normal_with_the_initializer_range_and_follows_the_seed(tiny_backbone):
    heads = [
        build_from_backbone(tiny_backbone(), num_labels=500, seed=seed)[0].score.weight.detach() for seed in (1, 1, 2)
    ]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert heads[0].shape == (500, 32)
    assert abs(heads[0].mean()) < 0.01 and heads[0].std() == pytest.approx(0.2, rel=0.03)  # that of the tiny config
    state = torch.random.get_rng_state()
    build_from_backbone(tiny_backbone())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_bfloat16_rounds_the_float32_head(tiny_backbone):
    exact = build_from_backbone(tiny_backbone(), seed=3)[0].score.weight
    rounded = build_from_backbone(tiny_backbone("llama", "bfloat16"), seed=3)[0].score.weight
    assert torch.equal(exact.bfloat16(), rounded)


def test_scoring_with_a_fresh_head_is_an_error_until_it_is_said(tiny_backbone, tmp_path):
    fresh = Reranker.from_backbone(tiny_backbone(), device="cpu")
    saved = fresh.save(tmp_path / "fresh")
    for reranker in (fresh, Reranker.load(saved, device="cpu")):
        with pytest.raises(CheckpointError, match=r"the head is fresh.*allow_untrained=True"):
            reranker.score(PAIRS)
        with pytest.raises(CheckpointError, match="the head is fresh"):
            reranker.rank("q", ["a", "b"])
    said = Reranker.from_backbone(tiny_backbone(), device="cpu", allow_untrained=True)
    again = Reranker.load(saved, device="cpu", allow_untrained=True)
    np.testing.assert_allclose(said.score(PAIRS), again.score(PAIRS), atol=1e-6)


def test_pooling_temperature_labels_and_limit_are_kept(tiny_backbone, tmp_path):
    fresh = Reranker.from_backbone(
        tiny_backbone(), pooling="last", temperature=0.1, num_labels=3, max_length=100, device="cpu"
    )
    config = json.loads((fresh.save(tmp_path / "fresh") / "config.json").read_text())
    assert (config["pooling"], config["temperature"], len(config["id2label"])) == ("last", 0.1, 3)
    with pytest.raises(InputError, match="3 labels"):
        Reranker.load(tmp_path / "fresh")
    loaded = Reranker.load(tmp_path / "fresh", label=1, device="cpu", allow_untrained=True)
    assert (loaded.checkpoint.max_length, loaded.checkpoint.settings.pooling) == (100, "last")
    warmer = Reranker.from_backbone(
        tiny_backbone(), pooling="last", temperature=0.2, num_labels=3, device="cpu", allow_untrained=True
    )
    np.testing.assert_allclose(warmer.score(PAIRS)[0] * 2, fresh_score(fresh), rtol=1e-5)


def fresh_score(fresh):
    fresh._allow_untrained = True
    return fresh.score(PAIRS)[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "mean"}, "pooling must be one of avg, cls, last, not 'mean'"),
        ({"temperature": 0}, "temperature must be a number above 0"),
        ({"num_labels": 0}, "num_labels must be a whole number above 0"),
        ({"max_length": 10**7}, "more than the 131072 positions"),
    ],
)
def test_options_that_cannot_be_used(tiny_backbone, options, message):
    with pytest.raises(InputError, match=message):
        Reranker.from_backbone(tiny_backbone(), **options)


def test_only_decoders_without_a_head_are_backbones(tiny_reranker, tiny_checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match=r"has a trained head already \(score.weight\): use Reranker.load"):
        Reranker.from_backbone(tiny_reranker())
    with pytest.raises(UnsupportedModel, match="a bert model cannot be made bidirectional"):
        Reranker.from_backbone(tiny_checkpoint("bert"))
    with pytest.raises(RerankError, match=r"no config.json|no such folder"):
        Reranker.from_backbone(tmp_path)
