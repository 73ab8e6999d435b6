"""The last layer of a packed model, computed only where the pooling reads.

Keys and values are needed at every position; queries, the wide layer and what follows at one position a sequence. These
layers run the weights of the layer that they stand in for; whether its class computes the same is measured at load
(`packed_model.py`), not believed.

Shape letters: `N` tokens of all sequences of a batch, `B` sequences, `H` hidden.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any, Literal

import torch
from torch import Tensor, nn

from crossrank.models.packed_attention import Packing, attend, current_packing, single_positions

ReadPosition = Literal["first", "last"]
_DECODER_PARTS = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
_ATTENTION_PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "head_dim", "scaling", "is_causal")
_ENCODER_PARTS = ("attn_norm", "attn", "mlp_norm", "mlp")


def shorten_last_layer(layers: nn.ModuleList, position: ReadPosition) -> bool:
    """Let the last of the layers give one position a sequence, `(1, B, H)`; return whether its parts are known."""
    layer: Any = layers[-1]
    if all(hasattr(layer, part) for part in _ENCODER_PARTS):
        layers[-1] = ShortEncoderLayer(layer, position)
        return True
    if not all(hasattr(layer, part) for part in _DECODER_PARTS):
        return False
    attention = layer.self_attn
    # Ministral 3 scales queries by their positions, which shows only in texts longer than any that is tried at load.
    reads_positions = "position_ids" in inspect.signature(attention.forward).parameters
    if reads_positions or not all(hasattr(attention, part) for part in _ATTENTION_PARTS):
        return False
    if not hasattr(sys.modules[type(attention).__module__], "apply_rotary_pos_emb"):
        return False
    # A lone query counts as the last position of its keys, so the first one can be read only if it sees all of them.
    if position == "first" and (attention.is_causal or _window(attention) is not None):
        return False
    layers[-1] = ShortDecoderLayer(layer, position)
    return True


class ShortDecoderLayer(nn.Module):
    """Stands in for the last layer of Llama, Mistral, Qwen2, Qwen3, Gemma and their kin.

    Args:
        layer: With the parts of Llama's; query and key norms where the attention has them.
        position: Which position of each sequence the pooling reads.
    """

    def __init__(self, layer: Any, position: ReadPosition) -> None:
        super().__init__()
        self.layer = layer
        self.position: ReadPosition = position
        self._rotate = sys.modules[type(layer.self_attn).__module__].apply_rotary_pos_emb

    def forward(self, hidden_states: Tensor, *, position_embeddings: tuple[Tensor, Tensor], **_: Any) -> Tensor:
        """Return `(1, B, H)` for `(1, N, H)`."""
        packing = current_packing()
        at = _rows(packing, self.position)
        normed = self.layer.input_layernorm(hidden_states)
        residual = hidden_states[:, at] + self._attend(normed, at, position_embeddings, packing)
        result: Tensor = residual + self.layer.mlp(self.layer.post_attention_layernorm(residual))
        return result

    def _attend(self, normed: Tensor, at: Tensor, angles: tuple[Tensor, Tensor], packing: Packing) -> Tensor:
        attention = self.layer.self_attn
        cos, sin = angles
        query = self._heads(attention.q_proj(normed[:, at]), "q_norm")
        key = self._heads(attention.k_proj(normed), "k_norm")
        query, _ = self._rotate(query, query, cos[:, at], sin[:, at])
        _, key = self._rotate(key, key, cos, sin)
        context_BAD = attend(
            query[0].transpose(0, 1),
            key[0].transpose(0, 1),
            attention.v_proj(normed).view(normed.shape[1], -1, attention.head_dim),
            single_positions(packing),
            packing,
            scale=attention.scaling,
            window=_window(attention),
        )
        return attention.o_proj(context_BAD.flatten(1)[None])  # type: ignore[no-any-return]

    def _heads(self, projected: Tensor, norm: str) -> Tensor:
        """Return `(1, heads, positions, D)`, as the rotation reads it."""
        attention = self.layer.self_attn
        heads = projected.view(*projected.shape[:2], -1, attention.head_dim)
        return getattr(attention, norm, nn.Identity())(heads).transpose(1, 2)  # type: ignore[no-any-return]


class ShortEncoderLayer(nn.Module):
    """Stands in for the last layer of ModernBERT: attention at every position, the wide layer at one a sequence.

    Args:
        layer: With the parts of ModernBERT's.
        position: Which position of each sequence the pooling reads.
    """

    def __init__(self, layer: Any, position: ReadPosition) -> None:
        super().__init__()
        self.layer = layer
        self.attention_type = layer.attention_type
        self.position: ReadPosition = position

    def forward(self, hidden_states: Tensor, **options: Any) -> Tensor:
        """Return `(1, B, H)` for `(1, N, H)`."""
        at = _rows(current_packing(), self.position)
        context, _ = self.layer.attn(self.layer.attn_norm(hidden_states), **options)
        residual = hidden_states[:, at] + context[:, at]
        result: Tensor = residual + self.layer.mlp(self.layer.mlp_norm(residual))
        return result


def _window(attention: Any) -> int | None:
    window: int | None = getattr(attention, "sliding_window", getattr(attention.config, "sliding_window", None))
    return window


def _rows(packing: Packing, position: ReadPosition) -> Tensor:
    return (packing.first if position == "first" else packing.last).to(torch.int64)
