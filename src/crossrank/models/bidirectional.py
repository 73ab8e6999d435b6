"""Decoders made bidirectional: every token sees every other, a pooled vector goes through a head without bias.

The body is transformers' own, unmodified; only its attention is told that it is not causal. Shape letters: `B` pairs of
one batch, `T` tokens of the longest, `H` hidden, `L` labels.

Source: NeMo AutoModel's `LlamaBidirectionalForSequenceClassification` and nvidia/llama-nemotron-rerank-1b-v2, whose
forward pass is restated here from its description; LLM2Vec (BehnamGhader et al., 2024) for the other backbones.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    LlamaForSequenceClassification,
    Ministral3ForSequenceClassification,
    MinistralForSequenceClassification,
    MistralForSequenceClassification,
    Qwen2ForSequenceClassification,
    Qwen3ForSequenceClassification,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from crossrank.errors import UnsupportedModel
from crossrank.models.bidirectional_layout import BACKBONES, HeadSettings, check_pooling, read_head
from crossrank.models.json_files import read_json_object
from crossrank.models.lora_base import adapter_has, merge_adapter
from crossrank.models.sequence_classification import Float32Linear
from crossrank.models.weights import load_config, load_pretrained

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from crossrank.models.checkpoint import Checkpoint


class BidirectionalClassifier:
    """What `LlamaBidirectionalForSequenceClassification` and its kin add to transformers' sequence classifiers.

    Mixed into the native class, so saving, LoRA, gradient checkpointing and sharding work as for any model of
    transformers. `model` is the body and `score` the head, as the published files name them.

    Attributes:
        head: Pooling and temperature. Not in `config`: transformers takes `temperature` for an option of generation.
    """

    model: Any
    score: Any
    head: HeadSettings

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> SequenceClassifierOutput:
        """Return logits, float32 `(B, L)`, divided by the temperature of `config.json`.

        Args:
            input_ids: int64 `(B, T)`.
            attention_mask: `(B, T)`, 0 where there is padding, on either side; None where there is none.
            kwargs: For the body, such as `inputs_embeds` in the place of `input_ids`.
        """
        hidden_BTH = encode(self.model, input_ids, attention_mask, **kwargs)
        if attention_mask is None:
            attention_mask = hidden_BTH.new_ones(hidden_BTH.shape[:2], dtype=torch.int64)
        pooled_BH = pool(hidden_BTH, attention_mask, self.head.pooling)
        return SequenceClassifierOutput(logits=self.classify(pooled_BH))

    def classify(self, pooled_BH: Tensor) -> Tensor:
        """Return the logits `(B, L)` of pooled vectors, both float32."""
        logits_BL: Tensor = self.score(pooled_BH) / self.head.temperature
        return logits_BL


class LlamaBidirectionalForSequenceClassification(BidirectionalClassifier, LlamaForSequenceClassification):
    """Llama, bidirectional."""


class MistralBidirectionalForSequenceClassification(BidirectionalClassifier, MistralForSequenceClassification):
    """Mistral, bidirectional."""


class MinistralBidirectionalForSequenceClassification(BidirectionalClassifier, MinistralForSequenceClassification):
    """Ministral, bidirectional."""


class Ministral3BidirectionalForSequenceClassification(BidirectionalClassifier, Ministral3ForSequenceClassification):
    """Ministral3, bidirectional."""


class Qwen2BidirectionalForSequenceClassification(BidirectionalClassifier, Qwen2ForSequenceClassification):
    """Qwen2, bidirectional."""


class Qwen3BidirectionalForSequenceClassification(BidirectionalClassifier, Qwen3ForSequenceClassification):
    """Qwen3, bidirectional."""


_CLASSES: tuple[type, ...] = (
    LlamaBidirectionalForSequenceClassification,
    MistralBidirectionalForSequenceClassification,
    MinistralBidirectionalForSequenceClassification,
    Ministral3BidirectionalForSequenceClassification,
    Qwen2BidirectionalForSequenceClassification,
    Qwen3BidirectionalForSequenceClassification,
)


def encode(body: PreTrainedModel, input_ids: Tensor | None, attention_mask: Tensor | None, **kwargs: Any) -> Tensor:
    """Return the last hidden states `(B, T, H)` of a bidirectional body.

    With `sdpa` no mask of `(T, T)` is ever made: none at all where nothing is padded, otherwise one row a pair, which
    every position shares.

    Args:
        body: From `make_bidirectional`.
        input_ids: int64 `(B, T)`, or None where `kwargs` has `inputs_embeds`.
        attention_mask: `(B, T)`, 0 where there is padding; None where there is none.
        kwargs: For the body.
    """
    if attention_mask is not None and body.config._attn_implementation == "sdpa":
        is_real_BT = attention_mask.bool()
        attention_mask = None if is_real_BT.all() else is_real_BT[:, None, None, :]
    kwargs = {"use_cache": False} | kwargs
    hidden_BTH: Tensor = body(input_ids=input_ids, attention_mask=attention_mask, **kwargs).last_hidden_state
    return hidden_BTH


def pool(hidden_BTH: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """Return one vector a pair, float32 `(B, H)`.

    Args:
        hidden_BTH: Hidden states, of any precision.
        attention_mask: `(B, T)`, 0 where there is padding, on either side.
        pooling: `"avg"`, the mean over the real tokens; `"cls"`, the first real token; `"last"`, the last one.

    Raises:
        CheckpointError: If the pooling is none of these.
    """
    check_pooling(pooling, "pool")
    is_real_BT = attention_mask.bool()
    if pooling == "avg":
        sums_BH = hidden_BTH.float().masked_fill(~is_real_BT.unsqueeze(-1), 0).sum(dim=1)
        return sums_BH / is_real_BT.sum(dim=1, keepdim=True)
    ends_BT = is_real_BT.int() if pooling == "cls" else is_real_BT.int().flip(1)
    at_B = ends_BT.argmax(dim=1)  # the first of equal ones
    at_B = at_B if pooling == "cls" else is_real_BT.shape[1] - 1 - at_B
    return hidden_BTH[torch.arange(len(at_B), device=at_B.device), at_B].float()


def make_bidirectional(body: PreTrainedModel) -> PreTrainedModel:
    """Let every token of a decoder see every other, in place, and return it.

    Its configuration comes from `bidirectional_config`. That alone is not enough: it decides the mask, but a batch
    without padding has none, and then each attention layer falls back to its own `is_causal`, and is silently causal.
    """
    for module in body.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = False
    return body


def load_bidirectional(checkpoint: Checkpoint, *, dtype: torch.dtype | str) -> PreTrainedModel:
    """Load a bidirectional reranker in evaluation mode, with a head that gives float32 logits `(B, L)`.

    A LoRA adapter is merged into the weights below it; the head may come from either.

    Args:
        checkpoint: Of the layout `"bidirectional"`.
        dtype: Of the weights in memory; `"auto"` keeps the file's.

    Raises:
        CheckpointError: If its weights are missing, damaged or of another model.
    """
    folder, name = checkpoint.transformer_folder, checkpoint.name
    config = bidirectional_config(folder, name)
    config.num_labels = checkpoint.num_labels
    adapter = checkpoint.folder if checkpoint.base_folder else None
    optional = "score." if adapter and adapter_has(adapter, "score") else ""
    model = load_pretrained(
        AutoModelForSequenceClassification, folder, dtype=dtype, where=name, config=config, optional=optional
    )
    model = merge_adapter(model, adapter, name) if adapter else model
    return as_bidirectional_classifier(model, read_head(checkpoint.config, name))


def load_bidirectional_body(
    folder: Path, *, dtype: torch.dtype | str, where: str
) -> tuple[PreTrainedModel, HeadSettings]:
    """Load the body alone, as embedding models have it, in evaluation mode, and what its file says of pooling.

    `encode` and `pool` read it. The weights may be named with or without `model.` before them.

    Raises:
        CheckpointError: If its weights are missing, damaged or of another model.
        UnsupportedModel: If the backbone is not one of `BACKBONES`.
    """
    config = bidirectional_config(folder, where)
    body = make_bidirectional(load_pretrained(AutoModel, folder, dtype=dtype, where=where, config=config))
    return body, read_head(read_json_object(folder / "config.json"), where)


def bidirectional_config(folder: Path, where: str) -> PretrainedConfig:
    """Return the native configuration of a folder of the published layout, or of a plain backbone.

    Raises:
        UnsupportedModel: If the backbone is not one of `BACKBONES`.
        CheckpointError: If a value is not valid.
    """
    config = load_config(folder, where, renamed=BACKBONES)
    if config.model_type not in BACKBONES.values():
        known = ", ".join(sorted(BACKBONES.values()))
        raise UnsupportedModel(f"{where}: a {config.model_type} model cannot be made bidirectional; known are {known}")
    for key in HeadSettings._fields:  # not the body's
        config.__dict__.pop(key, None)
    config.is_causal = False
    # Sliding windows go: they were made for reading backwards.
    if getattr(config, "layer_types", None):
        config.layer_types = ["full_attention"] * len(config.layer_types)
    elif hasattr(config, "sliding_window"):
        config.sliding_window = None
    return config


def as_bidirectional_classifier(model: PreTrainedModel, head: HeadSettings) -> PreTrainedModel:
    """Turn a loaded native sequence classifier into the bidirectional one, in place, and return it."""
    make_bidirectional(model.model)
    model.head = head
    model.score.__class__ = Float32Linear
    model.__class__ = next(cls for cls in _CLASSES if issubclass(cls, type(model)))
    return model
