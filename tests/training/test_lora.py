"""Adapters on every trainable family: what is trained, saved, reloaded and merged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.conftest import losses_of, ndcg
from typer.testing import CliRunner

from crossrank import Reranker
from crossrank.cli.main import app
from crossrank.errors import CheckpointError, InputError
from crossrank.training.config import parse_recipe
from crossrank.training.run import train
from crossrank.training.trainer import GroupTrainer

PAIRS = [("mars planet", "bread red sky mars"), ("mars planet", "oven yeast"), ("reset page", "account password bread")]
TRAINING = {"max_steps": 4, "learning_rate": 1e-2, "head_learning_rate": 1e-2}


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta-v2", "modernbert", "tiny:modernbert", "tiny:llama"])
def test_an_adapter_reloads_and_merges_to_the_same_scores(
    kind, tiny_checkpoint, recipe_values, tmp_path, monkeypatch
) -> None:
    model = kind if kind.startswith("tiny:") else tiny_checkpoint(kind)
    values = recipe_values(model, lora={"rank": 4}, training=TRAINING)
    trained = {}
    finalize = GroupTrainer._finalize_training

    def keep(self, *args):
        trained["model"], trained["collator"] = self.model.model.eval(), self.data_collator
        return finalize(self, *args)

    monkeypatch.setattr(GroupTrainer, "_finalize_training", keep)
    report = train(parse_recipe(values), measure=ndcg)
    collator = trained["collator"]
    blocks, order = collator.make_blocks(collator.encoder.encode(PAIRS))
    with torch.inference_mode():
        in_memory = torch.cat([trained["model"](**block).logits.view(-1) for block in blocks])[order].numpy()

    folder = report.model
    assert not (folder / "model.safetensors").exists()
    adapter = Reranker.load(folder)
    scores = adapter.score(PAIRS)
    merged = tmp_path / "merged"
    result = CliRunner().invoke(app, ["export", str(folder), "--merge", "-o", str(merged)])
    assert result.exit_code == 0, result.output
    print(kind, "in memory", in_memory, "adapter", scores, "merged", Reranker.load(merged).score(PAIRS))
    np.testing.assert_allclose(scores, in_memory, atol=1e-4)
    np.testing.assert_allclose(Reranker.load(merged).score(PAIRS), scores, atol=1e-5)
    base = model if not kind.startswith("tiny:") else None
    if base is not None:
        assert np.abs(Reranker.load(base).score(PAIRS) - scores).max() > 0.01, "nothing was learned"


def test_the_head_is_trained_and_the_body_is_frozen(still_checkpoint, recipe_values) -> None:
    values = recipe_values(still_checkpoint, lora={"rank": 2, "targets": ["query", "value"]}, training=TRAINING)
    report = train(parse_recipe(values), measure=ndcg)
    config = json.loads((report.model / "adapter_config.json").read_text())
    assert set(config["target_modules"]) == {"query", "value"}
    assert config["modules_to_save"] == ["classifier", "score"]
    from safetensors.torch import load_file

    names = load_file(report.model / "adapter_model.safetensors").keys()
    assert {name.split(".")[-2] for name in names} == {"lora_A", "lora_B", "classifier"}
    before = load_file(still_checkpoint / "model.safetensors")["classifier.weight"]
    after = load_file(report.model / "adapter_model.safetensors")["base_model.model.classifier.weight"]
    assert not torch.equal(before, after)


def test_an_adapter_resumes_with_the_same_losses(tiny_checkpoint, recipe_values, tmp_path) -> None:
    import signal

    from tests.training.test_run import SignalAt

    values = recipe_values(tiny_checkpoint("bert"), lora={"rank": 4, "dropout": 0.1}, training={"max_steps": 5})
    train(parse_recipe(values), measure=ndcg)
    broken = values | {"output": str(tmp_path / "broken")}
    train(parse_recipe(broken), measure=ndcg, callbacks=[SignalAt(2, signal.SIGTERM)])
    train(parse_recipe(broken), measure=ndcg, resume=True)
    assert losses_of(broken["output"]) == losses_of(values["output"])


def test_targets_that_are_not_there(tiny_checkpoint, recipe_values) -> None:
    values = recipe_values(tiny_checkpoint("bert"), lora={"targets": ["q_proj"]})
    with pytest.raises(InputError, match="match no linear layer; there are dense, key, query, value"):
        train(parse_recipe(values), measure=ndcg)


def test_an_adapter_without_a_head_is_refused(recipe_values) -> None:
    from safetensors.torch import load_file, save_file

    report = train(parse_recipe(recipe_values("tiny:bert", lora={"rank": 2}, training={"max_steps": 1})), measure=ndcg)
    weights = load_file(report.model / "adapter_model.safetensors")
    headless = {name: tensor for name, tensor in weights.items() if "classifier" not in name}
    save_file(headless, report.model / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks the weights of the scoring head \(classifier\)"):
        Reranker.load(report.model)


def test_merging_a_whole_model_is_an_error(tiny_checkpoint, tmp_path: Path) -> None:
    command = ["export", str(tiny_checkpoint("bert")), "--merge", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and "there is no adapter to merge" in result.output
    assert not (tmp_path / "out").exists()
