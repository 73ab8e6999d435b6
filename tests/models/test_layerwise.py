"""The folded Llama against MiniCPM as its reference computes it: scaled embeddings, scaled branches, a head a layer."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from crossrank import Reranker
from crossrank.errors import CheckpointError, InputError

FAMILY = "bge_reranker_minicpm"
CONFIG = {
    "architectures": ["LayerWiseMiniCPMForCausalLM"], "model_type": "minicpm", "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 4,
    "hidden_act": "silu", "rms_norm_eps": 1e-5, "max_position_embeddings": 2048, "rope_theta": 10000.0,
    "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 8, "start_layer": 2, "head_multi": True,
    "head_type": "simple", "pad_token_id": 0, "bos_token_id": 1,
    "auto_map": {"AutoModelForCausalLM": "modeling_minicpm_reranker.LayerWiseMiniCPMForCausalLM"},
}  # fmt: skip
PAIRS = [
    ("Which planet is red?", "Mars is often referred to as the Red Planet."),
    ("Which planet is red?", "Venus"),
    ("capital of France", "Paris, a city on the river Seine. " * 4),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tiny_language_models import train_byte_level

    folder = tmp_path_factory.mktemp("layerwise")
    tokenizer = train_byte_level(["<unk>", "<s>"], bos_token="<s>")
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": len(tokenizer)}))
    generator = torch.Generator().manual_seed(0)

    def random(*shape, scale=0.3):
        return torch.randn(shape, generator=generator) * scale

    tensors = {"model.embed_tokens.weight": random(len(tokenizer), 32), "model.norm.weight": 1 + random(32)}
    for i in range(5):
        layer = f"model.layers.{i}"
        tensors |= {f"{layer}.self_attn.{part}_proj.weight": random(32, 32) for part in "qkvo"}
        tensors |= {f"{layer}.mlp.{part}_proj.weight": random(48, 32) for part in ("gate", "up")}
        tensors[f"{layer}.mlp.down_proj.weight"] = random(32, 48)
        tensors |= {f"{layer}.{part}_layernorm.weight": 1 + random(32) for part in ("input", "post_attention")}
    tensors |= {f"lm_head.{i}.linear_head.weight": random(1, 32, scale=4.0) for i in range(4)}
    save_file(tensors, folder / "model.safetensors")
    return folder


def norm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


def rotate(x_hTd):
    half = x_hTd.shape[-1] // 2
    angles = torch.arange(x_hTd.shape[1])[:, None] * 10000.0 ** (-torch.arange(half) / half)
    cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
    return x_hTd * cos + torch.cat([-x_hTd[..., half:], x_hTd[..., :half]], -1) * sin


def reference(folder, ids, depth):
    """One row through `depth` layers, written from the published formulas."""
    weights = load_file(folder / "model.safetensors")
    x = weights["model.embed_tokens.weight"][ids] * 12
    branch = 1.4 / math.sqrt(5)
    for i in range(depth):
        w = {name.removeprefix(f"model.layers.{i}."): t for name, t in weights.items() if f".layers.{i}." in name}
        y = norm(x, w["input_layernorm.weight"])
        q, k, v = ((y @ w[f"self_attn.{p}_proj.weight"].T).view(len(ids), 4, 8).transpose(0, 1) for p in "qkv")
        attended = F.softmax(
            rotate(q) @ rotate(k).transpose(1, 2) / math.sqrt(8) + torch.full((len(ids), len(ids)), -torch.inf).triu(1),
            -1,
        )
        y = (attended @ v).transpose(0, 1).reshape(len(ids), 32)
        x = x + y @ w["self_attn.o_proj.weight"].T * branch
        y = norm(x, w["post_attention_layernorm.weight"])
        y = F.silu(y @ w["mlp.gate_proj.weight"].T) * (y @ w["mlp.up_proj.weight"].T)
        x = x + y @ w["mlp.down_proj.weight"].T * branch
    last = norm(x, weights["model.norm.weight"])[-1] / (32 / 8)
    return float(weights[f"lm_head.{depth - 2}.linear_head.weight"][0] @ last)


def rows(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    prompt = (
        "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
        "prediction of either 'Yes' or 'No'."
    )
    start = [tokenizer.bos_token_id]
    return [start + ids(f"A: {q}") + ids("\n") + ids(f"B: {d}") + ids("\n") + ids(prompt) for q, d in PAIRS]


@pytest.mark.parametrize("cutoff_layer", [None, 2, 3, 5])
def test_scores_are_those_of_the_published_formulas(folder, cutoff_layer):
    reranker = Reranker.load(folder, family=FAMILY, cutoff_layer=cutoff_layer, device="cpu", dtype="float32")
    expected = [reference(folder, torch.tensor(row), cutoff_layer or 5) for row in rows(folder)]
    print(cutoff_layer, expected)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(reranker.score(PAIRS), expected, atol=2e-5, rtol=1e-5)


def test_bfloat16_stays_within_its_steps(folder):
    exact, half = (
        Reranker.load(folder, family=FAMILY, device="cpu", dtype=dtype).score(PAIRS)
        for dtype in ("float32", "bfloat16")
    )
    # Thirty-two steps of bfloat16 at the largest score: five layers of large random weights.
    np.testing.assert_allclose(half, exact, atol=32 * 2**-8 * np.abs(exact).max())


def test_only_layers_with_a_head_can_be_the_last(folder, tiny_checkpoint):
    for wrong in (1, 6):
        with pytest.raises(InputError, match="with a head, 2 to 5, not"):
            Reranker.load(folder, family=FAMILY, cutoff_layer=wrong)
    with pytest.raises(InputError, match="bert has one head, behind its last layer: leave cutoff_layer out"):
        Reranker.load(tiny_checkpoint("bert"), cutoff_layer=2)


def test_a_missing_head_is_an_error(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    del tensors["lm_head.3.linear_head.weight"]
    save_file(tensors, broken / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"the head lm_head.3.linear_head.weight is missing"):
        Reranker.load(broken, family=FAMILY, device="cpu")
    assert Reranker.load(broken, family=FAMILY, device="cpu", cutoff_layer=4).checkpoint.cutoff_layer == 4


def test_a_config_without_the_constants_is_an_error(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "broken")
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "scale_depth"}))
    with pytest.raises(CheckpointError, match="must state the numbers scale_depth"):
        Reranker.load(broken, family=FAMILY, device="cpu")
