"""A language model turned into a bidirectional reranker with a fresh head, ready to be trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForSequenceClassification

from crossrank.errors import CheckpointError, InputError
from crossrank.models.bidirectional import as_bidirectional_classifier, bidirectional_config
from crossrank.models.bidirectional_layout import POOLINGS, HeadSettings, check_temperature
from crossrank.models.checkpoint import Checkpoint, describe_checkpoint, find_folder
from crossrank.models.published_layout import published_config
from crossrank.models.settings import CheckpointSettings
from crossrank.models.weights import find_weight_files, load_pretrained, weight_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_HEAD = "score.weight"


def build_from_backbone(
    model: str | Path,
    *,
    pooling: str = "avg",
    temperature: float = 1.0,
    num_labels: int = 1,
    seed: int = 42,
    max_length: int | None = None,
    revision: str | None = None,
    dtype: torch.dtype | str = "auto",
) -> tuple[PreTrainedModel, Checkpoint]:
    """Turn a language model, or a body alone, into a bidirectional reranker whose head is fresh.

    The head is drawn from a normal distribution with the model's own `initializer_range` (0.02 for Llama), by its own
    generator: the same seed gives the same head on every machine. `lm_head` is dropped; embeddings stay as they are,
    tied or not.

    Args:
        model: A folder or a name on the hub, of Llama, Mistral, Ministral, Qwen2 or Qwen3.
        pooling: What the head reads: `"avg"`, `"cls"` or `"last"`.
        temperature: The logits are divided by it.
        num_labels: Outputs of the head.
        seed: Of the head.
        max_length: Most tokens of a pair; 8192 if None, or the model's positions where they are fewer.
        revision: Branch, tag or commit on the hub.
        dtype: Of the weights in memory; `"auto"` keeps the file's.

    Returns:
        The model in evaluation mode, and what its checkpoint says of itself, to be handed to `save_checkpoint`.

    Raises:
        InputError: If an option cannot be used.
        UnsupportedModel: If models of this kind cannot be converted.
        CheckpointError: If the checkpoint cannot be found, is broken, or has a trained head already.

    Source: the initialisation of NeMo AutoModel's `LlamaBidirectionalForSequenceClassification`.
    """
    head = _check_options(pooling, temperature, num_labels)
    name, folder = str(model), find_folder(model, revision)
    config = bidirectional_config(folder, name)
    config.num_labels = num_labels
    if _HEAD in weight_names(find_weight_files(folder)):
        raise CheckpointError(f"{name} has a trained head already ({_HEAD}): use Reranker.load, or give its backbone")
    with torch.random.fork_rng(devices=[]):  # transformers draws a head too, off the global generator
        native = load_pretrained(
            AutoModelForSequenceClassification, folder, dtype=dtype, where=name, config=config, optional="score."
        )
    _draw_head(native, seed)
    built = as_bidirectional_classifier(native, head)
    described = published_config(built.config.to_dict(), head)
    settings = CheckpointSettings(untrained_head=True)
    checkpoint = describe_checkpoint(name, folder, described, settings, max_length=max_length, label=0)
    return built, replace(checkpoint, settings=settings.model_copy(update={"max_length": checkpoint.max_length}))


def _draw_head(model: PreTrainedModel, seed: int) -> None:
    # Drawn in float32: below that, torch draws other numbers.
    weight = torch.empty(model.score.weight.shape, dtype=torch.float32)
    weight.normal_(0, model.config.initializer_range, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model.score.weight.copy_(weight)


def _check_options(pooling: str, temperature: float, num_labels: int) -> HeadSettings:
    if pooling not in POOLINGS:
        raise InputError(f"pooling must be one of {', '.join(POOLINGS)}, not {pooling!r}")
    if isinstance(num_labels, bool) or not isinstance(num_labels, int) or num_labels < 1:
        raise InputError(f"num_labels must be a whole number above 0, not {num_labels!r}")
    try:
        return HeadSettings(pooling, check_temperature(temperature, "from_backbone"))
    except CheckpointError as error:
        raise InputError(str(error)) from None
