import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crossrank.errors import CheckpointError
from crossrank.inference.openvino_core import ov
from crossrank.inference.openvino_graph import build_graph
from crossrank.inference.weight_compression import compress_weights, quantise, read_ir_weights, unfold_weights
from crossrank.inference.weight_files import read_weights

MATRICES = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
)


@pytest.fixture(params=["bert", "electra", "xlm-roberta"])
def graph_and_weights(request, tiny_checkpoint):
    folder = tiny_checkpoint(request.param)
    config, weights = json.loads((folder / "config.json").read_text()), read_weights(folder)
    return build_graph(config, weights, pad_token_id=config["pad_token_id"], where=request.param), weights


def types_of_matrices(graph):
    constants = (node for node in graph.get_ops() if node.get_type_name() == "Constant")
    return {
        node.get_element_type().get_type_name() for node in constants if len(node.shape) == 2 and node.shape[0] > 16
    }


@given(MATRICES)
def test_int8_rows_are_within_half_a_step_of_the_original(matrix):
    values, scales = quantise(matrix)
    assert values.dtype == np.int8
    assert scales.shape == (len(matrix), 1)
    assert (np.abs(values * scales - matrix) <= scales * 0.5001).all()


def test_parameters_are_read_back_exactly_from_a_float32_graph(graph_and_weights, tmp_path):
    graph, weights = graph_and_weights
    ov.save_model(graph, tmp_path / "model.xml", compress_to_fp16=False)
    again = read_ir_weights(tmp_path / "model.xml")
    assert again.keys() == weights.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_parameters_are_read_back_from_an_int8_graph(graph_and_weights, tmp_path):
    graph, weights = graph_and_weights
    compress_weights(graph)
    ov.save_model(graph, tmp_path / "model.xml", compress_to_fp16=False)
    again = read_ir_weights(tmp_path / "model.xml")
    assert again.keys() == weights.keys()
    for name, array in weights.items():
        assert again[name].shape == array.shape
        np.testing.assert_allclose(again[name], array, atol=np.abs(array).max() / 250, err_msg=name)


def test_compressed_matrices_are_int8_and_unfolding_leaves_only_tables(graph_and_weights):
    graph, _ = graph_and_weights
    compress_weights(graph)
    assert "i8" in types_of_matrices(graph)
    unfold_weights(graph)
    multiplied = [node for node in graph.get_ops() if node.get_type_name() == "MatMul"]
    constants = [node.input_value(1).get_node() for node in multiplied]
    assert {node.get_element_type() for node in constants if node.get_type_name() == "Constant"} == {ov.Type.f32}


def test_a_foreign_graph_has_no_parameters():
    x = ov.opset13.parameter([-1], np.float32)
    with pytest.raises(CheckpointError, match="have no names"):
        read_ir_weights(ov.Model([ov.opset13.result(ov.opset13.relu(x))], [x], "foreign"))
