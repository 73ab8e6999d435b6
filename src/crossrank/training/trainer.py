"""The engine: `transformers.Trainer` with the group loss, the group order, ranking on dev sets and atomic checkpoints.

What distributes, accumulates, clips, schedules and logs is the Trainer's (and accelerate's). One "epoch" of the
Trainer is the whole run here: `GroupOrder` knows the epochs of the data.

Shape letters: `G` groups of a micro-batch, `N` candidates of a group, `P` pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from crossrank.errors import NumericalError
from crossrank.training.batches import Collator, GroupDataset, GroupOrder
from crossrank.training.checkpoints import CheckpointFolder
from crossrank.training.losses import LOSSES
from crossrank.training.throughput import Throughput

Evaluate = Callable[[Any], dict[str, float]]
SaveModel = Callable[[Path, "dict[str, Tensor] | None"], None]
LoadModel = Callable[[Path], None]


@dataclass(frozen=True)
class GroupLoss:
    """A loss of `losses.LOSSES` with its options."""

    name: str
    options: dict[str, float]

    def __call__(self, scores_P: Tensor, batch: dict[str, Any]) -> Tensor:
        """Return the mean over the groups of a micro-batch; all micro-batches of a run have the same number of them."""
        mask_GN = batch["mask"]
        scores_GN = torch.zeros(mask_GN.shape, dtype=scores_P.dtype, device=scores_P.device)
        scores_GN = scores_GN.masked_scatter(mask_GN, scores_P)
        loss = LOSSES[self.name]
        targets = [batch["teacher"], mask_GN] if loss.targets == "teacher" else [batch["labels"], mask_GN]
        if self.name == "margin_mse":
            targets.append(batch["labels"])
        return loss.function(scores_GN, *targets, **self.options).mean()


class GroupTrainer(Trainer):
    """Trains a `BlockScorer` on groups.

    Args:
        scorer: The module that is trained.
        args: Of the Trainer; `max_steps` and the batch sizes count groups.
        dataset: The groups.
        order: Which group stands where in the run.
        collator: Groups to batches.
        loss: What is minimised.
        num_groups: Groups of one epoch of the data.
        checkpoints: Where checkpoints lie, and which are kept.
        save_model: Writes the model, its tokenizer and what describes it into a folder, from a gathered state dict
        where
            weights are sharded.
        load_model: Reads such a folder back into the model.
        evaluate: Ranks the dev sets with a scorer; None where there are none.
        callbacks: As of the Trainer.
        head: The modules of the scoring head.
        head_learning_rate: Theirs, or None for that of the rest.
    """

    control: TrainerControl
    # The loss is a mean over a micro-batch: the Trainer divides it by the number of them.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *,
        scorer: torch.nn.Module,
        args: TrainingArguments,
        dataset: GroupDataset,
        order: GroupOrder,
        collator: Collator,
        loss: GroupLoss,
        num_groups: int,
        checkpoints: CheckpointFolder,
        save_model: SaveModel,
        load_model: LoadModel,
        evaluate: Evaluate | None,
        callbacks: list[TrainerCallback],
        head: Sequence[torch.nn.Module],
        head_learning_rate: float | None,
    ) -> None:
        super().__init__(model=scorer, args=args, data_collator=collator, train_dataset=dataset, callbacks=callbacks)
        self._order = order
        self._loss = loss
        self._num_groups = num_groups
        self._checkpoints = checkpoints
        self._save_model = save_model
        self._load_model = load_model
        self._evaluate_dev = evaluate
        self._head = head
        self._head_learning_rate = head_learning_rate
        self._throughput = Throughput()
        if self.is_fsdp_enabled and args.bf16:
            # Gradients are summed, and scores returned, in float32; accelerate would round both to bfloat16.
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
                param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32
            )

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
            raise NumericalError(
                f"the loss became {float(loss.detach())} at step {self.state.global_step + 1} (queries {where}, ...): "
                f"{self._checkpoints.describe_last()}; lower the learning rate, or train with precision fp32"
            )
        self._throughput.count(inputs)
        return (loss, {"scores": scores_P}) if return_outputs else loss

    def _clip_grad_norm(self, model: Any) -> Any:
        """Refuse an update from a gradient that is NaN or infinite; float16 has a scaler that leaves it out."""
        norm = super()._clip_grad_norm(model)
        if not self.args.fp16 and not math.isfinite(float(norm)):
            raise NumericalError(
                f"the gradient became {float(norm)} at step {self.state.global_step + 1}, and no weight was changed: "
                f"{self._checkpoints.describe_last()}; lower the learning rate, or train with precision fp32"
            )
        return norm

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Rank the dev sets and return the measure on each, and its mean."""
        assert self._evaluate_dev is not None, "evaluation without dev sets"
        self._throughput.pause()
        metrics = self._evaluate_dev(self)
        self._throughput.go_on()
        self.log(metrics)
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
            self._save_model(Path(output_dir), gathered)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint beside the others; it is complete when it appears under its name."""
        with self._checkpoints.appearing(self.state.global_step, self.accelerator) as folder:
            self.save_model(str(folder), _internal_call=True)
            self.accelerator.wait_for_everyone()
            self._save_optimizer_and_scheduler(str(folder))
            self._save_scaler(str(folder))
            self._save_rng_state(str(folder))
            if self.args.should_save:
                self.state.save_to_json(str(folder / TRAINER_STATE_NAME))
        if self.args.should_save:
            self._checkpoints.drop_old(self.state.log_history)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self._load_model(Path(resume_from_checkpoint))
