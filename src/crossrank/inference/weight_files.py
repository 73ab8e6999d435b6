"""Safetensors files to numpy arrays, for engines that run without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossrank.errors import CheckpointError
from crossrank.models.weights import find_weight_files

Weights = dict[str, npt.NDArray[np.float32]]

_HEADER_LENGTH_BYTES = 8
_DTYPES: dict[str, npt.DTypeLike] = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}


def read_weights(folder: Path) -> Weights:
    """Return the floating-point weights of a checkpoint folder as float32, by their names in transformers.

    A float32 file is mapped into memory, not copied. Integer buffers are left out.

    Raises:
        CheckpointError: If there are no safetensors files, or one of them is damaged.
    """
    weights: Weights = {}
    for file in find_weight_files(folder):
        weights |= _read_file(file)
    return {_modern_name(name): array for name, array in weights.items()}


def _read_file(file: Path) -> Weights:
    # The library's own numpy reader has no bfloat16; `find_weight_files` has checked the header and the length.
    with file.open("rb") as stream:
        header_length = int.from_bytes(stream.read(_HEADER_LENGTH_BYTES), "little")
        header = json.loads(stream.read(header_length))
    data = np.memmap(file, np.uint8, "r", offset=_HEADER_LENGTH_BYTES + header_length)
    return {name: _to_float32(entry, data) for name, entry in header.items() if entry.get("dtype") in _DTYPES}


def _to_float32(entry: dict[str, Any], data: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    start, end = entry["data_offsets"]
    array = data[start:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    if entry["dtype"] == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)


def _modern_name(name: str) -> str:
    """Layer norms of the first BERT files call their weight gamma and their bias beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def write_weights(file: Path, weights: Weights) -> None:
    """Write float32 weights as a safetensors file that transformers reads.

    Raises:
        CheckpointError: If the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, file, {"format": "pt"})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: cannot be written ({error})") from error
