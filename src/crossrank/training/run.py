"""A training run from its recipe to its result."""

from __future__ import annotations

import importlib.metadata
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from transformers import PrinterCallback, TrainingArguments, set_seed

from crossrank.data.groups.beir_groups import FirstStage
from crossrank.data.groups.build import OpenedGroups, open_groups
from crossrank.data.groups.config import DataConfig
from crossrank.encoding.images import check_image
from crossrank.errors import InputError, WorkerError
from crossrank.models.settings import CheckpointSettings
from crossrank.training.arguments import count_steps, training_arguments, trains_on_cpu
from crossrank.training.batches import Collator, GroupDataset, GroupOrder
from crossrank.training.callbacks import Interruption, JsonLinesLog, Schedule
from crossrank.training.checkpoints import (
    DEV_MEAN,
    CheckpointFolder,
    average_weights,
    best_step,
    is_death,
    publish,
    read_weights,
)
from crossrank.training.config import RECIPE_FILE, Recipe, recipe_to_yaml
from crossrank.training.development import DevelopmentRanking, DevSet, Measure
from crossrank.training.lora import add_adapter
from crossrank.training.loss_data import check_loss_data
from crossrank.training.model import Trainee, head_modules, load_tensors, load_trainee, save_trainee
from crossrank.training.scorer import BlockScorer
from crossrank.training.starting_weights import Restore, find_base
from crossrank.training.trainer import GroupLoss, GroupTrainer
from crossrank.training.visual import trained_settings

# Tokens of one padded block: on a CPU what its caches hold, elsewhere enough to fill the device.
_CPU_BUDGET, _DEVICE_BUDGET = 2048, 32768
# What must not change when a run is resumed, or its steps would not follow from each other.
_FIXED = (("model",), ("loss",), ("lora",), ("training", "global_batch_size"), ("training", "seed"))


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
    start = _find_start(recipe, checkpoints, resume=resume)
    opened = open_groups(recipe.data, first_stage=first_stage, check_image=check_image)
    check_loss_data(recipe.loss.name, opened.train)
    num_steps = count_steps(recipe.training, len(opened.train))
    evaluate_first = opened.dev is not None and recipe.evaluation.at_start and start is None
    arguments = training_arguments(recipe, num_steps=num_steps, evaluate_first=evaluate_first)
    interruption = Interruption()
    try:
        run = _Run.prepare(recipe, opened, arguments, checkpoints, measure, restore, [interruption, *callbacks])
        run.trainer.train(resume_from_checkpoint=start and str(start))
        if interruption.received is not None:
            return TrainingReport(None, run.trainer.state.global_step, None, {}, interruption.received)
        return run.finish()
    except (RuntimeError, ConnectionError) as error:
        if is_death(error):
            raise WorkerError(f"another process of this run died: {checkpoints.describe_last()}") from error
        raise
    finally:
        interruption.restore()


@dataclass(frozen=True)
class _Run:
    """Everything that a run needs once its processes have met."""

    recipe: Recipe
    trainee: Trainee
    model: Any
    trainer: GroupTrainer
    checkpoints: CheckpointFolder
    has_dev: bool

    @classmethod
    def prepare(
        cls,
        recipe: Recipe,
        opened: OpenedGroups,
        arguments: TrainingArguments,
        checkpoints: CheckpointFolder,
        measure: Measure,
        restore: Restore | None,
        callbacks: list[Any],
    ) -> _Run:
        with arguments.main_process_first(desc="base model"):
            checkpoints.make()
            place = checkpoints.output / "base"
            with checkpoints.saving(place):
                base = find_base(recipe.model, place, groups=opened.train, seed=recipe.training.seed, restore=restore)
        set_seed(recipe.training.seed)
        trainee, model = _load(recipe, base)
        if not trainee.reads_images:
            _refuse_images(recipe.model.name, opened)
        collator = _make_collator(recipe, trainee)
        num_groups, section = len(opened.train), recipe.training
        dev_sets = _dev_sets(recipe.data, opened)
        evaluation = recipe.evaluation
        ranking = DevelopmentRanking(dev_sets, measure=measure, measure_name=evaluation.measure, collator=collator)
        schedule = Schedule(
            evaluate_every=evaluation.every_steps if dev_sets else None,
            save_every=recipe.checkpoints.every_steps,
            patience=evaluation.patience,
        )
        order = GroupOrder(
            opened.train,
            num_steps=arguments.max_steps,
            batch_size=section.global_batch_size,
            seed=section.seed,
            sort_by_length=section.global_batch_size > section.local_batch_size,
        )
        saver = _Saver(recipe, trainee, model)
        trainer = GroupTrainer(
            scorer=BlockScorer(model, temperature=trainee.checkpoint.settings.temperature),
            args=arguments,
            dataset=GroupDataset(opened.train, num_items=len(order)),
            order=order,
            collator=collator,
            loss=GroupLoss(recipe.loss.name, recipe.loss.model_dump(exclude={"name"})),
            num_groups=num_groups,
            checkpoints=checkpoints,
            save_model=saver.save,
            load_model=saver.load,
            evaluate=ranking if dev_sets else None,
            schedule=schedule,
            callbacks=[JsonLinesLog(checkpoints.output / "log.jsonl", saving=checkpoints.saving), *callbacks],
            head=head_modules(trainee, model),
            head_learning_rate=section.head_learning_rate,
        )
        saver.trainer = trainer
        trainer.remove_callback(PrinterCallback)
        if arguments.should_save:
            with checkpoints.saving(checkpoints.output / RECIPE_FILE):
                (checkpoints.output / RECIPE_FILE).write_text(recipe_to_yaml(recipe), encoding="utf-8")
        return cls(recipe, trainee, model, trainer, checkpoints, bool(dev_sets))

    def finish(self) -> TrainingReport:
        """Put the best checkpoint, or the average of the last ones, in its final place."""
        trainer, target = self.trainer, self.checkpoints.output / "model"
        history = trainer.state.log_history
        step = best_step(history) or self.checkpoints.steps()[-1]
        metrics = _metrics_of(history, step)
        average = self._average(metrics)
        if trainer.is_world_process_zero():
            with self.checkpoints.saving(target):
                publish(self.checkpoints.path(step) if average is None else self.checkpoints.output / "average", target)
        trainer.accelerator.wait_for_everyone()
        chosen = step if average is None else None
        return TrainingReport(target, trainer.state.global_step, chosen, metrics if average is None else average, None)

    def _average(self, best: dict[str, float]) -> dict[str, float] | None:
        """Average the last checkpoints; return the evaluation of the average if it is better than the best one."""
        count = self.recipe.checkpoints.average_last
        steps = self.checkpoints.steps()[-count:]
        if count < 2 or len(steps) < 2:
            return None
        load_tensors(self.model, average_weights([self.checkpoints.path(step) for step in steps]))
        metrics = self.trainer.evaluate() if self.has_dev else {}
        if metrics and metrics[DEV_MEAN] <= best[DEV_MEAN]:
            return None
        if self.trainer.args.should_save:
            folder = self.checkpoints.output / "average"
            with self.checkpoints.saving(folder):
                _Saver(self.recipe, self.trainee, self.model, self.trainer).save(folder, None)
        return metrics


@dataclass
class _Saver:
    """Writes and reads the model inside a checkpoint."""

    recipe: Recipe
    trainee: Trainee
    model: Any
    trainer: GroupTrainer | None = None

    def save(self, folder: Path, state_dict: dict[str, Tensor] | None) -> None:
        history = self.trainer.state.log_history if self.trainer else []
        step = self.trainer.state.global_step if self.trainer else 0
        settings = _settings(self.recipe, self.trainee, _metrics_of(history, step), step)
        save_trainee(folder, self.trainee, self.model, settings, state_dict)
        (folder / RECIPE_FILE).write_text(recipe_to_yaml(self.recipe), encoding="utf-8")

    def load(self, folder: Path) -> None:
        load_tensors(self.model, read_weights(folder))


def _load(recipe: Recipe, base: str) -> tuple[Trainee, Any]:
    """Return the model of the recipe, and what is trained of it: itself, or with an adapter."""
    section, lora = recipe.model.model_copy(update={"name": base}), recipe.lora
    # A frozen body keeps the precision of its file; shards must have one precision.
    dtype = "auto" if lora is not None and recipe.training.sharding == "none" else torch.float32
    trainee = load_trainee(section, seed=recipe.training.seed, dtype=dtype, on_cpu=trains_on_cpu())
    if trainee.reads_images and recipe.training.sharding != "none":
        raise InputError(f"training.sharding {recipe.training.sharding}: a model that reads images is copied: none")
    model: Any = trainee.model
    if lora is not None:
        place = str(Path(base).resolve()) if Path(base).is_dir() else base
        model = add_adapter(model, lora, fresh=trainee.fresh, base=place, revision=section.revision)
    if recipe.training.activation_checkpointing:
        _keep_no_activations(model)
    if recipe.training.compile:
        model.compile(dynamic=True)
    return trainee, model


def _keep_no_activations(model: Any) -> None:
    """Compute activations twice; transformers has renamed the method."""
    for body in model.trained_towers() if hasattr(model, "trained_towers") else [model]:
        if hasattr(body, "activation_checkpointing_enable"):
            body.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        else:
            body.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    # The embeddings of a frozen body have no gradient, without which nothing would be computed twice.
    model.enable_input_require_grads()


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


def _refuse_images(name: str, opened: OpenedGroups) -> None:
    for groups in (opened.train, opened.dev):
        if groups is not None and (document := groups.find_image_alone()) is not None:
            image = document.id or (document.image if isinstance(document.image, str) else "an image")
            raise InputError(
                f"{name} reads text alone, and a document of the data has none ({image}): train a llama_nemotron_vl "
                "checkpoint, or a Llama with model.vision_tower, or read the texts alone (modality: text)"
            )


def _dev_sets(config: DataConfig, opened: OpenedGroups) -> list[DevSet]:
    """Return the groups of each dev source, whose groups stand one source behind the other."""
    if opened.dev is None:
        return []
    dev_sets: list[DevSet] = []
    start = 0
    for source, size in zip(config.dev, opened.dev.source_sizes, strict=True):
        groups = [opened.dev.full(index) for index in range(start, start + size)]
        name = Path(source.path).name.partition(".")[0] or source.path
        taken = {dev_set.name for dev_set in dev_sets}
        names = chain([name], (f"{name}-{number}" for number in count(2)))
        dev_sets.append(DevSet(next(free for free in names if free not in taken), groups))
        start += size
    return dev_sets


def _settings(recipe: Recipe, trainee: Trainee, metrics: dict[str, float], step: int) -> CheckpointSettings:
    """Return `crossrank.json`: what belonged to the old weights (calibration, fusion, the CPU form) is gone."""
    provenance = {
        "crossrank": importlib.metadata.version("crossrank"),
        "base": recipe.model.name,
        "revision": recipe.model.revision,
        "data": [source.path for source in recipe.data.train],
        "loss": recipe.loss.model_dump(),
        "step": step,
        "metrics": metrics,
    }
    return trainee.checkpoint.settings.model_copy(
        update={
            "untrained_head": False,
            "max_length": trainee.checkpoint.max_length,
            "vision": trained_settings(trainee.checkpoint) if trainee.reads_images else None,
            # Only the pointwise loss makes the sigmoid of a score a probability.
            "activation": "sigmoid" if recipe.loss.name == "binary_cross_entropy" else "identity",
            "calibration": None,
            "fusion": None,
            "cpu": None,
            "provenance": provenance,
        }
    )


def _metrics_of(history: Sequence[dict[str, Any]], step: int) -> dict[str, float]:
    entries = [entry for entry in history if DEV_MEAN in entry and entry["step"] == step]
    return {key: value for entry in entries for key, value in entry.items() if key.startswith("dev_")}


def _find_start(recipe: Recipe, checkpoints: CheckpointFolder, *, resume: bool) -> Path | None:
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
