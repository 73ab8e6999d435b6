"""A line for every entry of the log, for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments

from crossrank.training.checkpoints import DEV_MEAN


class Progress(TrainerCallback):
    """Says how a run goes.

    Args:
        write: Takes a line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def on_log(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Say what the newest entry of the log holds."""
        entry = state.log_history[-1]
        if not state.is_world_process_zero:
            return
        start = f"step {entry['step']}/{state.max_steps}"
        if "loss" in entry:
            self._write(
                f"{start}  loss {entry['loss']:.4f}  lr {entry['learning_rate']:.2e}  "
                f"{entry['groups_per_second']:.1f} groups/s  {entry['tokens_per_second']:.0f} tokens/s  "
                f"padding {entry['padding_share']:.0%}  peak {entry['peak_memory_gb']:.1f} GB"
            )
        elif DEV_MEAN in entry:
            values = (f"{key.removeprefix('dev_')} {value:.4f}" for key, value in entry.items() if key[:4] == "dev_")
            self._write(f"{start}  {'  '.join(values)}")
