"""The recipe: one strict, typed YAML file that says everything about a training run.

An unknown key is an error that names the nearest known one. `--set training.learning_rate=3e-6` overrides a value, and
a recipe's `smoke` section holds the overrides of its one-minute form. The resolved recipe, with every default filled
in, is saved with each checkpoint and is itself a recipe.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from crossrank.data.groups.config import DataConfig
from crossrank.data.sections import Section, section_problems
from crossrank.errors import DataError, InputError

RECIPE_FILE = "recipe.yaml"


class ModelSection(Section):
    """What is trained.

    Attributes:
        name: A checkpoint folder, a name on the hub, the name of the shipped model, or `tiny:bert`, `tiny:modernbert`,
            `tiny:llama`, `tiny:nemotron_vl`: a small random model with a vocabulary made from the training data. A
            checkpoint without a scoring head gets a fresh one.
        revision: Branch, tag or commit on the hub.
        vision_tower: A SigLIP or SigLIP 2 of one image size, or `tiny:siglip`: joined by a fresh projector with
            `name`, a Llama, to a reranker that reads images.
        max_length: Most tokens of a pair; the checkpoint's own limit if left out. Of a model that reads images, for
            every kind of document.
        max_input_tiles: Most tiles of an image, its thumbnail not counted; the checkpoint's own if left out.
        prompt: The texts around query and document, as in `crossrank.json`; the checkpoint's own if left out.
        pooling: Of a decoder that becomes a reranker with a fresh head; its family's own if left out.
        freeze_embeddings: Keep the tables of tokens and positions as they are.
        freeze_vision: Keep the vision tower as it is; with an adapter it is kept in any case.
    """

    name: str
    revision: str | None = None
    vision_tower: str | None = None
    max_length: int | None = Field(default=None, ge=8)
    max_input_tiles: int | None = Field(default=None, ge=1, le=64)
    prompt: dict[str, str] | None = None
    pooling: str | None = None
    freeze_embeddings: bool = False
    freeze_vision: bool = False


class SoftmaxCrossEntropy(Section):
    """Group softmax cross-entropy, the default."""

    name: Literal["softmax_cross_entropy"] = "softmax_cross_entropy"
    temperature: float = Field(default=1.0, gt=0)


class BinaryCrossEntropy(Section):
    """Pointwise; `pos_weight` is usually the number of negatives for each positive."""

    name: Literal["binary_cross_entropy"]
    pos_weight: float = Field(default=1.0, gt=0)


class MarginRanking(Section):
    """Pairwise hinge."""

    name: Literal["margin_ranking"]
    margin: float = Field(default=1.0, ge=0)


class RankNet(Section):
    """Pairwise logistic."""

    name: Literal["ranknet"]
    sigma: float = Field(default=1.0, gt=0)


class LambdaLoss(Section):
    """Pairwise logistic, weighted by nDCG."""

    name: Literal["lambda_loss"]
    sigma: float = Field(default=1.0, gt=0)
    mu: float = Field(default=10.0, ge=0)


class PlainLoss(Section):
    """A loss without options."""

    name: Literal["listnet", "listmle", "margin_mse", "mse"]


class KLDivergence(Section):
    """Listwise distillation."""

    name: Literal["kl_divergence"]
    temperature: float = Field(default=1.0, gt=0)


LossSection = Annotated[
    SoftmaxCrossEntropy | BinaryCrossEntropy | MarginRanking | RankNet | LambdaLoss | PlainLoss | KLDivergence,
    Field(discriminator="name"),
]


class LoraSection(Section):
    """Low-rank adapters instead of all weights; the scoring head is trained and saved as well.

    Attributes:
        rank: Of the two factors of an update.
        alpha: The update is scaled by `alpha / rank`.
        dropout: Of the input of the update.
        targets: Which linear layers: `"all-linear"`, or ends of their names.

    Source: Hu et al., "LoRA: low-rank adaptation of large language models" (2021).
    """

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Literal["all-linear"] | list[str] = "all-linear"


class TrainingSection(Section):
    """How it is trained. A batch is counted in groups: a query with its candidates.

    Attributes:
        num_epochs: Passes over the groups; a part of one is possible.
        max_steps: Instead of `num_epochs`: updates of the weights.
        global_batch_size: Groups of one update, over all processes.
        local_batch_size: Groups of one forward pass of one process; changes memory and speed alone.
        learning_rate: At its peak.
        head_learning_rate: Of the scoring head; the same if left out. A fresh head can stand more.
        weight_decay: Of matrices; biases and norms have none.
        warmup_steps: Updates until the peak; below 1, a share of all updates.
        schedule: What follows: `cosine` from a tenth of the peak up and to a hundredth down (as NeMo AutoModel does),
            `linear` to zero, or `constant`.
        max_grad_norm: Gradients are scaled down to this norm.
        precision: Of the arithmetic; the trained weights are float32 always.
        activation_checkpointing: Compute activations twice instead of keeping them.
        compile: Compile the model with torch.
        sharding: `fsdp2` shards weights and optimizer over the processes; `none` copies them (DDP).
        budget_tokens: Most tokens of one padded block inside a forward pass, for pairs of like length; a good number
            for the device if left out.
        num_workers: Processes that read and tokenise ahead; 0 does it in between.
        seed: Of data order, negatives, dropout and fresh weights.
    """

    num_epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    global_batch_size: int = Field(default=128, ge=1)
    local_batch_size: int = Field(default=4, ge=1)
    learning_rate: float = Field(default=2e-5, gt=0)
    head_learning_rate: float | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_steps: float = Field(default=0.1, ge=0)
    schedule: Literal["cosine", "linear", "constant"] = "linear"
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    activation_checkpointing: bool = False
    compile: bool = False
    sharding: Literal["none", "fsdp2"] = "none"
    budget_tokens: int | None = Field(default=None, ge=1)
    num_workers: int = Field(default=0, ge=0)
    seed: int = Field(default=42, ge=0)


class EvaluationSection(Section):
    """When dev sets are ranked, and what for. The best checkpoint is the one with the highest mean over all dev sets.

    Attributes:
        every_steps: Updates between two evaluations; below 1, a share of all updates. The last one is always evaluated.
        measure: As ir-measures writes it.
        at_start: Also before the first update.
        patience: Stop after so many evaluations in a row that were not better; never if left out.
    """

    every_steps: float = Field(default=500, gt=0)
    measure: str = "nDCG@10"
    at_start: bool = True
    patience: int | None = Field(default=None, ge=1)


class CheckpointSection(Section):
    """What is kept.

    Attributes:
        every_steps: Updates between two checkpoints, besides those after each evaluation; below 1, a share of all.
        keep: How many of the last ones; the best one is kept besides.
        average_last: Average the weights of so many of the last ones at the end, and take the average where it ranks
        the
            dev sets better than the best one (or where there is no dev set); 0 does not.
    """

    every_steps: float = Field(default=500, gt=0)
    keep: int = Field(default=2, ge=1)
    average_last: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _keep_what_is_averaged(self) -> CheckpointSection:
        if self.average_last == 1:
            raise ValueError("average_last=1 averages nothing: give 2 or more, or 0")
        if self.average_last > self.keep:
            raise ValueError(f"average_last={self.average_last} needs as many checkpoints, but keep={self.keep}")
        return self


class LoggingSection(Section):
    """What is written down; `log.jsonl` in the output folder always is.

    Attributes:
        every_steps: Updates between two lines.
        report_to: `tensorboard`, `wandb`, `mlflow`.
        run_name: For those.
    """

    every_steps: int = Field(default=10, ge=1)
    report_to: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(default_factory=list)
    run_name: str | None = None


class Recipe(Section):
    """Everything about a training run; `output` is the folder that it writes."""

    output: str
    model: ModelSection
    data: DataConfig
    loss: LossSection = SoftmaxCrossEntropy()
    lora: LoraSection | None = None
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()
    checkpoints: CheckpointSection = CheckpointSection()
    logging: LoggingSection = LoggingSection()

    @model_validator(mode="before")
    @classmethod
    def _name_the_default_loss(cls, value: Any) -> Any:
        """Let the options of the default loss stand alone, as in `--set loss.temperature=0.5`."""
        if isinstance(value, Mapping) and isinstance(value.get("loss"), Mapping):
            return {**value, "loss": {"name": SoftmaxCrossEntropy().name, **value["loss"]}}
        return value

    @model_validator(mode="after")
    def _average_whole_weights(self) -> Recipe:
        if self.training.sharding != "none" and self.checkpoints.average_last:
            raise ValueError("checkpoints.average_last needs training.sharding: none")
        return self


def load_recipe(path: Path, *, overrides: Sequence[str] = (), smoke: bool = False) -> Recipe:
    """Read a recipe.

    Args:
        path: A YAML file.
        overrides: `"a.b=value"` each, the value as YAML; they win over the file.
        smoke: Lay the recipe's `smoke` section over the rest, for a run of about a minute.

    Raises:
        DataError: If the file cannot be read, is no YAML, or says something that a recipe cannot say.
        InputError: If an override is not of that form.
    """
    values = _read_yaml(path)
    smoke_values = values.pop("smoke", {})
    if smoke:
        if not smoke_values:
            raise DataError("the recipe has no 'smoke' section", path=path)
        values = _merge(values, smoke_values)
    return parse_recipe(values, overrides, path=path)


def parse_recipe(values: Mapping[str, Any], overrides: Sequence[str] = (), *, path: Path | None = None) -> Recipe:
    """Return the recipe that plain values describe.

    Args:
        values: As in the file.
        overrides: As of `load_recipe`.
        path: The file, for errors.

    Raises:
        DataError, InputError: If they say something that a recipe cannot say.
    """
    for override in overrides:
        values = _merge(values, _parse_override(override))
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise DataError(section_problems(error), path=path or "the recipe") from None


def recipe_to_yaml(recipe: Recipe) -> str:
    """Return a recipe with every default, as YAML that `load_recipe` reads."""
    values = recipe.model_dump(mode="json")
    for part, sources in (("train", recipe.data.train), ("dev", recipe.data.dev)):
        # A source may only state the keys that its format has.
        values["data"][part] = [source.model_dump(mode="json", exclude_defaults=True) for source in sources]
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return text


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise DataError("no such recipe", path=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the recipe cannot be read: {error}", path=path) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise DataError(f"not YAML: {problem}", path=path, line=mark.line + 1 if mark else None) from None
    if not isinstance(values, dict):
        raise DataError("a recipe is a mapping of sections: output, model, data, ...", path=path)
    return values


class _Loader(yaml.SafeLoader):
    """YAML with two holes closed: `3e-6` is a number, and a key that stands twice is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", node.value[i][0].start_mark
                )
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _parse_override(text: str) -> dict[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not all(key.split(".")):
        raise InputError(f"--set takes section.key=value, as in training.learning_rate=3e-6, not {text!r}")
    try:
        nested = yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(f"--set {text}: the value is not YAML: {error}") from None
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return dict(nested)


def _merge(values: Any, overrides: Any) -> Any:
    """Lay mappings over mappings, key by key; anything else is replaced, and so is a loss of another name."""
    if not isinstance(values, Mapping) or not isinstance(overrides, Mapping):
        return overrides
    merged = dict(values)
    for key, value in overrides.items():
        other_loss = key == "loss" and isinstance(value, Mapping) and "name" in value
        merged[key] = _merge(values[key], value) if key in values and not other_loss else value
    return merged
