"""A training run from its recipe to its result."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainingArguments, set_seed

from crossrank.data.groups.beir_groups import FirstStage
from crossrank.data.groups.build import OpenedGroups, open_groups
from crossrank.encoding.images import check_image
from crossrank.errors import WorkerError
from crossrank.training.arguments import count_steps, training_arguments
from crossrank.training.assembly import make_trainer
from crossrank.training.callbacks import Interruption
from crossrank.training.checkpoints import (
    DEV_MEAN,
    CheckpointFolder,
    average_weights,
    best_step,
    is_death,
    metrics_of,
    publish,
)
from crossrank.training.config import RECIPE_FILE, Recipe, recipe_to_yaml
from crossrank.training.development import Measure
from crossrank.training.loss_data import check_loss_data
from crossrank.training.resume import find_start
from crossrank.training.starting_weights import Restore, find_base
from crossrank.training.trained_model import TrainedModel
from crossrank.training.trainer import GroupTrainer
from crossrank.training.visual import refuse_images_alone


@dataclass(frozen=True)
class TrainingReport:
    """How a run ended.

    Attributes:
        model: The folder of the result, or None where the run was interrupted.
        step: Updates done.
        best_step: The checkpoint that became the result, or None where it is an average.
        metrics: The evaluation of the result: the measure on each dev set, and the mean; empty without dev sets.
        interrupted: The signal that ended it, or None.
    """

    model: Path | None
    step: int
    best_step: int | None
    metrics: dict[str, float]
    interrupted: signal.Signals | None


def train(
    recipe: Recipe,
    *,
    measure: Measure,
    resume: bool = False,
    restore: Restore | None = None,
    first_stage: Callable[[], FirstStage] | None = None,
    callbacks: Sequence[Any] = (),
) -> TrainingReport:
    """Train a reranker, alone or as one of the processes that torchrun has started.

    Args:
        recipe: What to do.
        measure: Qrels and a run to the number that `evaluation.measure` names.
        resume: Go on from the last checkpoint in the output folder; start where there is none.
        restore: Writes the weights of a model that is there in the CPU form alone, so that it can be trained.
        first_stage: Makes the retriever that searches a BEIR folder for negatives (`run: bm25`).
        callbacks: Further callbacks of transformers' Trainer.

    Raises:
        InputError: If the recipe does not fit the data, the model or the machine.
        DataError: If the data cannot be read or is wrong.
        CheckpointError: If the model cannot be loaded, or a checkpoint cannot be written.
        NumericalError: If the loss is NaN or infinite.
        WorkerError: If another process of the run died.
    """
    checkpoints = CheckpointFolder(Path(recipe.output), keep=recipe.checkpoints.keep)
    start = find_start(recipe, checkpoints, resume=resume)
    opened = open_groups(recipe.data, first_stage=first_stage, check_image=check_image)
    check_loss_data(recipe.loss.name, opened.train)
    num_steps = count_steps(recipe.training, len(opened.train))
    evaluate_first = opened.dev is not None and recipe.evaluation.at_start and start is None
    arguments = training_arguments(recipe, num_steps=num_steps, evaluate_first=evaluate_first)
    interruption = Interruption()
    try:
        trained = _load_model(recipe, opened, arguments, checkpoints, restore)
        hooks = [interruption, *callbacks]
        trainer = make_trainer(trained, opened, arguments, checkpoints, measure=measure, callbacks=hooks)
        if arguments.should_save:
            with checkpoints.saving(checkpoints.output / RECIPE_FILE):
                (checkpoints.output / RECIPE_FILE).write_text(recipe_to_yaml(recipe), encoding="utf-8")
        trainer.train(resume_from_checkpoint=start and str(start))
        if interruption.received is not None:
            return TrainingReport(None, trainer.state.global_step, None, {}, interruption.received)
        return _publish_result(trained, trainer, checkpoints)
    except (RuntimeError, ConnectionError) as error:
        if is_death(error):
            raise WorkerError(f"another process of this run died: {checkpoints.describe_last()}") from error
        raise
    finally:
        interruption.restore()


def _load_model(
    recipe: Recipe,
    opened: OpenedGroups,
    arguments: TrainingArguments,
    checkpoints: CheckpointFolder,
    restore: Restore | None,
) -> TrainedModel:
    """Load the model in every process; one of them finds or makes the weights to start from."""
    with arguments.main_process_first(desc="base model"):
        checkpoints.make()
        place = checkpoints.output / "base"
        with checkpoints.saving(place):
            base = find_base(recipe.model, place, groups=opened.train, seed=recipe.training.seed, restore=restore)
    set_seed(recipe.training.seed)
    trained = TrainedModel.load(recipe, base)
    if not trained.trainee.reads_images:
        refuse_images_alone(recipe.model.name, opened.train, opened.dev)
    return trained


def _publish_result(trained: TrainedModel, trainer: GroupTrainer, checkpoints: CheckpointFolder) -> TrainingReport:
    """Put the best checkpoint, or the average of the last ones, in its final place."""
    target, history = checkpoints.output / "model", trainer.state.log_history
    step = best_step(history) or checkpoints.steps()[-1]
    metrics = metrics_of(history, step)
    average = _average(trained, trainer, checkpoints, best=metrics)
    if trainer.is_world_process_zero():
        with checkpoints.saving(target):
            publish(checkpoints.path(step) if average is None else checkpoints.output / "average", target)
    trainer.accelerator.wait_for_everyone()
    if average is None:
        return TrainingReport(target, trainer.state.global_step, step, metrics, None)
    return TrainingReport(target, trainer.state.global_step, None, average, None)


def _average(
    trained: TrainedModel, trainer: GroupTrainer, checkpoints: CheckpointFolder, *, best: dict[str, float]
) -> dict[str, float] | None:
    """Average the last checkpoints; return the evaluation of the average if it is better than the best one."""
    count = trained.recipe.checkpoints.average_last
    steps = checkpoints.steps()[-count:]
    if count < 2 or len(steps) < 2:
        return None
    trained.set_weights(average_weights([checkpoints.path(step) for step in steps]))
    metrics = trainer.evaluate() if trainer.has_dev else {}
    if metrics and metrics[DEV_MEAN] <= best[DEV_MEAN]:
        return None
    if trainer.args.should_save:
        folder = checkpoints.output / "average"
        with checkpoints.saving(folder):
            trained.save(folder, step=trainer.state.global_step, metrics=metrics)
    return metrics
