import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling

from crossrank.encoding.collation import pad
from crossrank.encoding.pairs import PairEncoder
from crossrank.errors import CheckpointError, UnsupportedModel
from crossrank.models.checkpoint import load_tokenizer, open_checkpoint
from crossrank.models.modular import load_modular


@pytest.fixture
def modular(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint("modular"), tmp_path / "modular")


def logits(folder, pairs):
    checkpoint = open_checkpoint(folder)
    encoded = PairEncoder(load_tokenizer(checkpoint), max_length=checkpoint.max_length).encode(pairs)
    batch = pad(encoded, np.arange(len(pairs)), pad_token_id=checkpoint.pad_token_id)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if checkpoint.uses_segments:
        inputs["token_type_ids"] = batch.token_type_ids
    model = load_modular(checkpoint, dtype=torch.float32)
    with torch.inference_mode():
        return model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).numpy()[:, 0]


def reference(folder, pairs):
    model = CrossEncoder(str(folder), device="cpu")
    return model.predict(pairs, batch_size=1, activation_fn=torch.nn.Identity())


def edit(path, **values):
    config = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_the_scores_are_those_of_sentence_transformers(modular, hard_pairs):
    expected = reference(modular, hard_pairs)
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(logits(modular, hard_pairs), expected, atol=1e-4)


@pytest.mark.parametrize("mode", ["cls", "max", "mean", "lasttoken", ["cls", "mean"]])
def test_every_pooling(tiny_checkpoint, tmp_path, hard_pairs, mode):
    torch.manual_seed(0)
    width = 32 * (1 if isinstance(mode, str) else len(mode))
    head = [
        Pooling(32, mode),
        Dropout(0.5),
        Dense(width, width, use_residual=True),
        Dense(width, 16, activation_function=torch.nn.SiLU(), use_residual=True),
        Normalize(),
        LayerNorm(16),
        Dense(16, 1, bias=False, activation_function=torch.nn.Identity(), module_output_name="scores"),
    ]
    body = Transformer(str(tiny_checkpoint("bert")), transformer_task="feature-extraction")
    CrossEncoder(modules=[body, *head], device="cpu").save_pretrained(str(tmp_path), create_model_card=False)
    np.testing.assert_allclose(logits(tmp_path, hard_pairs), reference(tmp_path, hard_pairs), atol=1e-5)


def test_the_older_names_of_pooling(modular, hard_pairs):
    expected = logits(modular, hard_pairs)
    edit(modular / "1_Pooling" / "config.json", pooling_mode=None, pooling_mode_cls_token=True)
    np.testing.assert_array_equal(logits(modular, hard_pairs), expected)


def test_a_checkpoint_says_what_it_is(modular):
    checkpoint = open_checkpoint(modular)
    assert (checkpoint.family.name, checkpoint.num_labels, checkpoint.activation) == ("modular", 1, "identity")
    assert [entry.kind for entry in checkpoint.modules] == ["Transformer", "Pooling", "Dense", "LayerNorm", "Dense"]


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, "pooling weightedmean is not supported"),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt: false is not supported"),
        ("2_Dense/config.json", {"activation_function": "os.system"}, "activation 'os.system' is not supported"),
        ("sentence_bert_config.json", {"transformer_task": "text-generation"}, "transformer_task 'text-generation'"),
    ],
)
def test_an_option_that_is_not_known(modular, hard_pairs, file, values, message):
    edit(modular / file, **values)
    with pytest.raises(UnsupportedModel, match=message):
        logits(modular, hard_pairs)


def test_a_module_that_is_not_known(modular, hard_pairs):
    modules = json.loads((modular / "modules.json").read_text())
    modules[3]["type"] = "sentence_transformers.sentence_transformer.modules.lstm.LSTM"
    (modular / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UnsupportedModel, match="the module LSTM is not supported"):
        logits(modular, hard_pairs)


def test_weights_of_a_module_that_do_not_fit(modular, hard_pairs):
    save_file({"linear.weight": torch.ones(3, 3)}, modular / "2_Dense" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"2_Dense/model\.safetensors: does not fit"):
        logits(modular, hard_pairs)


def test_weights_of_a_module_that_are_cut_short(modular, hard_pairs):
    path = modular / "4_Dense" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=r"4_Dense/model\.safetensors: damaged or cut short"):
        logits(modular, hard_pairs)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"4_Dense/model\.safetensors: missing"):
        logits(modular, hard_pairs)


@pytest.mark.parametrize("value", [None, "1", 0, True])
def test_a_size_that_is_no_number(modular, value):
    edit(modular / "4_Dense" / "config.json", out_features=value)
    with pytest.raises(CheckpointError, match=r"4_Dense/config\.json: out_features must be a whole number"):
        open_checkpoint(modular)
