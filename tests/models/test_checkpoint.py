import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from transformers import AutoConfig, AutoTokenizer, BertTokenizer

from crossrank.encoding.pairs import PairEncoder
from crossrank.errors import CheckpointError, InputError, UnsupportedModel
from crossrank.models.checkpoint import load_tokenizer, open_checkpoint
from crossrank.models.settings import CheckpointSettings, write_settings

KINDS = ("bert", "electra", "roberta", "xlm-roberta", "deberta-v2", "modernbert", "mpnet", "distilbert", "modular")


@pytest.fixture
def bert(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint("bert"), tmp_path / "bert")


def edit(folder, file="config.json", **values):
    path = folder / file
    config = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({k: v for k, v in (config | values).items() if v is not None}))


def encode(checkpoint, pairs):
    return PairEncoder(load_tokenizer(checkpoint), max_length=checkpoint.max_length).encode(pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_token_ids_are_those_of_transformers(tiny_checkpoint, hard_pairs, kind):
    checkpoint = open_checkpoint(tiny_checkpoint(kind))
    encoded = encode(checkpoint, hard_pairs)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder)
    expected = tokenizer(
        [query for query, _ in hard_pairs],
        [document for _, document in hard_pairs],
        truncation="only_second",
        max_length=checkpoint.max_length,
    )
    assert [ids.tolist() for ids in encoded.input_ids] == expected["input_ids"]
    if checkpoint.uses_segments:
        assert [ids.tolist() for ids in encoded.token_type_ids] == expected["token_type_ids"]
    assert np.flatnonzero(encoded.truncated).tolist() == [5]


@pytest.mark.parametrize(
    ("kind", "segments", "pad_token_id"),
    [
        ("bert", True, 0),
        ("electra", True, 0),
        ("roberta", False, 1),
        ("deberta-v2", False, 0),
        ("modernbert", False, 0),
    ],
)
def test_what_each_kind_reads(tiny_checkpoint, kind, segments, pad_token_id):
    checkpoint = open_checkpoint(tiny_checkpoint(kind))
    assert (checkpoint.uses_segments, checkpoint.pad_token_id) == (segments, pad_token_id)
    assert (checkpoint.max_length, checkpoint.num_labels, checkpoint.label) == (128, 1, 0)
    assert checkpoint.openvino_file is None


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"tokenizer": 100, "positions": 128}, 100),
        ({"tokenizer": 512, "positions": 128}, 128),
        ({"tokenizer": int(1e30), "positions": 128}, 128),
        ({"tokenizer": None, "positions": 128}, 128),
        ({"tokenizer": 100, "positions": None}, 100),
        ({"tokenizer": None, "positions": None}, 512),
        ({"tokenizer": 100, "positions": 128, "crossrank": 120}, 120),
        ({"tokenizer": 100, "positions": 128, "crossrank": 200}, 128),
        ({"tokenizer": 100, "positions": 128, "sentence_bert": 90}, 90),
    ],
)
def test_max_length_is_the_smallest_that_the_files_state(bert, stated, expected):
    edit(bert, max_position_embeddings=stated["positions"])
    edit(bert, "tokenizer_config.json", model_max_length=stated["tokenizer"])
    if "crossrank" in stated:
        write_settings(bert, CheckpointSettings(max_length=stated["crossrank"]))
    if "sentence_bert" in stated:
        edit(bert, "sentence_bert_config.json", max_seq_length=stated["sentence_bert"])
    assert open_checkpoint(bert).max_length == expected


def test_roberta_positions_start_behind_the_padding_id(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint("roberta"))
    assert (checkpoint.config["max_position_embeddings"], checkpoint.max_length) == (130, 128)


def test_max_length_can_be_asked_for_within_the_positions(bert):
    assert open_checkpoint(bert, max_length=77).max_length == 77
    with pytest.raises(InputError, match="max_length=129 is more than the 128 positions"):
        open_checkpoint(bert, max_length=129)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(InputError, match="max_length must be a whole number above 0"):
            open_checkpoint(bert, max_length=wrong)


def test_two_labels_need_a_choice(tiny_checkpoint):
    folder = tiny_checkpoint("bert-two-labels")
    with pytest.raises(InputError, match=r"2 labels .* one of 0 \('irrelevant'\), 1 \('relevant'\)"):
        open_checkpoint(folder)
    assert open_checkpoint(folder, label=1).label == 1
    assert open_checkpoint(folder, label="relevant").label == 1
    assert open_checkpoint(folder, label="irrelevant").label == 0
    for wrong in (2, -1, "good", True):
        with pytest.raises(InputError, match="has no label"):
            open_checkpoint(folder, label=wrong)


def test_one_label_takes_its_own_index_only(bert):
    assert open_checkpoint(bert, label=0).label == 0
    with pytest.raises(InputError, match="has no label 1: give one of 0"):
        open_checkpoint(bert, label=1)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, 2),
        ({"num_labels": 3}, 3),
        ({"id2label": {"0": "no", "1": "maybe", "2": "yes"}}, 3),
        ({"id2label": {"0": "no", "1": "yes"}, "num_labels": 1}, 1),
    ],
)
def test_the_number_of_labels_is_that_of_transformers(bert, stated, expected):
    edit(bert, **{"id2label": None, "label2id": None} | stated)
    assert open_checkpoint(bert, label=0).num_labels == expected
    assert AutoConfig.from_pretrained(bert).num_labels == expected


def test_the_openvino_file_is_found_in_both_places(bert):
    flat, nested = bert / "openvino_model.xml", bert / "openvino" / "openvino_model.xml"
    flat.touch()
    assert open_checkpoint(bert).openvino_file == flat
    nested.parent.mkdir()
    nested.touch()
    assert open_checkpoint(bert).openvino_file == nested


def test_settings_of_the_folder_are_read(bert):
    write_settings(bert, CheckpointSettings(activation="identity", temperature=3.0))
    checkpoint = open_checkpoint(bert)
    assert (checkpoint.activation, checkpoint.settings.temperature) == ("identity", 3.0)


def test_pooling_that_the_model_does_not_do_is_an_error(bert):
    write_settings(bert, CheckpointSettings(pooling="mean"))
    with pytest.raises(CheckpointError, match="says pooling 'mean', but the model reads 'cls'"):
        open_checkpoint(bert)


def test_the_default_prompt_of_sentence_transformers_stands_before_the_query(bert):
    edit(bert, "config_sentence_transformers.json", prompts={"q": "find: "}, default_prompt_name="q")
    assert open_checkpoint(bert).settings.prompt.query == "find: {query}"


def test_a_string_a_path_and_the_trailing_slash_name_the_same_folder(bert):
    for spelling in (bert, str(bert), f"{bert}/"):
        assert open_checkpoint(spelling).folder == bert
        assert open_checkpoint(spelling).name == str(spelling)


def test_only_a_vocabulary_is_enough(bert):
    tokenizer = BertTokenizer.from_pretrained(bert)
    pairs = [("capital of France", "Paris is the capital 🍞"), ("river", "Spree " * 300)]
    expected = encode(open_checkpoint(bert), pairs)
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    (bert / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (bert / "tokenizer.json").unlink()
    encoded = encode(open_checkpoint(bert), pairs)
    assert [x.tolist() for x in encoded.input_ids] == [x.tolist() for x in expected.input_ids]


def test_no_such_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        open_checkpoint(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no such folder"):
        open_checkpoint("./nothing")


def test_a_file_is_not_a_folder(bert):
    with pytest.raises(CheckpointError, match="is a file: give the folder"):
        open_checkpoint(bert / "config.json")


def test_an_empty_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json in .*: is it the folder of a checkpoint"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_broken_config_names_the_file(bert, content):
    (bert / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json: (not valid JSON|must hold a JSON object)"):
        open_checkpoint(bert)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe"])
def test_a_broken_tokenizer_names_the_file(bert, content):
    (bert / "tokenizer.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not "):
        load_tokenizer(open_checkpoint(bert))


def test_no_tokenizer_at_all(bert):
    (bert / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json and no vocabulary"):
        load_tokenizer(open_checkpoint(bert))


@pytest.mark.parametrize("model", ["", "  ", 5, b"bert", ["bert"]])
def test_what_is_no_name_is_refused(model):
    with pytest.raises(InputError, match="a model is a folder, a name on the hub, or None"):
        open_checkpoint(model)


@pytest.mark.parametrize("model", ["x" * 5000, "~nobody-has-this-name/model"])
def test_a_path_that_cannot_be_is_named(model):
    with pytest.raises(CheckpointError, match=f"^{model[:20]}.*: no "):
        open_checkpoint(model)


@pytest.mark.parametrize(
    ("file", "key", "value", "message"),
    [
        ("config.json", "architectures", 5, r"config\.json: 'architectures' must be a JSON list, not '5'"),
        ("config.json", "model_type", ["bert"], r"config\.json: 'model_type' must be a JSON string"),
        ("config.json", "id2label", ["a"], r"config\.json: 'id2label' must be a JSON object"),
        ("config.json", "text_config", "x", r"config\.json: 'text_config' must be a JSON object"),
        ("tokenizer_config.json", "model_input_names", True, r"tokenizer_config\.json: 'model_input_names' must be a"),
        (
            "config_sentence_transformers.json",
            "default_prompt_name",
            [1],
            "'default_prompt_name' must be a JSON string",
        ),
    ],
)
def test_a_value_of_another_kind_is_named(bert, tmp_path, file, key, value, message):
    folder = tmp_path / "checkpoint"
    shutil.copytree(bert, folder)
    stated = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps(stated | {key: value}))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


def test_a_revision_makes_no_sense_for_a_folder(bert):
    with pytest.raises(InputError, match="revision='main' was given"):
        open_checkpoint(bert, revision="main")
    with pytest.raises(InputError, match="revision='main' was given, but crossrank-mini-en-v1 ships in the package"):
        open_checkpoint(None, revision="main")


def test_a_bi_encoder_is_refused(bert):
    kinds = ["base.modules.transformer.Transformer", "sentence_transformer.modules.pooling.Pooling"]
    modules = [{"type": f"sentence_transformers.{kind}", "path": f"{i or ''}"} for i, kind in enumerate(kinds)]
    (bert / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UnsupportedModel, match=r"no module gives scores .* embedding model"):
        open_checkpoint(bert)


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ({"type": "my_code.Head", "path": ""}, UnsupportedModel, "never runs"),
        ({"type": "sentence_transformers.models.Dense", "path": "../x"}, CheckpointError, "leaves the checkpoint"),
        ({"type": "sentence_transformers.models.Dense"}, CheckpointError, "needs a type and a path"),
        ("Dense", CheckpointError, "needs a type and a path"),
    ],
)
def test_a_module_list_that_cannot_be_trusted(bert, entry, error, message):
    first = {"type": "sentence_transformers.models.Transformer", "path": ""}
    (bert / "modules.json").write_text(json.dumps([first, entry]))
    with pytest.raises(error, match=message):
        open_checkpoint(bert)


def test_a_single_transformer_module_is_a_plain_checkpoint(bert):
    entry = {"type": "sentence_transformers.base.modules.transformer.Transformer", "path": ""}
    (bert / "modules.json").write_text(json.dumps([entry]))
    assert open_checkpoint(bert).family.name == "bert"


def test_the_record_is_a_value(bert):
    checkpoint = open_checkpoint(bert)
    assert checkpoint == open_checkpoint(bert)
    assert replace(checkpoint, label=0) == checkpoint


@pytest.mark.parametrize("names", [None, ["input_ids", "token_type_ids", "attention_mask"]])
def test_a_generic_tokenizer_makes_segments_only_where_it_says_so(
    names, tiny_checkpoint, tmp_path, hard_pairs, reference_logits
):
    from transformers import PreTrainedTokenizerFast

    from crossrank import Reranker

    folder = tmp_path / "generic"
    shutil.copytree(tiny_checkpoint("bert"), folder)
    names_said = {} if names is None else {"model_input_names": names}
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **special, **names_said)
    tokenizer.save_pretrained(folder)
    assert open_checkpoint(folder).uses_segments == (names is not None)
    scores = Reranker.load(folder, backend="torch").score(hard_pairs)
    np.testing.assert_allclose(scores, reference_logits(folder, hard_pairs)[:, 0], atol=1e-4)
