"""What makes a transformers encoder train faster on a CPU: attention, dropout, the precision of what layers pass on.

All of it is done in place and changes no weight and no name, so adapters, sharding, activation checkpointing and saving
go on as before.

Shape letters: `B` pairs, `T` tokens, `A` attention heads, `D` size of a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION_NAME = "crossrank_cpu_training"
# Encoders whose layers do all their attention through transformers' interface, with a scale and an added mask alone.
_MODEL_TYPES = ("bert", "electra", "roberta", "xlm-roberta", "camembert", "modernbert")
_LEVELS = 2**16


def prepare_for_cpu(model: PreTrainedModel) -> None:
    """Let a model that is about to be trained on a CPU use what is in this file, as far as its kind allows."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = CheapDropout
    if model.config.model_type not in _MODEL_TYPES:
        # Plain matrix products are faster than torch's fused attention here, forward and backward.
        model.set_attn_implementation("eager")
        return
    _register()
    model.set_attn_implementation(ATTENTION_NAME)
    model.base_model.embeddings.register_forward_hook(_round)


class CheapDropout(nn.Dropout):
    """Dropout from 16 random bits an element, where torch draws whole numbers one by one."""

    def forward(self, input: Tensor) -> Tensor:
        """Return what dropout leaves of a tensor."""
        return drop(input, self.p) if self.training else input


def drop(values: Tensor, rate: float) -> Tensor:
    """Set a share of all elements to zero, and scale up the others.

    Args:
        values: Of any shape, on the CPU.
        rate: From 0 to 1; rounded to 1 in 65536.
    """
    if rate == 0:
        return values
    dropped: Tensor = _Drop.apply(values, rate)  # type: ignore[no-untyped-call]
    return dropped


class _Drop(torch.autograd.Function):
    """Keeps one byte an element for the backward pass."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rate: float) -> Tensor:
        draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        threshold = round(rate * _LEVELS) - _LEVELS // 2
        kept = (draws.view(torch.int16)[: values.numel()] >= threshold).view(values.shape)
        ctx.save_for_backward(kept)
        ctx.scale = 1 / (1 - rate) if rate < 1 else 0.0
        dropped: Tensor = (values * kept).mul_(ctx.scale)
        return dropped

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return (gradient * kept).mul_(ctx.scale), None


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(ATTENTION_NAME, _attention)
    # None where a block has no padding.
    AttentionMaskInterface.register(ATTENTION_NAME, eager_mask)


def _attention(
    module: nn.Module,
    query_BATD: Tensor,
    key_BATD: Tensor,
    value_BATD: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """The signature of transformers; `(B, T, A, D)` comes out.

    The query is scaled, which is smaller than the logits, and heads stand one after the other, which the products like.
    """
    logits_BATT = (query_BATD * scaling).contiguous() @ key_BATD.contiguous().transpose(-1, -2)
    if attention_mask is not None:
        lowest = torch.finfo(logits_BATT.dtype).min
        logits_BATT += attention_mask.clamp_min(lowest).to(logits_BATT.dtype)
    weights_BATT = drop(logits_BATT.softmax(dim=-1), dropout if module.training else 0.0)
    return (weights_BATT @ value_BATD.contiguous()).transpose(1, 2).contiguous(), None


def _round(module: nn.Module, args: Any, embedded: Tensor) -> Tensor:
    """Start the layers in the precision of autocast: they would hand on float32, and round it before every product."""
    return embedded.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else embedded
