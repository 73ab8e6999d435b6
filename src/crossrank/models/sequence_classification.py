"""Encoders with a classification head, as transformers has them natively.

Shape letters: `B` pairs of one batch, `L` labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForSequenceClassification

from crossrank.models.adapters import is_adapter, load_adapted
from crossrank.models.checkpoint import Checkpoint
from crossrank.models.weights import fill_model, load_config, load_pretrained

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 whatever the model around it uses.

    As the last layer of a head it keeps half precision from rounding different logits to equal ones.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return float32, under autocast too."""
        with torch.autocast(input.device.type, enabled=False):
            return F.linear(input.float(), self.weight.float(), None if self.bias is None else self.bias.float())


def load_sequence_classifier(checkpoint: Checkpoint, *, dtype: torch.dtype | str) -> PreTrainedModel:
    """Load the transformers model of a checkpoint, with a head that gives float32 logits `(B, L)`.

    Args:
        checkpoint: Its own weights, or those of a model and of an adapter on it, which are merged.
        dtype: Of the weights in memory; `"auto"` keeps the file's.

    Raises:
        CheckpointError: If its weights are missing, damaged or of another model.
    """
    if checkpoint.family.layout == "renamed":
        from crossrank.models.key_renames import load_renamed

        known = torch.float32 if isinstance(dtype, str) else dtype
        return with_float32_head(load_renamed(checkpoint, dtype=known), checkpoint.num_labels)
    folder = checkpoint.transformer_folder
    if is_adapter(folder):
        return with_float32_head(load_adapted(checkpoint, dtype=dtype), checkpoint.num_labels)
    model = load_pretrained(AutoModelForSequenceClassification, folder, dtype=dtype, where=checkpoint.name)
    return with_float32_head(model, checkpoint.num_labels)


def fill_sequence_classifier(
    checkpoint: Checkpoint, tensors: Mapping[str, torch.Tensor], *, dtype: torch.dtype
) -> PreTrainedModel:
    """Build the transformers model of a checkpoint from weights that were read from another file.

    Args:
        checkpoint: Its `config.json` gives the shape.
        tensors: The weights by their names in transformers.
        dtype: Of the weights in memory.

    Raises:
        CheckpointError: If the weights do not fill the model.
    """
    config = load_config(checkpoint.transformer_folder, checkpoint.name)
    model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    return with_float32_head(fill_model(model, tensors, where=checkpoint.name).to(dtype), checkpoint.num_labels)


def with_float32_head(model: PreTrainedModel, num_labels: int) -> PreTrainedModel:
    """Let the last layer of a classifier compute in float32, in place, and return the classifier."""
    last = [module for module in model.classifier.modules() if isinstance(module, nn.Linear)][-1]
    assert last.out_features == num_labels, f"the head of {type(model).__name__} does not stand last"
    last.__class__ = Float32Linear
    return model
