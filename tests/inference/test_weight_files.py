import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from crossrank.errors import CheckpointError
from crossrank.inference.weight_files import read_weights, write_weights


def test_half_precision_becomes_float32(tmp_path):
    values = torch.tensor([[1.5, -2.0], [0.1, 300.0]])
    tensors = {"a": values, "b": values.bfloat16(), "c": values.half(), "position_ids": torch.arange(3)}
    save_file(tensors, tmp_path / "model.safetensors")
    weights = read_weights(tmp_path)
    assert set(weights) == {"a", "b", "c"}
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    for name in weights:
        np.testing.assert_array_equal(weights[name], tensors[name].float().numpy())


def test_layer_norms_of_the_first_bert_files_get_todays_names(tmp_path):
    save_file({"x.LayerNorm.gamma": torch.ones(2), "x.LayerNorm.beta": torch.zeros(2)}, tmp_path / "model.safetensors")
    assert set(read_weights(tmp_path)) == {"x.LayerNorm.weight", "x.LayerNorm.bias"}


def test_what_is_written_is_read_again(tmp_path):
    weights = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.float32([7.0])}
    write_weights(tmp_path / "model.safetensors", weights)
    again = read_weights(tmp_path)
    for name, array in weights.items():
        np.testing.assert_array_equal(again[name], array)


def test_a_file_cut_short_is_named(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(100)}, file)
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged or cut short"):
        read_weights(tmp_path)
