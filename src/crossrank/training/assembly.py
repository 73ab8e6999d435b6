"""The parts of a run put together: data, model and recipe to a trainer that is ready to start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PrinterCallback, TrainingArguments

from crossrank.data.groups.build import OpenedGroups
from crossrank.training.arguments import trains_on_cpu
from crossrank.training.batches import Collator, GroupDataset, GroupOrder
from crossrank.training.callbacks import JsonLinesLog, Schedule
from crossrank.training.checkpoints import CheckpointFolder
from crossrank.training.config import Recipe
from crossrank.training.development import DevelopmentRanking, Measure, make_dev_sets
from crossrank.training.group_loss import GroupLoss
from crossrank.training.model import Trainee
from crossrank.training.trained_model import TrainedModel
from crossrank.training.trainer import GroupTrainer

# Tokens of one padded block: on a CPU what its caches hold, elsewhere enough to fill the device.
_CPU_BUDGET, _DEVICE_BUDGET = 2048, 32768


def make_trainer(
    trained: TrainedModel,
    opened: OpenedGroups,
    arguments: TrainingArguments,
    checkpoints: CheckpointFolder,
    *,
    measure: Measure,
    callbacks: Sequence[Any],
) -> GroupTrainer:
    """Return the trainer of a run.

    Args:
        trained: The model, with its recipe.
        opened: The groups.
        arguments: Of the Trainer.
        checkpoints: Where checkpoints lie, and which are kept.
        measure: Qrels and a run to a number; higher is better.
        callbacks: Further ones, as of the Trainer.
    """
    recipe = trained.recipe
    collator = _make_collator(recipe, trained.trainee)
    dev_sets = make_dev_sets(recipe.data.dev, opened.dev)
    ranking = DevelopmentRanking(dev_sets, measure=measure, measure_name=recipe.evaluation.measure, collator=collator)
    order = _make_order(recipe, opened, num_steps=arguments.max_steps)
    trainer = GroupTrainer(
        trained=trained,
        args=arguments,
        dataset=GroupDataset(opened.train, num_items=len(order)),
        order=order,
        collator=collator,
        loss=GroupLoss(recipe.loss.name, recipe.loss.model_dump(exclude={"name"})),
        num_groups=len(opened.train),
        checkpoints=checkpoints,
        evaluate=ranking if dev_sets else None,
        schedule=_make_schedule(recipe, has_dev=bool(dev_sets)),
        callbacks=[JsonLinesLog(checkpoints.output / "log.jsonl", saving=checkpoints.saving), *callbacks],
        head_learning_rate=recipe.training.head_learning_rate,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _make_order(recipe: Recipe, opened: OpenedGroups, *, num_steps: int) -> GroupOrder:
    section = recipe.training
    return GroupOrder(
        opened.train,
        num_steps=num_steps,
        batch_size=section.global_batch_size,
        seed=section.seed,
        sort_by_length=section.global_batch_size > section.local_batch_size,
    )


def _make_schedule(recipe: Recipe, *, has_dev: bool) -> Schedule:
    return Schedule(
        evaluate_every=recipe.evaluation.every_steps if has_dev else None,
        save_every=recipe.checkpoints.every_steps,
        patience=recipe.evaluation.patience,
    )


def _make_collator(recipe: Recipe, trainee: Trainee) -> Collator:
    budget = recipe.training.budget_tokens or (_CPU_BUDGET if trains_on_cpu() else _DEVICE_BUDGET)
    return Collator(
        encoder=trainee.encoder,
        pad_token_id=trainee.checkpoint.pad_token_id,
        uses_segments=trainee.checkpoint.uses_segments,
        # Sharded weights are gathered in every forward pass, so all processes must make as many: one.
        budget_tokens=None if recipe.training.sharding == "fsdp2" else budget,
        loss=recipe.loss.name,
    )
