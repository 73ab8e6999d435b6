"""The last layer of a BERT-like encoder for the first token alone, which is all that its head reads.

Keys and values need every token, the rest of the layer needs one: the same logits and the same gradients for about one
layer less. It goes through the layer's own modules, so dropout, autocast and low-rank adapters work as before.

Shape letters: `B` pairs, `T` tokens, `H` hidden, `A` attention heads, `D` size of a head.
"""

from __future__ import annotations

import math
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Model types whose layers have the modules of BERT's, and whose heads read the first token.
_MODEL_TYPES = ("bert", "electra", "roberta", "xlm-roberta", "camembert")


def read_first_token_only(model: PreTrainedModel) -> bool:
    """Let the last layer compute its first token alone, in place, and return whether the kind of model allows it."""
    if model.config.model_type not in _MODEL_TYPES:
        return False
    last = model.base_model.encoder.layer[-1]
    last.forward = MethodType(_first_token_forward, last)
    return True


def _first_token_forward(
    layer: Any, hidden_states: Tensor, attention_mask: Tensor | None, *_: Any, **__: Any
) -> Tensor:
    """Return the output of the first token, `(B, 1, H)`.

    Args:
        layer: The encoder layer.
        hidden_states: `(B, T, H)`.
        attention_mask: Broadcasts to `(B, A, T, T)`: added to the attention's logits, or bool where True is kept.
    """
    attention = layer.attention.self
    first_B1H = hidden_states[:, :1]
    query_BA1D = _heads(attention.query(first_B1H), attention)
    key_BATD, value_BATD = (_heads(part(hidden_states), attention) for part in (attention.key, attention.value))
    logits_BA1T = query_BA1D @ key_BATD.transpose(-1, -2) / math.sqrt(attention.attention_head_size)
    if attention_mask is not None:
        mask_BA1T = attention_mask[..., :1, :]
        if mask_BA1T.dtype == torch.bool:
            logits_BA1T = logits_BA1T.masked_fill(~mask_BA1T, torch.finfo(logits_BA1T.dtype).min)
        else:
            logits_BA1T = logits_BA1T + mask_BA1T
    weights_BA1T = F.dropout(logits_BA1T.softmax(dim=-1), attention.dropout.p, layer.training)
    context_B1H = (weights_BA1T.to(value_BATD.dtype) @ value_BATD).transpose(1, 2).flatten(2)
    attended_B1H = layer.attention.output(context_B1H, first_B1H)
    output_B1H: Tensor = layer.output(layer.intermediate(attended_B1H), attended_B1H)
    return output_B1H


def _heads(projected_BTH: Tensor, attention: Any) -> Tensor:
    num_pairs, num_tokens, _ = projected_BTH.shape
    return projected_BTH.view(num_pairs, num_tokens, -1, attention.attention_head_size).transpose(1, 2)
