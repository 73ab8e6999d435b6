"""What is trained of a recipe's model, itself or an adapter on it, and how a checkpoint holds it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crossrank.errors import InputError
from crossrank.models.nemotron_vl import fill_nemotron_vl
from crossrank.models.saving import save_checkpoint, save_visual
from crossrank.models.settings import CheckpointSettings
from crossrank.training.arguments import trains_on_cpu
from crossrank.training.checkpoints import read_weights
from crossrank.training.config import RECIPE_FILE, Recipe, recipe_to_yaml
from crossrank.training.lora import add_adapter, head_names
from crossrank.training.model import Trainee, load_trainee
from crossrank.training.visual import PROJECTOR, TrainableVLReranker, trained_settings


@dataclass(frozen=True)
class TrainedModel:
    """A model while it is trained.

    Attributes:
        recipe: Of the run.
        trainee: What was loaded.
        module: What is trained of it: its model, or that with an adapter.
    """

    recipe: Recipe
    trainee: Trainee
    module: Any

    @classmethod
    def load(cls, recipe: Recipe, base: str) -> TrainedModel:
        """Load the model of a recipe, and put an adapter on it where the recipe asks for one.

        Args:
            recipe: Of the run.
            base: The folder, or the name on the hub, with the weights.

        Raises:
            CheckpointError: If the model cannot be found or loaded.
            UnsupportedModel: If models of its kind cannot be trained.
            InputError: If the recipe asks for something that the model has not.
        """
        section, lora = recipe.model.model_copy(update={"name": base}), recipe.lora
        # A frozen body keeps the precision of its file; shards must have one precision.
        dtype = "auto" if lora is not None and recipe.training.sharding == "none" else torch.float32
        trainee = load_trainee(section, seed=recipe.training.seed, dtype=dtype, on_cpu=trains_on_cpu())
        if trainee.reads_images and recipe.training.sharding != "none":
            raise InputError(f"training.sharding {recipe.training.sharding}: a model that reads images is copied: none")
        module: Any = trainee.model
        if lora is not None:
            place = str(Path(base).resolve()) if Path(base).is_dir() else base
            module = add_adapter(module, lora, fresh=trainee.fresh, base=place, revision=section.revision)
        if recipe.training.activation_checkpointing:
            _keep_no_activations(module)
        if recipe.training.compile:
            module.compile(dynamic=True)
        return cls(recipe, trainee, module)

    @property
    def head(self) -> list[nn.Module]:
        """The modules that learn at the rate of the head: the scoring head, and a fresh projector."""
        inner = self.module.get_base_model() if hasattr(self.module, "get_base_model") else self.module
        names = head_names(inner)
        if self.trainee.reads_images and any(name.startswith(f"{PROJECTOR}.") for name in self.trainee.fresh):
            names.append(PROJECTOR)
        return [inner.get_submodule(name) for name in names]

    def save(
        self, folder: Path, *, step: int, metrics: Mapping[str, float], state_dict: dict[str, Tensor] | None = None
    ) -> None:
        """Write weights, tokenizer, `crossrank.json` and the recipe.

        Args:
            folder: What is written into.
            step: Updates done.
            metrics: The evaluation at that step, for the provenance.
            state_dict: The weights, where those of the module are shards.
        """
        checkpoint, tokenizer = self.trainee.checkpoint, self.trainee.tokenizer_folder
        settings = _settings(self.recipe, self.trainee, step=step, metrics=metrics)
        if self.trainee.reads_images:
            save_visual(
                folder,
                model=self.module,
                config=checkpoint.config,
                tokenizer=tokenizer,
                processor=checkpoint.folder,
                settings=settings,
            )
        else:
            save_checkpoint(folder, model=self.module, tokenizer=tokenizer, settings=settings, state_dict=state_dict)
        (folder / RECIPE_FILE).write_text(recipe_to_yaml(self.recipe), encoding="utf-8")

    def load_weights(self, folder: Path) -> None:
        """Go back to the weights of a checkpoint of this run."""
        self.set_weights(read_weights(folder))

    def set_weights(self, tensors: dict[str, Tensor]) -> None:
        """Put in weights under the names that `save` writes."""
        if hasattr(self.module, "peft_config"):
            from peft import set_peft_model_state_dict

            set_peft_model_state_dict(self.module, tensors)
        elif isinstance(self.module, TrainableVLReranker):
            fill_nemotron_vl(self.module, tensors)
        else:
            self.module.load_state_dict(tensors)


def _keep_no_activations(model: Any) -> None:
    """Compute activations twice; transformers has renamed the method."""
    for body in model.trained_towers() if hasattr(model, "trained_towers") else [model]:
        if hasattr(body, "activation_checkpointing_enable"):
            body.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        else:
            body.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    # The embeddings of a frozen body have no gradient, without which nothing would be computed twice.
    model.enable_input_require_grads()


def _settings(recipe: Recipe, trainee: Trainee, *, step: int, metrics: Mapping[str, float]) -> CheckpointSettings:
    """Return `crossrank.json`: what belonged to the old weights (calibration, fusion, the CPU form) is gone."""
    provenance = {
        "crossrank": importlib.metadata.version("crossrank"),
        "base": recipe.model.name,
        "revision": recipe.model.revision,
        "data": [source.path for source in recipe.data.train],
        "loss": recipe.loss.model_dump(),
        "step": step,
        "metrics": dict(metrics),
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
