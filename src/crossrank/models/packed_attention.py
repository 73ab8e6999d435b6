"""Attention over sequences that stand end to end in one row, each seeing itself alone.

On CUDA one call of `torch.nn.attention.varlen` does a whole batch; elsewhere neighbours of equal length go through
`scaled_dot_product_attention` together. `register` makes it an attention function of transformers, so that its models
run on packed rows unmodified.

Shape letters: `N` tokens of all sequences of a batch, `M` query positions of all of them, `B` sequences, `T` tokens of
one, `A` query heads, `G` key heads, `D` size of a head.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ATTENTION_NAME = "crossrank_packed"
# What the flash kernel takes; float32 would lose its precision. It needs an Ampere GPU or a later one.
_CUDA_DTYPES = (torch.bfloat16, torch.float16)
_CUDA_CAPABILITY = (8, 0)


class Packing(NamedTuple):
    """Where sequences begin and end in a row.

    Attributes:
        lengths: Of the `B` sequences, in order.
        bounds: Position of the first token of each and, at the end, `N`; int32 `(B + 1,)` on the model's device.
        longest: The greatest length.
    """

    lengths: tuple[int, ...]
    bounds: Tensor
    longest: int

    @property
    def first(self) -> Tensor:
        """Row of the first token of each sequence, `(B,)`."""
        return self.bounds[:-1]

    @property
    def last(self) -> Tensor:
        """Row of the last token of each sequence, `(B,)`."""
        return self.bounds[1:] - 1

    @property
    def positions(self) -> Tensor:
        """Number of each token in its own sequence, from 0, int64 `(N,)`."""
        total = sum(self.lengths)
        starts_N = torch.repeat_interleave(self.first.long(), self.bounds.diff().long(), output_size=total)
        return torch.arange(total, device=self.bounds.device) - starts_N


def pack(lengths: list[int], device: torch.device | str = "cpu") -> Packing:
    """Describe sequences of these lengths, one behind the other."""
    bounds = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    torch.cumsum(torch.tensor(lengths, dtype=torch.int32), 0, out=bounds[1:])
    return Packing(tuple(lengths), bounds.to(device, non_blocking=True), max(lengths))


def single_positions(packing: Packing) -> Packing:
    """Describe a row that holds one position of each sequence."""
    count = len(packing.lengths)
    return Packing((1,) * count, torch.arange(count + 1, dtype=torch.int32, device=packing.bounds.device), 1)


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether `attend` is the fast way on a device: always on a CPU; on CUDA in half precision."""
    if device.type == "cuda":
        is_half = dtype in _CUDA_DTYPES
        return is_half and _varlen() is not None and torch.cuda.get_device_capability(device) >= _CUDA_CAPABILITY
    return device.type == "cpu"


def attend(
    query_MAD: Tensor,
    key_NGD: Tensor,
    value_NGD: Tensor,
    queries: Packing,
    keys: Packing,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    window: int | None = None,
) -> Tensor:
    """Return the context of every query position, `(M, A, D)`; a sequence sees only itself.

    Args:
        query_MAD: All positions of the sequences, or the last one of each.
        key_NGD: Of all positions; `G` divides `A`.
        value_NGD: Of all positions.
        queries: Where the sequences stand among the queries.
        keys: Where they stand among the keys.
        scale: Of the products; `1 / sqrt(D)` where None.
        is_causal: Whether a position sees only itself and what is before it.
        window: Positions further away than this many minus one are not seen either.
    """
    if query_MAD.is_cuda and query_MAD.dtype in _CUDA_DTYPES:
        reach = -1 if window is None else window - 1
        varlen = _varlen()
        assert varlen is not None, "can_pack was not asked"
        context: Tensor = varlen(
            query_MAD, key_NGD, value_NGD, queries.bounds, keys.bounds, queries.longest, keys.longest, scale=scale,
            window_size=(reach, 0 if is_causal else reach), enable_gqa=query_MAD.shape[1] != key_NGD.shape[1],
        )  # fmt: skip
        return context
    contexts = []
    at_query = at_key = 0
    for (num_queries, num_keys), same in groupby(zip(queries.lengths, keys.lengths, strict=True)):
        count = sum(1 for _ in same)
        M, N = count * num_queries, count * num_keys
        q, k, v = (
            x[start : start + size].view(count, size // count, *x.shape[1:]).transpose(1, 2)
            for x, start, size in ((query_MAD, at_query, M), (key_NGD, at_key, N), (value_NGD, at_key, N))
        )
        contexts.append(_attend_equal(q, k, v, scale, is_causal, window).transpose(1, 2).flatten(0, 1))
        at_query, at_key = at_query + M, at_key + N
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts)


def _attend_equal(
    q_BATD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, scale: float | None, is_causal: bool, window: int | None
) -> Tensor:
    """Attention of sequences of one length; queries stand at the last positions of the keys."""
    num_queries, num_keys = q_BATD.shape[2], k_BGTD.shape[2]
    mask = None
    if window is not None and window < num_keys:
        at = torch.arange(num_keys, device=q_BATD.device)
        distance = at[num_keys - num_queries :, None] - at
        mask = (distance < window) & (distance > (-1 if is_causal else -window))
        is_causal = False
    enable_gqa = q_BATD.shape[1] != k_BGTD.shape[1]
    context: Tensor = F.scaled_dot_product_attention(
        q_BATD, k_BGTD, v_BGTD, mask, is_causal=is_causal and num_queries > 1, scale=scale, enable_gqa=enable_gqa
    )
    return context


@cache
def _varlen() -> Any:
    """Return torch's kernel, None where this torch has none or an older signature."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if {"window_size", "enable_gqa"} <= inspect.signature(varlen_attn).parameters.keys() else None


_current: ContextVar[Packing] = ContextVar("crossrank_packing")


@contextmanager
def packed(packing: Packing) -> Iterator[None]:
    """While this lasts, models that use `ATTENTION_NAME` read their row as these sequences (in this thread alone)."""
    token = _current.set(packing)
    try:
        yield
    finally:
        _current.reset(token)


def current_packing() -> Packing:
    """Return what `packed` was given."""
    return _current.get()


def register() -> str:
    """Make packed attention known to transformers, and return its name there."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION_NAME, _attention_function)
    return ATTENTION_NAME


def _attention_function(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """The signature of transformers: heads before positions, one row a batch; `(1, N, A, D)` comes out."""
    unknown = [name for name in ("softcap", "position_bias", "s_aux") if options.get(name) is not None]
    assert not unknown, f"packed attention has no {', '.join(unknown)}"
    assert attention_mask is None, "packed attention reads no mask"
    packing = current_packing()
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    q_NAD, k_NGD, v_NGD = (x[0].transpose(0, 1) for x in (query, key, value))
    context = attend(q_NAD, k_NGD, v_NGD, packing, packing, scale=scaling, is_causal=causal, window=sliding_window)
    return context[None], None
