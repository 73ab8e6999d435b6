"""The GPU benchmark runs (its small form on a CPU), counts operations right, and its workloads are what it says."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    return gpu


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_operations_are_those_that_torch_counts(gpu, kind):
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
    sizes |= {"vocab_size": 50, "max_position_embeddings": 64}
    if kind == "llama":
        sizes |= {"num_key_value_heads": 2}
    config = LlamaConfig(**sizes) if kind == "llama" else BertConfig(**sizes)
    config._attn_implementation = "eager"
    model = LlamaModel(config) if kind == "llama" else BertModel(config, add_pooling_layer=False)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.ones(1, 20, dtype=torch.long))
    counted = counter.get_total_flops()
    assert gpu.Shape(kind, sizes).flops(np.array([20])) == pytest.approx(counted, rel=0.01)
    assert gpu.Shape(kind, sizes).flops(np.array([20, 20])) == pytest.approx(2 * counted, rel=0.01)


def test_the_workloads_have_the_stated_lengths(gpu):
    from crossrank.models.checkpoint import load_encoder, open_checkpoint

    encoder = load_encoder(open_checkpoint(None, max_length=512))
    workloads = gpu.make_workloads(gpu.GPU_SCALE)
    assert {key: len(pairs) for key, pairs in workloads.items()} == {"mix": 4096, "long": 128}
    assert 105 < encoder.encode(workloads["mix"][:1024]).lengths.mean() < 140
    ids = encoder.tokenizer.encode_batch([document for _, document in workloads["long"][:8]])
    assert all(3900 < len(row.ids) < 4300 for row in ids)


@pytest.mark.slow
def test_the_small_form_measures_both_libraries(tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--quick", "--device", "cpu", "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = json.loads(figures.read_text())["rows"]
    assert {(row["shape"], row["workload"]) for row in rows} == {
        (shape, key) for shape in ("llama-small", "minilm") for key in ("mix", "long")
    }
    assert all(row["pairs_per_s"] > 0 and row["max_abs"] < 1e-3 for row in rows)
