"""The checkpoints of a run: each complete when it appears, old ones dropped, the best one found again.

OUTPUT/
  recipe.yaml        the resolved recipe
  log.jsonl          a line for every log entry and evaluation
  checkpoint-500/    weights, tokenizer, crossrank.json, and what --resume needs
  model/             the result: the best checkpoint, or the average of the last ones
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrank.errors import CheckpointError, InputError, RerankError

if TYPE_CHECKING:
    from torch import Tensor

# The mean of the measure over all dev sets, in the Trainer's log.
DEV_MEAN = "dev_mean"
# The sum of the losses since the last line of the log, which the next line is a mean over.
PENDING_LOSS_FILE = "pending_loss.json"
# What only resuming needs.
_TRAINER_FILES = (
    "trainer_state.json",
    "optimizer*",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*",
    "pytorch_model_fsdp*",
    PENDING_LOSS_FILE,
)


# What torch says when a process that it talks to is gone.
_DEATHS = ("Connection closed by peer", "Connection reset by peer", "DataLoader worker", "Broken pipe")


def is_death(error: BaseException) -> bool:
    """Return whether an error says that another process of the run has died."""
    return isinstance(error, ConnectionError) or any(words in str(error) for words in _DEATHS)


class CheckpointFolder:
    """The output folder of a run.

    Args:
        output: The folder.
        keep: How many of the last checkpoints stay, besides the best.
    """

    def __init__(self, output: Path, *, keep: int) -> None:
        self.output = output
        self._keep = keep

    def make(self) -> None:
        """Make the folder, if it is not there.

        Raises:
            InputError: If that cannot be done.
        """
        try:
            self.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"output {self.output} cannot be made ({reason}): give another folder") from None

    def path(self, step: int) -> Path:
        """Return where the checkpoint of a step lies."""
        return self.output / f"checkpoint-{step}"

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints that are there, ascending."""
        names = (path.name.removeprefix("checkpoint-") for path in self.output.glob("checkpoint-*"))
        return sorted(int(name) for name in names if name.isdecimal())

    def describe_last(self) -> str:
        """Return a clause for errors: where the last checkpoint is."""
        steps = self.steps()
        if not steps:
            return "no checkpoint was saved yet"
        return f"the last whole checkpoint is {self.path(steps[-1])}; --resume continues from it"

    @contextmanager
    def appearing(self, step: int, accelerator: Any) -> Iterator[Path]:
        """Give every process a folder to write into, which becomes the checkpoint of the step at the end.

        Raises:
            CheckpointError: If it cannot be written; nothing of it stays.
        """
        target = self.path(step)
        fresh = self.output / f".{target.name}.saving"
        if accelerator.is_main_process:
            shutil.rmtree(fresh, ignore_errors=True)
        accelerator.wait_for_everyone()
        try:
            with self.saving(target):
                yield fresh
                accelerator.wait_for_everyone()
                if accelerator.is_main_process:
                    shutil.rmtree(target, ignore_errors=True)
                    fresh.rename(target)
                accelerator.wait_for_everyone()
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    @contextmanager
    def saving(self, target: Path) -> Iterator[None]:
        """Turn what a disk that is full says into one sentence.

        Raises:
            CheckpointError: If the block cannot write.
        """
        from safetensors import SafetensorError

        try:
            yield
        except Exception as error:
            # For a disk that is full torch and safetensors have errors of their own, tokenizers a bare exception.
            says_so = type(error) is Exception or isinstance(error, OSError | RuntimeError | SafetensorError)
            if not says_so or isinstance(error, RerankError) or is_death(error):
                raise
            reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
            # Of a full disk torch says nothing but that a position in a file is not the one that it expected.
            space = f"{shutil.disk_usage(self.output).free / 1e6:.1f} MB are free there"
            raise CheckpointError(f"{target} could not be saved ({reason}; {space}): {self.describe_last()}") from error

    def drop_old(self, history: Sequence[Mapping[str, Any]], *, is_planned: Callable[[int], bool]) -> None:
        """Delete all checkpoints but the last planned ones, the best, and the newest.

        One that an interruption has made goes as soon as there is a newer one: what is kept in the end, and averaged,
        does not depend on where a run was interrupted.
        """
        steps = self.steps()
        kept = {*[step for step in steps if is_planned(step)][-self._keep :], best_step(history), *steps[-1:]}
        for step in steps:
            if step not in kept:
                shutil.rmtree(self.path(step), ignore_errors=True)


def best_step(history: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the step whose evaluation was the best, the earliest of equal ones; None without evaluations.

    An evaluation before the first update has no checkpoint and does not count.

    Args:
        history: The Trainer's log.
    """
    evaluations = [entry for entry in history if DEV_MEAN in entry and entry["step"] > 0]
    return max(evaluations, key=lambda entry: entry[DEV_MEAN])["step"] if evaluations else None


def metrics_of(history: Sequence[Mapping[str, Any]], step: int) -> dict[str, float]:
    """Return the evaluation at a step, the last one where there are several: the measure on each dev set, the mean."""
    entries = [entry for entry in history if DEV_MEAN in entry and entry["step"] == step]
    return {key: value for entry in entries for key, value in entry.items() if key.startswith("dev_")}


def evaluations_since_best(history: Sequence[Mapping[str, Any]]) -> int:
    """Return how many evaluations in a row were no better than the best before them."""
    best = best_step(history)
    return sum(1 for entry in history if DEV_MEAN in entry and best is not None and entry["step"] > best)


def average_weights(folders: Sequence[Path]) -> dict[str, Tensor]:
    """Return the mean of the weights of several checkpoints of one run.

    Source: Izmailov et al., "Averaging weights leads to wider optima and better generalization" (2018).
    """
    states = [read_weights(folder) for folder in folders]
    return {
        name: sum((state[name].double() for state in states), start=0 * tensor.double())
        .div(len(states))
        .to(tensor.dtype)
        for name, tensor in states[0].items()
    }


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint: of the whole model, or of its adapter."""
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def publish(checkpoint: Path, target: Path) -> None:
    """Put a checkpoint in its final place, without what only resuming needs and without copying weights.

    An older result in that place is replaced in one step.
    """
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(checkpoint, fresh, ignore=shutil.ignore_patterns(*_TRAINER_FILES), copy_function=_link_or_copy)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
