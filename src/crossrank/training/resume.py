"""Where a run goes on from, and what must not have changed since."""

from __future__ import annotations

from pathlib import Path

import yaml

from crossrank.errors import InputError
from crossrank.training.checkpoints import CheckpointFolder
from crossrank.training.config import RECIPE_FILE, Recipe, recipe_to_yaml

# What must not change when a run is resumed, or its steps would not follow from each other.
_FIXED = (("model",), ("loss",), ("lora",), ("training", "global_batch_size"), ("training", "seed"))


def find_start(recipe: Recipe, checkpoints: CheckpointFolder, *, resume: bool) -> Path | None:
    """Return the checkpoint to go on from, or None to start.

    Raises:
        InputError: If there are checkpoints but the run is not to be resumed, or it was another run's.
    """
    steps = checkpoints.steps()
    if not steps:
        return None
    last = checkpoints.path(steps[-1])
    if not resume:
        raise InputError(
            f"{checkpoints.output} holds a run up to {last.name}: continue it with --resume, or give another"
        )
    before = yaml.safe_load((last / RECIPE_FILE).read_text(encoding="utf-8"))
    now = yaml.safe_load(recipe_to_yaml(recipe))
    for path in _FIXED:
        old, new = before, now
        for key in path:
            old, new = old.get(key), new.get(key)
        if old != new:
            raise InputError(f"{last} was trained with {'.'.join(path)} {old}, not {new}: resume with the same recipe")
    return last
