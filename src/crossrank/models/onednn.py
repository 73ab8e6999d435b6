"""Linear layers with weights that oneDNN has laid out once, for inference on a CPU.

Same arithmetic as `torch.nn.functional.linear`, up to the order of additions. torch hands float32 to MKL, which runs at
about half the speed of oneDNN on AMD processors; in bfloat16 the layout saves a conversion on every call.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LinearMap = Callable[[Tensor], Tensor]
_DTYPES = (torch.float32, torch.bfloat16)
# Rows that the layout is chosen for; any number of rows may follow.
_TYPICAL_ROWS = 1024
# Rows are padded to a multiple of this: oneDNN keeps a megabyte and more for every number of rows that it meets.
_ROWS_MULTIPLE = 16


def is_available() -> bool:
    """Return whether this build of torch has oneDNN and the two operators used here."""
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def has_bfloat16_tiles() -> bool:
    """Return whether this CPU has AMX, in which bfloat16 is several times as fast as float32."""
    return bool(torch.cpu._is_amx_tile_supported())


def make_linear(weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> LinearMap:
    """Return the function `x -> x @ weight.T + bias`, with the exact GELU after it on request.

    Args:
        weight: `(out, in)`; copied where oneDNN is used, which is on a CPU.
        bias: `(out,)`, or None.
        gelu: Whether the activation follows.
    """
    if weight.device.type != "cpu" or weight.dtype not in _DTYPES or not is_available():
        return (lambda x: F.gelu(F.linear(x, weight, bias))) if gelu else (lambda x: F.linear(x, weight, bias))
    layout = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _TYPICAL_ROWS)
    offset = None if bias is None else bias.detach()
    width = len(weight)  # the function must not keep the weight itself alive
    activation, algorithm = ("gelu", "none") if gelu else ("none", "")

    def apply(x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        missing = -len(rows) % _ROWS_MULTIPLE
        padded = F.pad(rows, (0, 0, 0, missing)) if missing else rows
        product: Tensor = torch.ops.mkldnn._linear_pointwise(padded, layout, offset, activation, [], algorithm)
        return product[: len(rows)].view(*x.shape[:-1], width)

    return apply


class OneDNNLinear(nn.Module):
    """Stands in for a `torch.nn.Linear` of a loaded model; holds the only copy of its weight."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # T5 asks its layers for the type of their weight.
        self.weight = linear.weight.new_empty(0)
        self._map = make_linear(linear.weight, linear.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Return what the linear layer would."""
        return self._map(input)


def replace_linears(model: nn.Module) -> None:
    """Put `OneDNNLinear` in the place of every plain linear layer of a model, for inference only."""
    if not is_available():
        return
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Linear and child.weight.dtype in _DTYPES:
                setattr(module, name, OneDNNLinear(child))
