"""Checkpoints appear whole or not at all, old ones go, the best one is found again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from tests.training.conftest import ndcg

from crossrank.errors import CheckpointError, InputError, WorkerError
from crossrank.training.checkpoints import CheckpointFolder, best_step, evaluations_since_best, publish
from crossrank.training.config import parse_recipe
from crossrank.training.run import train

ALONE = SimpleNamespace(is_main_process=True, wait_for_everyone=lambda: None)


def history(*means: float) -> list[dict]:
    return [{"step": 10 * i, "dev_mean": mean} for i, mean in enumerate(means)] + [{"step": 99, "loss": 1.0}]


def test_the_best_step() -> None:
    assert best_step(history(0.9, 0.3, 0.5, 0.5, 0.4)) == 20  # not the one before training, and the earlier of equals
    assert evaluations_since_best(history(0.9, 0.3, 0.5, 0.5, 0.4)) == 2
    assert best_step([{"step": 1, "loss": 2.0}]) is None
    assert evaluations_since_best([]) == 0


def test_old_checkpoints_go_and_the_best_stays(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, keep=2)
    for step in (10, 20, 30, 40):
        with checkpoints.appearing(step, ALONE) as folder:
            folder.mkdir()
            (folder / "weights").write_text(str(step))
    (tmp_path / "checkpoint-notes").mkdir()  # somebody's own
    checkpoints.drop_old(history(0.0, 0.7, 0.5, 0.5, 0.6), is_planned=lambda step: True)
    assert checkpoints.steps() == [10, 30, 40]
    assert (tmp_path / "checkpoint-notes").is_dir()


def test_a_checkpoint_of_an_interruption_takes_no_place(tmp_path: Path) -> None:
    """Neither of those that stay, nor for longer than it is the newest."""
    checkpoints = CheckpointFolder(tmp_path, keep=2)
    is_planned = lambda step: step % 10 == 0  # noqa: E731
    for step in (10, 20, 27):
        checkpoints.path(step).mkdir()
    checkpoints.drop_old([], is_planned=is_planned)
    assert checkpoints.steps() == [10, 20, 27]
    checkpoints.path(30).mkdir()
    checkpoints.drop_old([], is_planned=is_planned)
    assert checkpoints.steps() == [20, 30]


def test_an_output_that_cannot_be_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"output .*file.* cannot be made \(.*\): give another folder"):
            CheckpointFolder(output, keep=1).make()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, keep=2)
    with checkpoints.appearing(1, ALONE) as folder:
        folder.mkdir()
    with pytest.raises(CheckpointError) as error, checkpoints.appearing(2, ALONE) as folder:
        folder.mkdir()
        (folder / "half").write_text("a part")
        raise OSError(28, os.strerror(28))
    print(error.value)
    assert "checkpoint-2 could not be saved" in str(error.value) and "No space left on device" in str(error.value)
    assert "the last whole checkpoint is" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_what_cannot_be_written_is_one_sentence_and_other_errors_stay(tmp_path: Path) -> None:
    from safetensors import SafetensorError

    checkpoints = CheckpointFolder(tmp_path, keep=2)
    full = os.strerror(28)
    for reason in (OSError(28, full), SafetensorError(full), RuntimeError(""), Exception(full)):
        with pytest.raises(CheckpointError) as error, checkpoints.saving(tmp_path / "average"):
            raise reason
        print(error.value)
        assert str(error.value).startswith(f"{tmp_path / 'average'} could not be saved (")
        assert " MB are free there): no checkpoint was saved yet" in str(error.value)
    for other in (WorkerError("as it was"), KeyError("as it was")):
        with pytest.raises(type(other), match="as it was"), checkpoints.saving(tmp_path / "average"):
            raise other


def test_the_result_has_no_trainer_files_and_survives_its_checkpoint(tmp_path: Path) -> None:
    source = tmp_path / "checkpoint-1"
    source.mkdir()
    for name in ("model.safetensors", "optimizer.pt", "rng_state_0.pth", "trainer_state.json", "crossrank.json"):
        (source / name).write_text(name)
    publish(source, tmp_path / "model")
    publish(source, tmp_path / "model")  # again, in its place
    (source / "model.safetensors").unlink()
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["crossrank.json", "model.safetensors"]
    assert (tmp_path / "model" / "model.safetensors").read_text() == "model.safetensors"


_FULL_DISK = """
import resource, signal, sys
from transformers import TrainerCallback
from crossrank.cli.main import app
from crossrank.training import progress

class FillDisk(progress.Progress):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 2:  # from now on no file may grow beyond 50 kB
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

progress.Progress = FillDisk
app(sys.argv[1:], prog_name="crossrank")
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files")
def test_a_full_disk_is_one_sentence_and_the_run_resumes(tiny_checkpoint, recipe_values, tmp_path: Path) -> None:
    values = recipe_values(tiny_checkpoint("bert"), training={"max_steps": 3}, checkpoints={"every_steps": 1})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-c", _FULL_DISK, "train", str(tmp_path / "recipe.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    print(done.stderr)
    errors = [line for line in done.stderr.splitlines() if not line.startswith("step")]
    assert done.returncode == 1
    assert len(errors) == 1 and "checkpoint-2 could not be saved" in errors[0]
    output = Path(values["output"])
    assert sorted(path.name for path in output.glob("*checkpoint*")) == ["checkpoint-1"]
    assert train(parse_recipe(values), measure=ndcg, resume=True).step == 3
