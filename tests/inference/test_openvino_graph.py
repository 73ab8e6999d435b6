import json
import shutil

import numpy as np
import pytest

from crossrank.errors import CheckpointError, UnsupportedModel
from crossrank.inference.openvino_graph import build_graph, supports_graph
from crossrank.inference.weight_files import read_weights


@pytest.fixture
def parts(tiny_checkpoint):
    """The configuration and the weights of the tiny BERT."""
    folder = tiny_checkpoint("bert")
    return json.loads((folder / "config.json").read_text()), read_weights(folder)


def build(config, weights):
    return build_graph(config, weights, pad_token_id=0, where="tiny")


def test_ports_are_named_as_the_models_of_the_field_name_them(parts):
    graph = build(*parts)
    assert [port.get_any_name() for port in graph.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
    assert graph.output("logits").get_partial_shape()[1].get_length() == 1


@pytest.mark.parametrize(("activation", "module"), [("gelu_new", "NewGELU"), ("relu", "ReLU"), ("silu", "SiLU")])
def test_other_activations(tiny_checkpoint, hard_pairs, reference_logits, encode, tmp_path, activation, module):
    from crossrank.inference.openvino_engine import OpenVINOEngine
    from crossrank.models.checkpoint import open_checkpoint

    folder = tmp_path / module
    shutil.copytree(tiny_checkpoint("bert"), folder)
    config = json.loads((folder / "config.json").read_text()) | {"hidden_act": activation}
    (folder / "config.json").write_text(json.dumps(config))
    logits = OpenVINOEngine.load(open_checkpoint(folder), dtype="float32").logits(encode(folder, hard_pairs))
    np.testing.assert_allclose(logits, reference_logits(folder, hard_pairs), atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "deberta-v2"},
        {"hidden_act": "quick_gelu"},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
    ],
)
def test_networks_of_another_kind_are_refused(parts, change):
    config, weights = parts
    assert supports_graph(config)
    assert not supports_graph(config | change)
    with pytest.raises(UnsupportedModel, match="crossrank export"):
        build(config | change, weights)


def test_a_missing_head_is_no_random_score(parts):
    config, weights = parts
    del weights["classifier.weight"]
    with pytest.raises(CheckpointError, match="scoring head are missing"):
        build(config, weights)


def test_a_missing_weight_is_named(parts):
    config, weights = parts
    del weights["bert.encoder.layer.1.output.dense.bias"]
    with pytest.raises(CheckpointError, match=r"layer\.1\.output\.dense\.bias are missing"):
        build(config, weights)


def test_weights_of_a_deeper_network_are_refused(parts):
    config, weights = parts
    with pytest.raises(CheckpointError, match=r"no place for, such as bert\.encoder\.layer\.1"):
        build(config | {"num_hidden_layers": 1}, weights)


def test_a_wrong_shape_is_named(parts):
    config, weights = parts
    with pytest.raises(CheckpointError, match=r"intermediate\.dense\.weight has shape \(64, 32\)"):
        build(config | {"intermediate_size": 48}, weights)


@pytest.mark.parametrize("size", [None, "32", 0, True])
def test_a_configuration_without_sizes_is_refused(parts, size):
    config, weights = parts
    with pytest.raises(CheckpointError, match="hidden_size must be a whole number above 0"):
        build(config | {"hidden_size": size}, weights)
