"""Models of transformers on packed rows: the class stays as it is, only its attention function and last layer change.

Shape letters: `N` tokens of all sequences of a batch, `B` sequences, `T` tokens of the longest, `H` hidden, `L` labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from crossrank.models.bidirectional_layout import HeadSettings
from crossrank.models.causal_lm import LastTokenScorer
from crossrank.models.modular import ModularCrossEncoder
from crossrank.models.packed_attention import ATTENTION_NAME, Packing, pack, packed, register
from crossrank.models.packed_layers import shorten_last_layer

Pooling = Literal["first", "last", "mean"]

# Names of poolings in the published files.
_POOLINGS: dict[str, Pooling] = {
    "cls": "first", "last": "last", "lasttoken": "last", "avg": "mean", "mean": "mean",
}  # fmt: skip
# Lengths of the sequences that a packed model is tried on: two alike, a very short one, none in order.
_PROBE_LENGTHS = (9, 2, 13, 9, 5)
# Differences to the padded path (root mean square) that count as rounding, as a share of the spread of the logits; a
# class that mixes sequences is off by about the spread itself.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.15, torch.float16: 0.05}


@dataclass(frozen=True)
class PooledParts:
    """A scoring model taken apart.

    Attributes:
        body: Token ids to hidden states.
        pooling: What the head reads of a sequence.
        head: Pooled vectors, float32 `(B, H)`, to logits, float32 `(B, L)`.
    """

    body: Any
    pooling: Pooling
    head: Callable[[Tensor], Tensor]


class PackedModel:
    """Scores packed rows with a model of transformers.

    Args:
        parts: The body uses `ATTENTION_NAME`.
        uses_segments: Whether the body reads `token_type_ids`.
        is_short: Whether the body's last layer gives one position a sequence already.
    """

    def __init__(self, parts: PooledParts, *, uses_segments: bool, is_short: bool) -> None:
        self._parts = parts
        self._uses_segments = uses_segments
        self._is_short = is_short

    @torch.inference_mode()
    def __call__(self, input_ids: Tensor, token_type_ids: Tensor, packing: Packing) -> Tensor:
        """Return logits, float32 `(B, L)`.

        Args:
            input_ids: The tokens of all sequences in a row, int64 `(N,)`.
            token_type_ids: Their segments, int64 `(N,)`.
            packing: Where each sequence stands.
        """
        inputs = {"input_ids": input_ids[None], "position_ids": packing.positions[None]}
        if self._uses_segments:
            inputs["token_type_ids"] = token_type_ids[None]
        with packed(packing):
            hidden_NH = self._parts.body(**inputs).last_hidden_state[0]
        return self._parts.head(self._pool(hidden_NH, packing))

    def _pool(self, hidden_NH: Tensor, packing: Packing) -> Tensor:
        if self._is_short:
            return hidden_NH.float()
        match self._parts.pooling:
            case "first":
                return hidden_NH[packing.first.long()].float()
            case "last":
                return hidden_NH[packing.last.long()].float()
        lengths = packing.bounds.diff().long()
        # `unsafe` leaves out a check of the lengths that would wait for the device.
        return torch.segment_reduce(hidden_NH.float(), "mean", lengths=lengths, axis=0, unsafe=True)


def pack_model(
    model: nn.Module, *, parts: PooledParts | None = None, uses_segments: bool = False
) -> PackedModel | None:
    """Make a loaded model run on packed rows, if it can; otherwise leave it as it was.

    Whether it can is tried, not believed: its logits for a few sequences must be those of its own padded forward pass.
    First with the last layer cut to the positions that are pooled, then with the whole layer.

    Args:
        model: In evaluation mode, on its device, in its precision; its forward pass should not be used any more where a
            packed model comes back.
        parts: The model taken apart; `split_model` finds them where None.
        uses_segments: Whether the body reads `token_type_ids`.
    """
    parts = parts or split_model(model)
    if parts is None:
        return None
    expected, before = _padded_logits(model, parts.body), parts.body.config._attn_implementation
    parts.body.config.use_cache = False  # keys and values of past tokens, which only generation reads
    parts.body.set_attn_implementation(register())
    if parts.body.config._attn_implementation == ATTENTION_NAME:
        for packed_model in _candidates(parts, uses_segments):
            if _agrees(packed_model, parts.body, expected):
                return packed_model
    parts.body.set_attn_implementation(before)
    return None


def _candidates(parts: PooledParts, uses_segments: bool) -> Iterator[PackedModel]:
    """Yield the faster one first; what it changes in the body is undone before the next."""
    if parts.pooling != "mean" and isinstance(layers := getattr(parts.body, "layers", None), nn.ModuleList):
        last = layers[-1]
        if shorten_last_layer(layers, parts.pooling):
            yield PackedModel(parts, uses_segments=uses_segments, is_short=True)
            layers[-1] = last
    yield PackedModel(parts, uses_segments=uses_segments, is_short=False)


def split_model(model: Any) -> PooledParts | None:
    """Take a model apart; None where its parts are not known here."""
    if isinstance(model, ModularCrossEncoder):
        pooling = _POOLINGS.get("+".join(model.pooling))
        return PooledParts(model.body, pooling, model.score_pooled) if pooling else None
    if isinstance(model, LastTokenScorer):
        return PooledParts(model.body, "last", model.head)
    if isinstance(getattr(model, "head", None), HeadSettings):  # bidirectional decoders
        return PooledParts(model.base_model, _POOLINGS[model.head.pooling], model.classify)
    config = getattr(model, "config", None)
    if config is not None and config.model_type == "modernbert":
        pooling = _POOLINGS[config.classifier_pooling]
        return PooledParts(model.base_model, pooling, lambda x: model.classifier(model.head(x.to(model.dtype))))
    if hasattr(model, "classifier") and getattr(model.base_model, "pooler", None) is not None:
        pooler = model.base_model.pooler
        return PooledParts(model.base_model, "first", lambda x: model.classifier(pooler(x.to(model.dtype)[:, None])))
    return None


def _agrees(model: PackedModel, body: Any, expected_BL: Tensor) -> bool:
    ids = _probe_ids(body)
    try:
        found_BL = model(torch.cat(ids), torch.zeros_like(torch.cat(ids)), pack(list(_PROBE_LENGTHS), ids[0].device))
    except Exception:  # whatever a class of transformers raises where it does not follow the others
        return False
    if found_BL.shape != expected_BL.shape:
        return False
    spread = expected_BL.max() - expected_BL.min()
    allowed = _TOLERANCE[body.dtype] * spread + torch.finfo(body.dtype).eps * expected_BL.abs().max()
    return bool((found_BL.float() - expected_BL).square().mean().sqrt() <= allowed)


@torch.inference_mode()
def _padded_logits(model: nn.Module, body: Any) -> Tensor:
    ids = _probe_ids(body)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    pad_token_id = getattr(body.config, "pad_token_id", None) or 0
    padded = nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=pad_token_id)
    output = model(input_ids=padded, attention_mask=mask)
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits.float()


def _probe_ids(body: Any) -> list[Tensor]:
    """Arbitrary tokens, the same at every call; never the one that pads, which some classes read off the ids."""
    generator = torch.Generator().manual_seed(0)
    size, padding = body.config.vocab_size, getattr(body.config, "pad_token_id", None) or 0
    drawn = [torch.randint(1, size, (length,), generator=generator) for length in _PROBE_LENGTHS]
    return [((row + padding) % size).to(body.device) for row in drawn]
