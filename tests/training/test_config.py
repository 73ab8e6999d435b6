"""Recipes: strict keys, overrides, defaults, and what is written back."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossrank.cli.main import app
from crossrank.errors import DataError, InputError
from crossrank.training.config import Recipe, load_recipe, parse_recipe, recipe_to_yaml

RECIPE = """
output: out
model: {name: tiny:bert}
data:
  train: [{path: train.jsonl, weight: 2.0}]
training: {learning_rate: 3e-6, warmup_steps: 100}
loss: {name: binary_cross_entropy, pos_weight: 7}
smoke:
  training: {max_steps: 2}
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_a_recipe_its_smoke_form_and_overrides(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file)
    # YAML 1.1 would take 3e-6 for a string.
    assert (recipe.training.learning_rate, recipe.training.max_steps) == (3e-6, None)
    assert load_recipe(recipe_file, smoke=True).training.max_steps == 2
    changed = load_recipe(recipe_file, overrides=["training.learning_rate=1e-4", "lora.rank=4", "loss.name=ranknet"])
    assert changed.training.learning_rate == 1e-4 and changed.training.warmup_steps == 100
    assert changed.lora is not None and changed.lora.rank == 4
    assert changed.loss.model_dump() == {"name": "ranknet", "sigma": 1.0}


def test_the_resolved_recipe_says_the_same_and_everything(recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file)
    text = recipe_to_yaml(recipe)
    print(text)
    (tmp_path / "resolved.yaml").write_text(text)
    assert load_recipe(tmp_path / "resolved.yaml") == recipe
    for section in ("training", "evaluation", "checkpoints", "logging", "model"):
        for name in type(getattr(recipe, section)).model_fields:
            assert f"\n  {name}:" in text


def test_the_options_of_the_default_loss_need_no_name() -> None:
    values = {"output": "o", "model": {"name": "m"}, "data": {"train": ["t"]}}
    loss = parse_recipe(values, ["loss.temperature=0.5"]).loss
    assert loss.model_dump() == {"name": "softmax_cross_entropy", "temperature": 0.5}
    with pytest.raises(DataError, match="unknown key 'sigma'; known are 'name', 'temperature'"):
        parse_recipe(values, ["loss.sigma=2"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.learnin_rate=1", "training: unknown key 'learnin_rate'; did you mean 'learning_rate'?"),
        ("trainin.seed=1", "unknown key 'trainin'; did you mean 'training'?"),
        ("data.negatives.number=1", "data.negatives: unknown key 'number'; did you mean 'num'?"),
        ("loss={name: listnet, temperature: 2}", "unknown key 'temperature'"),
        ("loss.name=ranknett", "loss: unknown name 'ranknett'; did you mean 'ranknet'?"),
        ("training.global_batch_size=many", "training.global_batch_size: "),
        ("training.learning_rate=0", "training.learning_rate: "),
        ("checkpoints.average_last=1", "averages nothing"),
        ("checkpoints.average_last=5", "average_last=5 needs as many checkpoints, but keep=2"),
    ],
)
def test_what_a_recipe_cannot_say(recipe_file: Path, override: str, words: str) -> None:
    with pytest.raises(DataError) as error:
        load_recipe(recipe_file, overrides=[override])
    print(error.value)
    assert str(error.value).startswith(str(recipe_file)) and words in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("output: [", "not YAML"),
        ("- a\n- b", "a recipe is a mapping"),
        ("output: a\noutput: b", "2: not YAML: key 'output' stands twice"),
        (b"\xff\xfe\x00", "cannot be read"),
        ("output: a", "model: Field required"),
    ],
)
def test_files_that_are_no_recipes(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as error:
        load_recipe(path)
    print(error.value)
    assert words in str(error.value)


def test_a_missing_recipe_and_a_bad_override(tmp_path: Path, recipe_file: Path) -> None:
    with pytest.raises(DataError, match="no such recipe"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(InputError, match=r"--set takes section\.key=value"):
        load_recipe(recipe_file, overrides=["training.seed"])
    (tmp_path / "plain.yaml").write_text(RECIPE.split("smoke:")[0])
    with pytest.raises(DataError, match="no 'smoke' section"):
        load_recipe(tmp_path / "plain.yaml", smoke=True)


def test_the_command_prints_every_default(recipe_file: Path) -> None:
    bare = CliRunner().invoke(app, ["train", "--print-config"])
    assert bare.exit_code == 0 and "learning_rate: 2.0e-05" in bare.output
    mine = CliRunner().invoke(app, ["train", str(recipe_file), "--print-config", "--set", "training.seed=7", "-o", "x"])
    assert "seed: 7" in mine.output and "output: x" in mine.output
    wrong = CliRunner().invoke(app, ["train", str(recipe_file), "--set", "training.sed=7"])
    assert wrong.exit_code == 2 and "did you mean 'seed'?" in wrong.output
    assert CliRunner().invoke(app, ["train"]).exit_code == 2


def test_the_defaults_of_the_recipe_are_those_of_its_sections() -> None:
    recipe = parse_recipe({"output": "o", "model": {"name": "m"}, "data": {"train": ["t"]}})
    assert isinstance(recipe, Recipe) and recipe.loss.name == "softmax_cross_entropy" and recipe.lora is None
