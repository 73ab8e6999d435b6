"""What a run starts from: which folders give a body under a fresh head."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from crossrank.training.config import ModelSection
from crossrank.training.model import load_trainee


@pytest.mark.parametrize("path", ["", "0_Transformer"])
def test_an_embedding_model_gives_its_transformer_under_a_fresh_head(tmp_path, tiny_checkpoint, path):
    reranker = tiny_checkpoint("bert")
    body = tmp_path / path
    AutoModel.from_pretrained(reranker).save_pretrained(body)
    AutoTokenizer.from_pretrained(reranker).save_pretrained(body)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 32, "pooling_mode_mean_tokens": true}'
    )
    modules = [
        {"idx": 0, "name": "0", "path": path, "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))

    trainee = load_trainee(ModelSection(name=str(tmp_path)), seed=1, dtype=torch.float32, on_cpu=False)

    assert trainee.fresh == ("classifier.bias", "classifier.weight")
    stored = load_file(body / "model.safetensors")
    own = trainee.model.state_dict()
    assert all(torch.equal(own[f"bert.{name}"], weight) for name, weight in stored.items())
    assert trainee.encoder.encode([("red planet", "Mars looks red.")]).lengths[0] > 4
