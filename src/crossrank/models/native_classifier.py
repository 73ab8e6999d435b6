"""Sequence classifiers of transformers outside the table of families: loaded as they are, with their native attention.

Shape letters: `B` pairs of one batch, `L` labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from transformers import AutoModelForSequenceClassification
from transformers.modeling_layers import GenericForSequenceClassification

from crossrank.models.causal_lm import LastTokenScorer
from crossrank.models.sequence_classification import Float32Linear
from crossrank.models.weights import load_pretrained

if TYPE_CHECKING:
    import torch

    from crossrank.models.checkpoint import Checkpoint


def load_native_classifier(checkpoint: Checkpoint, *, dtype: torch.dtype) -> nn.Module:
    """Load a sequence classifier that the table does not know, in evaluation mode; it gives logits `(B, L)`.

    Most decoders of transformers share one head, which reads the last real position. Every other class keeps its own
    forward pass, with the last linear layer of its head in float32.

    Raises:
        CheckpointError: If its weights are missing, damaged or of another model.
        UnsupportedModel: If the installed transformers has no such class.
    """
    folder = checkpoint.transformer_folder
    model = load_pretrained(AutoModelForSequenceClassification, folder, dtype=dtype, where=checkpoint.name)
    if isinstance(model, GenericForSequenceClassification):
        model.score.__class__ = Float32Linear
        return LastTokenScorer(model.base_model, model.score).eval()
    if model.config.pad_token_id is None:  # told apart from text by its id
        model.config.pad_token_id = checkpoint.pad_token_id
    heads = [child for name, child in model.named_children() if name != model.base_model_prefix]
    layers = [layer for head in heads for layer in head.modules() if type(layer) is nn.Linear]
    if layers and layers[-1].out_features == checkpoint.num_labels:
        layers[-1].__class__ = Float32Linear
    native: nn.Module = model.eval()
    return native
