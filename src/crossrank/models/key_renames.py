"""Checkpoints whose weights have other names than in transformers: the names, declared.

`jinaai/jina-reranker-v2-base-multilingual` is XLM-RoBERTa as its flash-attention implementation names it, with query,
key and value in one matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

from crossrank.models.checkpoint import Checkpoint
from crossrank.models.weights import find_weight_files, load_from_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Parts of names: in the file, and in transformers; in both directions the longer of two that fit comes first.
JINA_RENAMES = (
    (".emb_ln.", ".embeddings.LayerNorm."),
    (".encoder.layers.", ".encoder.layer."),
    (".mixer.out_proj.", ".attention.output.dense."),
    (".norm1.", ".attention.output.LayerNorm."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
    (".norm2.", ".output.LayerNorm."),
)
# One name in the file is these in transformers, stacked in this order.
JINA_FUSED = (".mixer.Wqkv.", tuple(f".attention.self.{part}." for part in ("query", "key", "value")))
_SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id",
    "num_labels", "id2label", "label2id",
)  # fmt: skip


def to_transformers(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights of the file under their names in transformers."""
    fused, parts = JINA_FUSED
    native: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        for in_file, in_transformers in JINA_RENAMES:
            name = name.replace(in_file, in_transformers)
        if fused in name:
            native |= {
                name.replace(fused, part): rows for part, rows in zip(parts, tensor.chunk(len(parts)), strict=True)
            }
        else:
            native[name] = tensor
    return native


def load_renamed(checkpoint: Checkpoint, *, dtype: torch.dtype) -> PreTrainedModel:
    """Load such a checkpoint into the class of transformers, in evaluation mode.

    Raises:
        CheckpointError: If its weights are missing, damaged or of another model.
    """
    stated: dict[str, Any] = {key: checkpoint.config[key] for key in _SIZES if key in checkpoint.config}
    config = XLMRobertaConfig(**stated | {"num_labels": checkpoint.num_labels})
    tensors: dict[str, torch.Tensor] = {}
    for file in find_weight_files(checkpoint.transformer_folder):
        tensors |= load_file(file)
    return load_from_tensors(
        XLMRobertaForSequenceClassification, config, to_transformers(tensors), dtype=dtype, where=checkpoint.name
    )
