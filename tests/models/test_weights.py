import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification, BertModel

from crossrank.errors import CheckpointError, UnsupportedModel
from crossrank.models.checkpoint import open_checkpoint
from crossrank.models.sequence_classification import load_sequence_classifier


@pytest.fixture
def bert(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint("bert"), tmp_path / "bert")


def load(folder):
    return load_sequence_classifier(open_checkpoint(folder), dtype=torch.float32)


def edit_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_attention_of_the_machine_that_saved_it_is_not_asked_for(bert):
    edit_config(bert, attn_implementation="flash_attention_2")
    assert load(bert).config._attn_implementation == "sdpa"


def test_a_value_that_transformers_only_looks_up_while_it_builds(bert):
    edit_config(bert, hidden_act="nope")
    with pytest.raises(CheckpointError, match=r"bert: transformers cannot build the model of config\.json: no 'nope'"):
        load(bert)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_attention_heads": 0}, "integer modulo by zero"),
        ({"pad_token_id": 999_999}, "Padding_idx must be within num_embeddings"),
        ({"layer_norm_eps": "1e-12"}, "expected float, got str"),
    ],
)
def test_values_that_make_no_model_are_one_line(bert, values, message):
    edit_config(bert, **values)
    with pytest.raises(CheckpointError, match=message) as raised:
        load(bert)
    assert "\n" not in str(raised.value)


def edit_weights(folder, *, drop=(), **add):
    path = folder / "model.safetensors"
    kept = {key: value for key, value in load_file(path).items() if not key.startswith(tuple(drop) or "-")}
    save_file(kept | add, path, metadata={"format": "pt"})


def test_a_config_without_weights(bert):
    (bert / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no weights: model\.safetensors is missing"):
        load(bert)


def test_a_pickle_is_refused_with_the_way_to_convert_it(bert):
    (bert / "model.safetensors").rename(bert / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pickle .* refuses it; .* convert it once: .*save_pretrained"):
        load(bert)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_named(bert, keep):
    path = bert / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"bert/model\.safetensors: damaged or cut short"):
        load(bert)


def test_a_missing_head_is_an_error_and_not_a_random_score(bert):
    edit_weights(bert, drop=["classifier."])
    with pytest.raises(CheckpointError, match=r"scoring head are missing \(classifier\.bias, classifier\.weight\)"):
        load(bert)


def test_a_missing_pooler_counts_as_a_missing_head(bert):
    edit_weights(bert, drop=["bert.pooler."])
    with pytest.raises(CheckpointError, match="scoring head are missing"):
        load(bert)


def test_a_body_that_pretends_to_be_a_classifier(bert):
    config = (bert / "config.json").read_text()
    BertModel(AutoConfig.from_pretrained(bert)).save_pretrained(bert)
    (bert / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match="scoring head are missing"):
        load(bert)


def test_a_missing_layer_is_named(bert):
    edit_weights(bert, drop=["bert.encoder.layer.1."])
    with pytest.raises(CheckpointError, match=r"weights are missing \(16\): bert\.encoder\.layer\.1\..*, \.\.\."):
        load(bert)


def test_a_layer_that_config_does_not_know_is_not_dropped_silently(bert):
    path = bert / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 1}))
    with pytest.raises(CheckpointError, match=r"weights that the model .* has no place for \(16\)"):
        load(bert)


def test_another_shape_than_config_says(bert):
    edit_weights(bert, **{"classifier.weight": torch.ones(3, 32), "classifier.bias": torch.ones(3)})
    with pytest.raises(CheckpointError, match=r"weights have another shape than config\.json says \(2\)"):
        load(bert)


def test_leftovers_of_pre_training_do_no_harm(bert):
    before = load(bert).classifier.weight
    edit_weights(bert, **{"cls.predictions.bias": torch.ones(5), "bert.embeddings.position_ids": torch.arange(128)})
    assert torch.equal(load(bert).classifier.weight, before)


def test_shards(bert):
    model = load(bert)
    model.save_pretrained(bert, max_shard_size="40KB")
    (bert / "model.safetensors").unlink()
    shards = sorted(bert.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert torch.equal(load(bert).classifier.weight, model.classifier.weight)
    shards[0].unlink()
    with pytest.raises(CheckpointError, match=rf"{shards[0].name}: missing"):
        load(bert)


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": {"a": 1}}, {"weight_map": {"a": "../b"}}])
def test_a_broken_index_of_shards(bert, index):
    (bert / "model.safetensors").unlink()
    (bert / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json: "):
        load(bert)


def test_a_config_value_of_the_wrong_kind_names_the_file(bert):
    path = bert / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": "wide"}))
    with pytest.raises(CheckpointError, match=r"config\.json: "):
        load(bert)


def test_a_model_type_that_the_installed_transformers_lacks(bert, monkeypatch):
    checkpoint = open_checkpoint(bert)
    path = bert / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "of-next-year"}))
    with pytest.raises(UnsupportedModel, match="has no model_type 'of-next-year': update it"):
        load_sequence_classifier(checkpoint, dtype=torch.float32)


def test_code_in_the_folder_is_never_run(bert):
    marker = bert / "ran"
    (bert / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Model: ...\nclass Config: ...\n")
    path = bert / "config.json"
    auto_map = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": auto_map}))
    assert type(load(bert)).__name__ == "BertForSequenceClassification"
    assert not marker.exists()


def test_loading_is_silent_and_leaves_the_logging_of_transformers_alone(bert, capfd):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load(bert)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_transformers_itself_still_loads_the_folder(bert):
    assert AutoModelForSequenceClassification.from_pretrained(bert).num_labels == 1
