"""The engine: `transformers.Trainer` with the group loss, the group order, ranking on dev sets and atomic checkpoints.

What distributes, accumulates, clips, schedules and logs is the Trainer's (and accelerate's). One "epoch" of the
Trainer is the whole run here: `GroupOrder` knows the epochs of the data.

Shape letter: `P` pairs of a micro-batch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from crossrank.errors import NumericalError
from crossrank.training.batches import Collator, GroupDataset, GroupOrder
from crossrank.training.callbacks import Schedule
from crossrank.training.checkpoints import PENDING_LOSS_FILE, CheckpointFolder, metrics_of
from crossrank.training.group_loss import GroupLoss
from crossrank.training.scorer import BlockScorer
from crossrank.training.throughput import Throughput
from crossrank.training.trained_model import TrainedModel

Evaluate = Callable[[Any], dict[str, float]]


class GroupTrainer(Trainer):
    """Trains a model on groups.

    Args:
        trained: The model.
        args: Of the Trainer; `max_steps` and the batch sizes count groups.
        dataset: The groups.
        order: Which group stands where in the run.
        collator: Groups to batches.
        loss: What is minimised.
        num_groups: Groups of one epoch of the data.
        checkpoints: Where checkpoints lie, and which are kept.
        evaluate: Ranks the dev sets with a scorer; None where there are none.
        schedule: When it is evaluated and saved.
        callbacks: Further ones, as of the Trainer.
        head_learning_rate: Of the scoring head, or None for that of the rest.
    """

    control: TrainerControl
    # The loss is a mean over a micro-batch: the Trainer divides it by the number of them.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *,
        trained: TrainedModel,
        args: TrainingArguments,
        dataset: GroupDataset,
        order: GroupOrder,
        collator: Collator,
        loss: GroupLoss,
        num_groups: int,
        checkpoints: CheckpointFolder,
        evaluate: Evaluate | None,
        schedule: Schedule,
        callbacks: list[TrainerCallback],
        head_learning_rate: float | None,
    ) -> None:
        super().__init__(
            model=BlockScorer(trained.module, temperature=trained.trainee.checkpoint.settings.temperature),
            args=args,
            data_collator=collator,
            train_dataset=dataset,
            callbacks=[schedule, *callbacks],
        )
        self._trained = trained
        self._head = trained.head
        self._schedule = schedule
        self._order = order
        self._loss = loss
        self._num_groups = num_groups
        self._checkpoints = checkpoints
        self._evaluate_dev = evaluate
        self._head_learning_rate = head_learning_rate
        self._throughput = Throughput()
        if self.is_fsdp_enabled and args.bf16:
            # Gradients are summed, and scores returned, in float32; accelerate would round both to bfloat16.
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
                param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32
            )

    @property
    def has_dev(self) -> bool:
        """Whether there are dev sets to evaluate on."""
        return self._evaluate_dev is not None

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[Any]:
        return self._order

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Give the scoring head its own learning rate."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if self._head_learning_rate is None:
            return optimizer
        heads = {id(p) for module in self._head for p in module.parameters()}
        for group in list(optimizer.param_groups):
            own = [p for p in group["params"] if id(p) in heads]
            group["params"] = [p for p in group["params"] if id(p) not in heads]
            if own:
                optimizer.add_param_group({**group, "params": own, "lr": self._head_learning_rate})
        return optimizer

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the mean loss of the groups of a micro-batch.

        Raises:
            NumericalError: If it is NaN or infinite; no weight has changed since the last update.
        """
        scores_P = model(inputs["blocks"], inputs["order"])
        loss = self._loss(scores_P, inputs)
        if not torch.isfinite(loss):
            where = ", ".join(inputs["query_ids"][:3])
            what = f"the loss became {float(loss.detach())} at step {self.state.global_step + 1} (queries {where}, ...)"
            raise self._numerical_error(what)
        self._throughput.count(inputs)
        return (loss, {"scores": scores_P}) if return_outputs else loss

    def _clip_grad_norm(self, model: Any) -> Any:
        """Refuse an update from a gradient that is NaN or infinite; float16 has a scaler that leaves it out."""
        norm = super()._clip_grad_norm(model)
        if not self.args.fp16 and not math.isfinite(float(norm)):
            what = f"the gradient became {float(norm)} at step {self.state.global_step + 1}, and no weight was changed"
            raise self._numerical_error(what)
        return norm

    def _numerical_error(self, what: str) -> NumericalError:
        advice = "lower the learning rate, or train with precision fp32"
        return NumericalError(f"{what}: {self._checkpoints.describe_last()}; {advice}")

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Rank the dev sets and return the measure on each, and its mean."""
        assert self._evaluate_dev is not None, "evaluation without dev sets"
        self._throughput.pause()
        try:
            metrics = self._evaluate_dev(self)
        except NumericalError as error:
            raise self._numerical_error(f"{error} after step {self.state.global_step}") from None
        self._throughput.go_on()
        self.log(dict(metrics))  # which puts more into it
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the speed since the last line, and the epoch of the data."""
        if "loss" in logs:
            logs |= self._throughput.read(self.accelerator)
        super().log(logs, start_time)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self.state.epoch = self.state.global_step * self._groups_per_step / self._num_groups
        super()._maybe_log_save_evaluate(*args, **kwargs)

    @property
    def _groups_per_step(self) -> int:
        return int(self.get_total_train_batch_size(self.args))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        if self.args.should_save:
            assert output_dir is not None, "models are saved inside checkpoints alone"
            gathered = state_dict and {key.removeprefix("model."): value for key, value in state_dict.items()}
            step = self.state.global_step
            metrics = metrics_of(self.state.log_history, step)
            self._trained.save(Path(output_dir), step=step, metrics=metrics, state_dict=gathered)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint beside the others; it is complete when it appears under its name.

        Raises:
            NumericalError: If a weight is NaN or infinite: nobody can go on from there.
            CheckpointError: If it cannot be written; nothing of it stays.
        """
        if not all(bool(_local_part(weight).isfinite().all()) for weight in self.model.parameters()):
            raise self._numerical_error(f"a weight became NaN or infinite at step {self.state.global_step}")
        with self._checkpoints.appearing(self.state.global_step, self.accelerator) as folder:
            self.save_model(str(folder), _internal_call=True)
            self.accelerator.wait_for_everyone()
            self._save_optimizer_and_scheduler(str(folder))
            self._save_scaler(str(folder))
            self._save_rng_state(str(folder))
            losses = self.accelerator.gather(self._tr_loss.reshape(1))
            if self.args.should_save:
                pending = {"loss": losses.mean().item(), "since": self._globalstep_last_logged}
                (folder / PENDING_LOSS_FILE).write_text(json.dumps(pending) + "\n", encoding="utf-8")
                self.state.save_to_json(str(folder / TRAINER_STATE_NAME))
        if self.args.should_save:
            is_planned = partial(self._schedule.is_planned, last=self.state.max_steps)
            self._checkpoints.drop_old(self.state.log_history, is_planned=is_planned)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Bring back the random state, and the losses that have not been logged yet."""
        super()._load_rng_state(checkpoint)
        if checkpoint is not None and (file := Path(checkpoint, PENDING_LOSS_FILE)).is_file():
            pending = json.loads(file.read_text(encoding="utf-8"))
            self._tr_loss += pending["loss"]
            self._total_loss_scalar -= pending["loss"]  # the mean over this session leaves it out
            self._globalstep_last_logged = pending["since"]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self._trained.load_weights(Path(resume_from_checkpoint))


def _local_part(weight: Tensor) -> Tensor:
    """Return what this process holds of a weight: its shard, or the whole."""
    return weight.to_local() if isinstance(weight, DTensor) else weight
