"""Weight-only int8 in OpenVINO graphs: writing it, undoing it, and reading parameters back.

A row of an embedding table is stored as int8 with one float32 scale, a row of a linear layer with one scale for every
32 elements: one outlier then spoils its neighbours and not the whole row. The arithmetic stays in floating point. The
classification layer and other matrices of a few rows are kept as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossrank.errors import CheckpointError
from crossrank.inference.openvino_core import CORE, ops, ov
from crossrank.inference.weight_files import Weights

_MARK = ("crossrank", "constants")
_SCALE = ".scale"
_JOIN = ", "
_MIN_ROWS = 16
_INT8_MAX = 127
_GROUP_SIZE = 32


def join_names(names: Sequence[str]) -> str:
    """Return the name of a constant that holds several parameters, one below the other."""
    return _JOIN.join(names)


def mark_named(model: ov.Model) -> None:
    """Note in a graph that its constants carry the names of parameters."""
    model.set_rt_info("parameters", list(_MARK))


def quantise(array: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return the int8 form of an array `(..., C)` and its scales `(..., 1)`; their product is near the array.

    Symmetric around 0; the largest element along the last axis is exact.
    """
    largest = np.abs(array).max(axis=-1, keepdims=True)
    scales = (np.where(largest > 0, largest, 1) / _INT8_MAX).astype(np.float32)
    return np.rint(array / scales).astype(np.int8), scales


def compress_weights(model: ov.Model) -> None:
    """Store the matrices of linear layers and embedding tables of a graph as int8, in place."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul" and node.get_attributes()["transpose_b"]:
            constant = node.input_value(1).get_node()
            if _is_matrix(constant):
                node.input(1).replace_source_output(_compressed(constant).output(0))
        elif _reads_rows(node):
            ov.utils.replace_node(node, _compressed_rows(node))


def unfold_weights(model: ov.Model) -> None:
    """Turn the int8 matrices of linear layers back into float32 constants, in place; embedding tables stay int8.

    The CPU plugin would otherwise expand them again in every call.
    """
    manager = ov.passes.Manager()
    manager.register_pass(ov.passes.ConstantFolding())
    manager.run_passes(model)


def read_ir_weights(model: ov.Model | Path) -> Weights:
    """Return the parameters in a graph of `openvino_graph` as float32, by their names in transformers.

    Args:
        model: The graph, as built or read, or its `.xml` file.

    Raises:
        CheckpointError: If the file cannot be read, or the graph was converted and has lost the names.
    """
    graph = model if isinstance(model, ov.Model) else read_ir(model)
    if not graph.has_rt_info(list(_MARK)):
        raise CheckpointError(
            "the parameters of this OpenVINO graph have no names, because it was traced: only the graphs of BERT-like "
            "models that crossrank exports can be turned back"
        )
    constants = {node.get_friendly_name(): node.data for node in graph.get_ops() if node.get_type_name() == "Constant"}
    weights: Weights = {}
    for joined, array in constants.items():
        if "." not in joined or joined.endswith(_SCALE):
            continue
        names = joined.split(_JOIN)
        full = _unfolded(array, constants[joined + _SCALE]) if array.dtype == np.int8 else array
        parts = np.split(_without_row_axis(joined, full), len(names))
        weights |= {name: np.array(part, np.float32) for name, part in zip(names, parts, strict=True)}
    return weights


def read_ir(xml: Path) -> ov.Model:
    """Read an OpenVINO graph.

    Raises:
        CheckpointError: If the `.xml` or the `.bin` file is missing, damaged or cut short.
    """
    weights = xml.with_suffix(".bin")
    for file in (xml, weights):
        if not file.is_file():
            raise CheckpointError(f"{file}: missing; download, copy or export the checkpoint again")
    try:
        return CORE.read_model(xml, weights)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise CheckpointError(
            f"{xml}: the OpenVINO graph cannot be read ({reason}): the .xml or the .bin file is damaged or cut short; "
            "download, copy or export the checkpoint again"
        ) from None


def _is_matrix(node: Any) -> bool:
    return (
        node.get_type_name() == "Constant"
        and node.get_element_type() == ov.Type.f32
        and len(node.shape) == 2
        and node.shape[0] >= _MIN_ROWS
    )


def _reads_rows(node: Any) -> bool:
    """Whether a node looks rows up in a constant table."""
    if node.get_type_name() != "Gather" or not _is_matrix(node.input_value(0).get_node()):
        return False
    axis = node.input_value(2).get_node()
    return axis.get_type_name() == "Constant" and int(axis.data.item()) == 0


def _compressed(constant: Any) -> Any:
    """Return a linear layer's matrix `(R, C)` as int8 groups `(R, C / 32, 32)` that are put together again."""
    rows, columns = constant.shape
    group = _GROUP_SIZE if columns % _GROUP_SIZE == 0 else columns
    values, scales = _constants(constant.data.reshape(rows, -1, group), constant.get_friendly_name())
    groups = ops.multiply(ops.convert(values, np.float32), scales)
    return ops.reshape(groups, ops.constant(np.array([rows, columns], np.int64)), False)


def _compressed_rows(gather: Any) -> Any:
    table = gather.input_value(0).get_node()
    values, scales = _constants(table.data, table.get_friendly_name())
    indices, axis = gather.input_value(1), gather.input_value(2)
    rows = ops.convert(ops.gather(values, indices, axis), np.float32)
    return ops.multiply(rows, ops.gather(scales, indices, axis))


def _constants(array: npt.NDArray[np.float32], name: str) -> tuple[Any, Any]:
    values, scales = (ops.constant(part) for part in quantise(array))
    values.set_friendly_name(name)
    scales.set_friendly_name(name + _SCALE)
    return values, scales


def _unfolded(values: npt.NDArray[np.int8], scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return (values.astype(np.float32) * scales).reshape(len(values), -1)


def _without_row_axis(name: str, array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Biases and norms stand in the graph as `(1, H)`."""
    is_vector = name.endswith(".bias") or "LayerNorm" in name
    return array[0] if is_vector and array.ndim == 2 else array
