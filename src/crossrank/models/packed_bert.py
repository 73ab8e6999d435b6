"""The forward pass of BERT-like encoders without padding: the real tokens of a batch stand in one row.

Linear layers and norms see `(N, H)`; attention runs on each pair alone; the last layer computes keys and values for all
tokens and the rest for the first token of each pair, which is all that the head reads.

Shape letters: `N` tokens of all pairs of a batch, `B` pairs, `H` hidden, `L` labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation

from crossrank.models.onednn import LinearMap, make_linear
from crossrank.models.packed_attention import Packing, attend, single_positions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Model types whose layers have the names and the order of BERT's, with the position scheme of their embeddings.
_NUMBERED_FROM_ZERO = ("bert", "electra")
_NUMBERED_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert")


def supports_packing(model: PreTrainedModel) -> bool:
    """Return whether a model with a classification head has the layers that this file runs."""
    return model.config.model_type in _NUMBERED_FROM_ZERO + _NUMBERED_AFTER_PADDING


@dataclass(frozen=True)
class _Layer:
    """The functions of one encoder layer.

    Attributes:
        projections: Query, key and value at once; in the last layer the query alone, then key and value.
        attention_output: Context to hidden.
        attention_norm: After the first residual.
        up: Hidden to the wide layer, with its activation.
        down: Back again.
        output_norm: After the second residual.
    """

    projections: tuple[LinearMap, ...]
    attention_output: LinearMap
    attention_norm: LinearMap
    up: LinearMap
    down: LinearMap
    output_norm: LinearMap


class PackedBert:
    """Runs the modules of a loaded transformers model on packed tokens; the same logits up to rounding.

    Takes over the weights: the model's own forward pass should not be used any more.

    Args:
        model: A sequence classifier for which `supports_packing` holds, in evaluation mode.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        body: Any = model.base_model
        self.num_heads: int = model.config.num_attention_heads
        self.after_padding = model.config.model_type in _NUMBERED_AFTER_PADDING
        self.pad_token_id: int = model.config.pad_token_id
        self.embeddings = body.embeddings
        self.project: nn.Module = getattr(body, "embeddings_project", nn.Identity())
        *inner, last = body.encoder.layer
        self.layers = [_read_layer(layer, is_last=False) for layer in inner]
        self.last_layer = _read_layer(last, is_last=True)
        self.head = _read_head(model)

    @torch.inference_mode()
    def __call__(self, input_ids: Tensor, token_type_ids: Tensor, packing: Packing) -> Tensor:
        """Return logits, float32 `(B, L)`.

        Args:
            input_ids: The tokens of all pairs in a row, int64 `(N,)`.
            token_type_ids: Their segments, int64 `(N,)`.
            packing: Where each pair stands.
        """
        positions = self._positions(input_ids, packing)
        embedded = self.embeddings(
            input_ids=input_ids[None], token_type_ids=token_type_ids[None], position_ids=positions[None]
        )
        hidden_NH = self.project(embedded[0])
        for layer in self.layers:
            hidden_NH = self._run(layer, hidden_NH, packing)
        return self.head(self._run_for_first(self.last_layer, hidden_NH, packing))

    def _positions(self, input_ids: Tensor, packing: Packing) -> Tensor:
        if not self.after_padding:
            return packing.positions
        # RoBERTa counts the tokens that are not padding, also where a text spells out the padding token.
        counted = input_ids.ne(self.pad_token_id).long()
        numbers = counted.cumsum(0)
        before = (numbers - counted)[packing.first.long()]
        lengths = packing.bounds.diff().long()
        numbers = numbers - torch.repeat_interleave(before, lengths, output_size=len(input_ids))
        return numbers * counted + self.pad_token_id

    def _run(self, layer: _Layer, hidden_NH: Tensor, packing: Packing) -> Tensor:
        (project,) = layer.projections
        query, key, value = self._heads(project(hidden_NH), 3)
        context = attend(query, key, value, packing, packing)
        return _finish(layer, hidden_NH, context.flatten(1))

    def _run_for_first(self, layer: _Layer, hidden_NH: Tensor, packing: Packing) -> Tensor:
        first_BH = hidden_NH[packing.first.long()]
        project_query, project_key_value = layer.projections
        (query,) = self._heads(project_query(first_BH), 1)
        key, value = self._heads(project_key_value(hidden_NH), 2)
        context = attend(query, key, value, single_positions(packing), packing)
        return _finish(layer, first_BH, context.flatten(1))

    def _heads(self, projected: Tensor, num_parts: int) -> tuple[Tensor, ...]:
        return torch.unbind(projected.view(len(projected), num_parts, self.num_heads, -1), dim=1)


def _finish(layer: _Layer, residual_NH: Tensor, context_NH: Tensor) -> Tensor:
    hidden_NH = layer.attention_norm(layer.attention_output(context_NH) + residual_NH)
    return layer.output_norm(layer.down(layer.up(hidden_NH)) + hidden_NH)


def _read_layer(layer: Any, *, is_last: bool) -> _Layer:
    attention = layer.attention
    query, key, value = attention.self.query, attention.self.key, attention.self.value
    return _Layer(
        projections=(_joined(query), _joined(key, value)) if is_last else (_joined(query, key, value),),
        attention_output=_joined(attention.output.dense),
        attention_norm=attention.output.LayerNorm,
        up=_with_activation(layer.intermediate.dense, layer.intermediate.intermediate_act_fn),
        down=_joined(layer.output.dense),
        output_norm=layer.output.LayerNorm,
    )


def _joined(*linears: nn.Linear) -> LinearMap:
    return make_linear(torch.cat([x.weight for x in linears]), torch.cat([x.bias for x in linears]))


def _with_activation(linear: nn.Linear, activation: nn.Module) -> LinearMap:
    if type(activation) is GELUActivation:
        return make_linear(linear.weight, linear.bias, gelu=True)
    up = _joined(linear)
    return lambda x: activation(up(x))


def _read_head(model: Any) -> Callable[[Tensor], Tensor]:
    """The head of BERT goes through its pooler; the heads of the others hold all their layers."""
    pooler = getattr(model.base_model, "pooler", None)
    if pooler is None:
        return lambda first_BH: model.classifier(first_BH[:, None])
    return lambda first_BH: model.classifier(pooler(first_BH[:, None]))
