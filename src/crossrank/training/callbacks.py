"""What happens between two updates: evaluation, saving, stopping, and the log file."""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from crossrank.training.checkpoints import evaluations_since_best


class Schedule(TrainerCallback):
    """Evaluates and saves every so many steps and at the end, and stops where nothing has become better for long.

    Args:
        evaluate_every: Steps between two evaluations; None without dev sets. Below 1, a share of all steps.
        save_every: Steps between two checkpoints, besides those after each evaluation; below 1, a share of all steps.
        patience: Evaluations in a row that may be no better than the best; None for any number.
    """

    def __init__(self, *, evaluate_every: float | None, save_every: float, patience: int | None) -> None:
        self._evaluate_every = evaluate_every
        self._save_every = save_every
        self._patience = patience

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Decide what follows an update."""
        step, last = state.global_step, state.max_steps
        control.should_evaluate = self._is_evaluated(step, last)
        control.should_save = self.is_planned(step, last)
        control.should_log = control.should_log or step >= last
        return control

    def is_planned(self, step: int, last: int) -> bool:
        """Return whether a checkpoint belongs after an update, in a run of so many; an interruption's does not."""
        return step >= last or self._is_evaluated(step, last) or _is_due(self._save_every, step, last)

    def _is_evaluated(self, step: int, last: int) -> bool:
        return self._evaluate_every is not None and (step >= last or _is_due(self._evaluate_every, step, last))

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Stop where patience has run out."""
        if self._patience is not None and evaluations_since_best(state.log_history) >= self._patience:
            control.should_training_stop = True
        return control


class Interruption(TrainerCallback):
    """Turns SIGTERM and Ctrl-C into a checkpoint and an orderly end; a second Ctrl-C ends at once.

    With several processes, all of them stop at the same step as soon as one has got the signal.

    Attributes:
        received: The signal, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._note)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Save and stop if a signal came."""
        self._tell_each_other(args)
        if self.received is not None:
            control.should_save = True
            control.should_training_stop = True
        return control

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    def _tell_each_other(self, args: TrainingArguments) -> None:
        if not (distributed.is_available() and distributed.is_initialized()):
            return
        number = torch.tensor(int(self.received or 0), device=args.device)
        distributed.all_reduce(number, op=distributed.ReduceOp.MAX)
        if number.item():
            self.received = signal.Signals(int(number.item()))


class JsonLinesLog(TrainerCallback):
    """Writes every entry of the log as a line of `log.jsonl`; a resumed run drops what came after its checkpoint.

    Args:
        path: The file.
        saving: Turns what a full disk says into one sentence.
    """

    def __init__(self, path: Path, *, saving: Callable[[Path], AbstractContextManager[None]]) -> None:
        self._path = path
        self._saving = saving

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Keep the entries up to the step that the run starts from."""
        if not state.is_world_process_zero:
            return
        kept = []
        if state.global_step and self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= state.global_step]
        with self._saving(self._path):
            self._path.write_text("".join(kept), encoding="utf-8")

    def on_log(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Append the newest entry."""
        if state.is_world_process_zero:
            with self._saving(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(state.log_history[-1]) + "\n")


def _is_due(every: float, step: int, last: int) -> bool:
    return step % (max(1, math.ceil(every * last)) if every < 1 else round(every)) == 0
