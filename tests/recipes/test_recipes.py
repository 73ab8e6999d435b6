"""Every recipe that ships runs in its one-minute form, on real rows, and its result ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossrank import Reranker
from crossrank.cli.main import app
from crossrank.training.config import load_recipe

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def test_the_recipes_are_there() -> None:
    names = {path.stem for path in RECIPES}
    assert names >= {
        "llama3_2_1b", "llama3_2_1b_lora", "llama3_1_8b_lora", "modernbert_base", "minilm_l6", "domain_adaptation",
        "weak_supervision", "distill", "llama_nemotron_vl", "vl_from_parts",
    }  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_smoke_form_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command = ["train", str(path), "--smoke", "-o", str(tmp_path / "out"), "--set", f"data.cache_dir={tmp_path}/cache"]
    result = CliRunner().invoke(app, command)
    print(result.output)
    assert result.exit_code == 0, result.output
    assert "dev_mean" in result.output
    reranker = Reranker.load(tmp_path / "out" / "model", backend="torch")
    ranking = reranker.rank("How much may a hotel room cost?", ["A room may cost 140 euros.", "Bread needs yeast."])
    assert len(ranking) == 2


def test_the_defaults_of_nemo_automodel() -> None:
    """Its examples/retrieval/cross_encoder/llama3_2_1b.yaml."""
    recipe = load_recipe(ROOT / "recipes" / "llama3_2_1b.yaml")
    training = recipe.training
    assert (training.global_batch_size, training.local_batch_size, recipe.data.num_passages) == (128, 4, 5)
    assert (recipe.model.max_length, recipe.model.pooling, training.num_epochs) == (512, "avg", 1)
    assert (training.learning_rate, training.weight_decay, training.warmup_steps) == (3e-6, 0.01, 100)
    assert (training.schedule, training.max_grad_norm, training.precision) == ("cosine", 1.0, "bf16")
    assert recipe.loss.model_dump() == {"name": "softmax_cross_entropy", "temperature": 1.0}
