"""Whole runs on tiny checkpoints: what is learned, what is written, resuming, and several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.training.conftest import losses_of, make_rows, ndcg, read_log, write_rows
from transformers import TrainerCallback

from crossrank import Reranker
from crossrank.errors import DataError, InputError, NumericalError
from crossrank.training.config import load_recipe, parse_recipe
from crossrank.training.group_loss import GroupLoss
from crossrank.training.run import train

PAIRS = [("mars planet", "red sky mars"), ("mars planet", "bread oven yeast"), ("reset page", "account password")]


class SignalAt(TrainerCallback):
    """Sends this process a signal while a step is computed."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        self.step, self.number = step, number

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step - 1:
            os.kill(os.getpid(), self.number)


def test_a_run_learns_and_its_result_loads_everywhere(recipe_values) -> None:
    values = recipe_values(
        "tiny:bert",
        training={"max_steps": 30, "learning_rate": 3e-3},
        evaluation={"every_steps": 10, "at_start": True},
        checkpoints={"keep": 1},
    )
    report = train(parse_recipe(values), measure=ndcg)
    log = read_log(values["output"])
    means = {entry["step"]: entry["dev_mean"] for entry in log if "dev_mean" in entry}
    print("dev nDCG@10 by step", means, report)
    assert list(means) == [0, 10, 20, 30]
    assert report.metrics["dev_mean"] > means[0] + 0.1
    assert report.metrics["dev_dev_nDCG@10"] == report.metrics["dev_mean"] == max(list(means.values())[1:])

    output = Path(values["output"])
    kept = sorted(path.name for path in output.glob("checkpoint-*"))
    assert set(kept) == {f"checkpoint-{report.best_step}", "checkpoint-30"}
    assert not [path for path in output.iterdir() if path.name.startswith(".")]

    reranker = Reranker.load(output / "model")
    scores = reranker.score(PAIRS)
    from sentence_transformers import CrossEncoder

    theirs = CrossEncoder(str(output / "model"), device="cpu").predict(PAIRS)
    np.testing.assert_allclose(scores, theirs, atol=1e-4)
    provenance = json.loads((output / "model" / "crossrank.json").read_text())["provenance"]
    assert provenance["base"] == values["model"]["name"] and provenance["step"] == report.best_step
    # The saved recipe is a recipe, and says the same.
    assert load_recipe(output / "model" / "recipe.yaml") == parse_recipe(values)


def test_the_log_has_speed_and_padding(tiny_checkpoint, recipe_values) -> None:
    values = recipe_values(tiny_checkpoint("bert"), training={"max_steps": 2})
    train(parse_recipe(values), measure=ndcg)
    entry = next(entry for entry in read_log(values["output"]) if "loss" in entry)
    print(entry)
    assert entry["groups_per_second"] > 0
    assert entry["pairs_per_second"] == pytest.approx(4 * entry["groups_per_second"])
    assert 0 <= entry["padding_share"] < 0.5
    assert entry["peak_memory_gb"] > 0.05
    assert entry["epoch"] == pytest.approx(8 / 48)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_resumes_with_the_same_losses(tiny_checkpoint, recipe_values, tmp_path, number) -> None:
    # With dropout: the random state has to come back too. Epochs of 6 steps: the order goes on into the second.
    values = recipe_values(tiny_checkpoint("bert"), training={"max_steps": 8})
    train(parse_recipe(values), measure=ndcg)
    whole = losses_of(values["output"])

    broken = values | {"output": str(tmp_path / "broken")}
    report = train(parse_recipe(broken), measure=ndcg, callbacks=[SignalAt(3, number)])
    assert (report.interrupted, report.step, report.model) == (number, 3, None)
    assert losses_of(broken["output"]) == whole[:3]
    train(parse_recipe(broken), measure=ndcg, resume=True)
    resumed = losses_of(broken["output"])
    print("uninterrupted", whole, "\nresumed      ", resumed)
    assert resumed == whole
    weights = [load_file(Path(v["output"], "checkpoint-8", "model.safetensors")) for v in (values, broken)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_where_a_run_was_interrupted_changes_neither_log_nor_average(recipe_values, tiny_checkpoint, tmp_path) -> None:
    """A line of the log is a mean over 5 steps, and the average one of the last 2 planned checkpoints."""
    values = recipe_values(
        tiny_checkpoint("bert"),
        data={"dev": []},
        training={"max_steps": 10},
        logging={"every_steps": 5},
        checkpoints={"every_steps": 5, "keep": 2, "average_last": 2},
    )
    train(parse_recipe(values), measure=ndcg)
    broken = values | {"output": str(tmp_path / "broken")}
    for step in (3, 7):
        train(parse_recipe(broken), measure=ndcg, resume=step > 3, callbacks=[SignalAt(step, signal.SIGTERM)])
    train(parse_recipe(broken), measure=ndcg, resume=True)
    lines = [losses_of(v["output"]) for v in (values, broken)]
    print("uninterrupted", lines[0], "\ninterrupted  ", lines[1])
    assert len(lines[0]) == 2 and lines[1] == lines[0]
    assert sorted(path.name for path in Path(broken["output"]).glob("checkpoint-*")) == [
        "checkpoint-10",
        "checkpoint-5",
    ]
    weights = [load_file(Path(v["output"], "model", "model.safetensors")) for v in (values, broken)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_micro_batches_do_not_change_what_is_learned(still_checkpoint, recipe_values, tmp_path) -> None:
    losses = []
    for local_batch_size in (8, 2):
        values = recipe_values(still_checkpoint, training={"local_batch_size": local_batch_size})
        values["output"] = str(tmp_path / str(local_batch_size))
        train(parse_recipe(values), measure=ndcg)
        losses.append(losses_of(values["output"]))
    print(*losses, sep="\n")
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


@pytest.mark.parametrize("option", [{"activation_checkpointing": True}, {"num_workers": 2}, {"budget_tokens": 64}])
def test_options_of_memory_and_speed_change_no_loss(still_checkpoint, recipe_values, tmp_path, option) -> None:
    losses = []
    for name, options in (("plain", {}), ("option", option)):
        values = recipe_values(still_checkpoint, training={"max_steps": 3} | options) | {"output": str(tmp_path / name)}
        train(parse_recipe(values), measure=ndcg)
        losses.append(losses_of(values["output"]))
    print(option, *losses, sep="\n")
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def run_with_processes(recipe: dict[str, Any], folder: Path, num_processes: int, *options: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes)]
    done = subprocess.run(
        [sys.executable, *command, "-m", "crossrank", "train", str(path), *options],
        capture_output=True,
        text=True,
        timeout=300,
    )
    print(done.stderr)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
def test_sharded_weights_in_bfloat16(recipe_values, tmp_path) -> None:
    """Saved in float32, resumed from shards, with an adapter on a decoder too."""
    for name, sections in (("whole", {}), ("adapter", {"lora": {"rank": 2}})):
        values = recipe_values("tiny:llama", training={"sharding": "fsdp2", "precision": "bf16"}, **sections)
        values |= {"output": str(tmp_path / name)}
        run_with_processes(values | {"training": values["training"] | {"max_steps": 2}}, tmp_path, 2)
        run_with_processes(values, tmp_path, 2, "--resume")
        assert [entry["step"] for entry in read_log(values["output"]) if "loss" in entry] == [1, 2, 3, 4, 5, 6]
        assert np.isfinite(Reranker.load(Path(values["output"], "model")).score(PAIRS)).all()


@pytest.mark.parametrize("sharding", ["none", pytest.param("fsdp2", marks=pytest.mark.slow)])
def test_two_processes_give_the_losses_and_weights_of_one(still_checkpoint, recipe_values, tmp_path, sharding) -> None:
    """Also guards the size of the gradient: clipping hides a wrong factor from losses, the norms in the log do not."""
    values = recipe_values(still_checkpoint, training={"max_steps": 4, "sharding": sharding})
    alone = values | {"output": str(tmp_path / "alone"), "training": values["training"] | {"sharding": "none"}}
    train(parse_recipe(alone), measure=ndcg)
    run_with_processes(values, tmp_path, 2)
    logs = [[e for e in read_log(v["output"]) if "loss" in e] for v in (alone, values)]
    for key in ("loss", "grad_norm"):
        one, two = ([entry[key] for entry in log] for log in logs)
        print(key, one, two, "ratio", np.array(two) / np.array(one))
        np.testing.assert_allclose(two, one, rtol=2e-4)
    weights = [load_file(Path(v["output"], "model", "model.safetensors")) for v in (alone, values)]
    assert weights[0].keys() == weights[1].keys()
    for name in weights[0]:
        # A softmax does not see these biases: their gradients are rounding, which Adam blows up to steps.
        if not name.endswith(("key.bias", "classifier.bias")):
            torch.testing.assert_close(weights[1][name], weights[0][name], atol=2e-5, rtol=1e-4)
    metrics = [next(e["dev_mean"] for e in read_log(v["output"]) if "dev_mean" in e) for v in (alone, values)]
    assert metrics[0] == pytest.approx(metrics[1])


def test_the_average_of_the_last_checkpoints(tiny_checkpoint, recipe_values) -> None:
    values = recipe_values(
        tiny_checkpoint("bert"),
        data={"dev": []},
        checkpoints={"every_steps": 2, "keep": 3, "average_last": 2},
    )
    report = train(parse_recipe(values), measure=ndcg)
    output = Path(values["output"])
    states = [load_file(output / name / "model.safetensors") for name in ("checkpoint-4", "checkpoint-6", "model")]
    assert report.best_step is None
    for name, tensor in states[2].items():
        torch.testing.assert_close(tensor, (states[0][name] + states[1][name]) / 2)


def test_patience_ends_a_run(tiny_checkpoint, recipe_values) -> None:
    flat = lambda qrels, run: 0.5  # noqa: E731  never better
    values = recipe_values(tiny_checkpoint("bert"), evaluation={"every_steps": 1, "patience": 2})
    report = train(parse_recipe(values), measure=flat)
    assert (report.step, report.best_step) == (3, 1)


def test_a_run_is_not_overwritten(tiny_checkpoint, recipe_values) -> None:
    values = recipe_values(tiny_checkpoint("bert"), training={"max_steps": 1})
    train(parse_recipe(values), measure=ndcg)
    with pytest.raises(InputError, match="continue it with --resume"):
        train(parse_recipe(values), measure=ndcg)
    other = values | {"loss": {"name": "ranknet"}}
    with pytest.raises(InputError, match="was trained with loss"):
        train(parse_recipe(other), measure=ndcg, resume=True)


def test_nan_stops_before_it_spoils_the_weights(tiny_checkpoint, recipe_values, monkeypatch) -> None:
    values = recipe_values(tiny_checkpoint("bert"), checkpoints={"every_steps": 2})
    original = GroupLoss.__call__
    steps = iter(range(100))

    def spoiled(self, scores, batch):
        loss = original(self, scores, batch)
        return loss * float("nan") if next(steps) >= 12 else loss  # 4 micro-batches a step: in the fourth step

    monkeypatch.setattr(GroupLoss, "__call__", spoiled)
    with pytest.raises(NumericalError) as error:
        train(parse_recipe(values), measure=ndcg)
    print(error.value)
    assert "the loss became nan at step 4" in str(error.value) and "checkpoint-2; --resume" in str(error.value)
    weights = load_file(Path(values["output"], "checkpoint-2", "model.safetensors"))
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_weights_that_are_not_finite_are_never_saved(tiny_checkpoint, recipe_values) -> None:
    values = recipe_values(
        tiny_checkpoint("bert"),
        data={"dev": []},
        training={"learning_rate": 1e38, "schedule": "constant"},
        checkpoints={"every_steps": 1},
    )
    with pytest.raises(NumericalError) as error:
        train(parse_recipe(values), measure=ndcg)
    print(error.value)
    assert "a weight became NaN or infinite at step 2: the last whole checkpoint is" in str(error.value)
    assert [path.name for path in Path(values["output"]).glob("checkpoint-*")] == ["checkpoint-1"]


def test_a_dev_score_that_is_not_finite_says_where_to_go_on(tiny_checkpoint, recipe_values) -> None:
    values = recipe_values(
        tiny_checkpoint("bert"),
        training={"learning_rate": 1e30, "schedule": "constant"},
        evaluation={"every_steps": 1},
    )
    with pytest.raises(NumericalError, match=r"dev set dev: .* NaN or infinite after step 2: .*checkpoint-1; --resume"):
        train(parse_recipe(values), measure=ndcg)


def test_an_infinite_gradient_changes_no_weight(tiny_checkpoint, recipe_values, monkeypatch) -> None:
    class Spoil(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("inf")

    original = GroupLoss.__call__
    monkeypatch.setattr(GroupLoss, "__call__", lambda self, s, b: original(self, Spoil.apply(s), b))
    with pytest.raises(NumericalError, match="no weight was changed: no checkpoint was saved yet"):
        train(parse_recipe(recipe_values(tiny_checkpoint("bert"))), measure=ndcg)


def test_data_that_the_loss_has_no_meaning_for(tiny_checkpoint, recipe_values, tmp_path) -> None:
    values = recipe_values(tiny_checkpoint("bert"), loss={"name": "margin_mse"})
    with pytest.raises(InputError, match=r"query .* loss 'margin_mse' needs a teacher score"):
        train(parse_recipe(values), measure=ndcg)
    assert not Path(values["output"]).exists()


def test_two_dev_sets_of_one_name_are_two(tiny_checkpoint, recipe_values, tmp_path) -> None:
    paths = []
    for number, name in enumerate(("a", "a-2", "a")):
        folder = tmp_path / str(number)
        folder.mkdir()
        paths.append(str(write_rows(folder / f"{name}.jsonl", make_rows(3, first=600 + 3 * number))))
    values = recipe_values(tiny_checkpoint("bert"), data={"dev": paths}, training={"max_steps": 1})
    metrics = train(parse_recipe(values), measure=ndcg).metrics
    print(metrics)
    assert set(metrics) == {"dev_mean", "dev_a_nDCG@10", "dev_a-2_nDCG@10", "dev_a-3_nDCG@10"}


def test_bad_data(tiny_checkpoint, recipe_values, tmp_path) -> None:
    rows = make_rows(8)
    rows[2]["neg_doc"] = []
    path = write_rows(tmp_path / "bad.jsonl", rows)
    bad = {"train": [str(path)], "dev": [], "negatives": {"num": 3, "when_too_few": "error"}}
    with pytest.raises(DataError) as error:
        train(parse_recipe(recipe_values(tiny_checkpoint("bert"), data=bad)), measure=ndcg)
    print(error.value)
    assert f"{path}:3" in str(error.value)
    missing = {"train": [str(tmp_path / "none.jsonl")], "dev": []}
    with pytest.raises(DataError, match=r"none\.jsonl"):
        train(parse_recipe(recipe_values(tiny_checkpoint("bert"), data=missing)), measure=ndcg)


def test_batch_sizes_that_do_not_fit(tiny_checkpoint, recipe_values) -> None:
    values = recipe_values(tiny_checkpoint("bert"), training={"global_batch_size": 9})
    with pytest.raises(InputError, match="global_batch_size=9 must be a multiple of local_batch_size=2 times 1"):
        train(parse_recipe(values), measure=ndcg)


_KILLS_WORKER = """
import os, signal, sys
from transformers import TrainerCallback
from crossrank.cli import train as command
from crossrank.cli.main import app
from crossrank.training import progress

class KillWorker(progress.Progress):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 2:
            children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
            workers = [pid for pid in children if "pt_data" in open(f"/proc/{pid}/comm").read()]
            assert workers, children
            for pid in workers:
                os.kill(int(pid), signal.SIGKILL)

progress.Progress = KillWorker
app(sys.argv[1:], prog_name="crossrank")
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the worker under /proc")
def test_a_killed_data_worker_is_one_sentence(tiny_checkpoint, recipe_values, tmp_path) -> None:
    values = recipe_values(
        tiny_checkpoint("bert"), training={"num_workers": 1, "max_steps": 50}, checkpoints={"every_steps": 1}
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-c", _KILLS_WORKER, "train", str(tmp_path / "recipe.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    print(done.stderr)
    errors = [line for line in done.stderr.splitlines() if not line.startswith("step")]
    assert done.returncode == 1
    assert len(errors) == 1 and "another process of this run died: the last whole checkpoint is" in errors[0]
    last = sorted(Path(values["output"]).glob("checkpoint-*"))[-1]
    assert all(torch.isfinite(tensor).all() for tensor in load_file(last / "model.safetensors").values())


@pytest.mark.slow
def test_a_killed_process_is_one_sentence(still_checkpoint, recipe_values, tmp_path) -> None:
    values = recipe_values(still_checkpoint, training={"max_steps": 2000}, checkpoints={"every_steps": 5})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "crossrank", "train"]
    with subprocess.Popen(
        [sys.executable, *command, str(tmp_path / "recipe.yaml")], stderr=subprocess.PIPE, text=True
    ) as launcher:
        while not list(Path(values["output"]).glob("checkpoint-*")):
            assert launcher.poll() is None, launcher.stderr.read()
            time.sleep(0.2)
        workers = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        os.kill(int(workers[-1]), signal.SIGKILL)
        errors = launcher.stderr.read()
    print(errors)
    own = [line for line in errors.splitlines() if line.startswith("Error:")]
    assert len(own) == 1 and "another process of this run died: the last whole checkpoint is" in own[0]
    for folder in Path(values["output"]).glob("checkpoint-*"):
        assert all(torch.isfinite(tensor).all() for tensor in load_file(folder / "model.safetensors").values())
