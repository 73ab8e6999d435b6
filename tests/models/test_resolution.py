"""What decides the family of a checkpoint, in which order, and what an undecided one is told."""

from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import pytest
from transformers import AutoTokenizer

from crossrank import Reranker
from crossrank.encoding.template import SequenceTemplate
from crossrank.errors import CheckpointError, InputError, UnsupportedModel
from crossrank.models import locating
from crossrank.models.checkpoint import load_tokenizer, open_checkpoint
from crossrank.models.families import FAMILIES
from crossrank.models.published import PUBLISHED
from crossrank.models.settings import CheckpointSettings, read_settings, write_settings


@pytest.fixture
def copy(tiny_language_model, tmp_path):
    return lambda kind: shutil.copytree(tiny_language_model(kind), tmp_path / kind)


@pytest.fixture
def hub(monkeypatch, tiny_language_model):
    """A hub on which every name is one tiny model."""

    def serve(kind):
        monkeypatch.setattr(locating, "download", lambda name, revision: tiny_language_model(kind))

    return serve


def found(model, **options):
    checkpoint = open_checkpoint(model, **options)
    return checkpoint.family.name, checkpoint.family_reason


def test_a_bare_language_model_is_told_which_families_it_could_be(copy):
    with pytest.raises(UnsupportedModel) as error:
        open_checkpoint(copy("qwen3"))
    assert "its files do not say which reranker it is" in str(error.value)
    assert "give family= (--family), one of qwen3_reranker, ctxl_rerank_v2" in str(error.value)


def test_a_class_without_its_model_type_is_told_which_family_it_could_be(copy):
    with pytest.raises(UnsupportedModel) as error:
        open_checkpoint(copy("jina"))
    assert "XLMRobertaForSequenceClassification stands in config.json without a model_type" in str(error.value)
    assert "give family= (--family), one of jina_reranker_v2 (or" in str(error.value)


def test_a_language_model_of_no_family_is_told_which_there_are(copy):
    with pytest.raises(CheckpointError, match=r"from_backbone, and train it; language models .*: logit_score, qwen3_r"):
        open_checkpoint(copy("llama"))
    folder = copy("qwen2")
    (folder / "config.json").write_text('{"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}')
    with pytest.raises(UnsupportedModel, match=r"'phi3' \(Phi3ForCausalLM\) is not supported; .*qwen3_reranker"):
        open_checkpoint(folder)


def test_the_name_of_a_folder_says_nothing(tiny_language_model, tmp_path):
    folder = shutil.copytree(tiny_language_model("qwen3"), tmp_path / "Qwen" / "Qwen3-Reranker-0.6B")
    with pytest.raises(UnsupportedModel, match="do not say which reranker"):
        open_checkpoint(folder)


def test_the_caller_comes_first_then_crossrank_json_then_modules_json(copy):
    folder = copy("logit-score")
    assert found(folder) == ("logit_score", "modules.json ends in LogitScore")
    write_settings(folder, CheckpointSettings(family="ctxl_rerank_v2"))
    assert found(folder) == ("ctxl_rerank_v2", "crossrank.json states it")
    assert found(folder, family="qwen3_reranker") == ("qwen3_reranker", "family='qwen3_reranker' was asked for")


def test_an_exact_name_on_the_hub_decides_and_a_similar_one_does_not(hub):
    hub("qwen3")
    name = "Qwen/Qwen3-Reranker-0.6B"
    assert found(name) == ("qwen3_reranker", f"{name} is a published checkpoint of it")
    for similar in ("Qwen/Qwen3-Reranker-0.6B-copy", "qwen/qwen3-reranker-0.6b", "someone/Qwen3-Reranker-0.6B"):
        with pytest.raises(UnsupportedModel, match="do not say which reranker"):
            open_checkpoint(similar)


def test_a_published_classifier_is_prompted_as_its_original(hub):
    hub("qwen3-seq-cls")
    assert found("tomaarsen/Qwen3-Reranker-0.6B-seq-cls")[0] == "qwen3_reranker_seq_cls"
    assert found("someone/else")[0] == "decoder"


def test_native_classifiers_need_no_word(tiny_checkpoint):
    assert found(tiny_checkpoint("bert")) == ("bert", "config.json names a native classifier")
    assert found(tiny_checkpoint("modular"))[1] == "modules.json lists its modules"
    assert found(tiny_checkpoint("bert"), family="bert")[0] == "bert"


@pytest.mark.parametrize(
    ("kind", "family", "message"),
    [
        ("qwen3", "qwen3", "there is no family 'qwen3'; families are modular, bert, "),
        ("qwen3", "bert", "Qwen3ForCausalLM"),
        ("qwen3-seq-cls", "native", "family 'native' does not fit: its files are of 'decoder'"),
        ("qwen2", "qwen3_reranker", "is Qwen3ForCausalLM, not Qwen2ForCausalLM; families for it: logit_score, mxbai_"),
        ("qwen3", "logit_score", "needs a modules.json that ends in LogitScore"),
        ("t5", "monot5_mt5", "is MT5ForConditionalGeneration, not T5ForConditionalGeneration"),
    ],
)
def test_a_family_that_does_not_fit_is_an_error(kind, family, message, copy):
    folder = copy(kind)
    with pytest.raises((InputError, CheckpointError)) as error:
        open_checkpoint(folder, family=family)
    assert message in str(error.value)
    write_settings(folder, CheckpointSettings(family=family))
    with pytest.raises(CheckpointError):
        open_checkpoint(folder)


def test_the_tables_agree():
    names = {family.name: family for family in FAMILIES}
    assert {entry.family for entry in PUBLISHED.values() if entry.family} <= names.keys()
    assert all(family.non_commercial for name, family in names.items() if "NC" in (family.licence or ""))
    stated = [family for family in FAMILIES if not family.model_types and family.layout not in ("modular", "native")]
    assert all(family.architectures for family in stated)
    assert all(
        family.template or family.visual for family in stated if family.name not in ("logit_score", "jina_reranker_v2")
    )


def test_a_licence_that_forbids_commercial_use_is_shown_on_load(tiny_language_model, hub, caplog):
    with caplog.at_level(logging.WARNING, logger="crossrank"):
        Reranker.load(tiny_language_model("qwen3"), family="qwen3_reranker", device="cpu")
    assert not caplog.messages
    with caplog.at_level(logging.WARNING, logger="crossrank"):
        Reranker.load(tiny_language_model("qwen3"), family="ctxl_rerank_v2", device="cpu")
    assert "the licence CC-BY-NC-SA-4.0 forbids commercial use" in caplog.messages[0]
    hub("logit-score")
    assert open_checkpoint("zeroentropy/zerank-2").non_commercial
    assert open_checkpoint("ContextualAI/ctxl-rerank-v2-instruct-multilingual-1b").non_commercial
    assert not open_checkpoint("someone/zerank-2").non_commercial


def test_the_licence_of_a_published_checkpoint_whose_files_say_the_rest(tiny_reranker, monkeypatch):
    monkeypatch.setattr(locating, "download", lambda name, revision: tiny_reranker())
    checkpoint = open_checkpoint("nvidia/llama-nemotron-rerank-1b-v2")
    assert checkpoint.family.name == "llama_bidirectional"
    assert checkpoint.licence == "NVIDIA Open Model License, Llama 3.2 Community License"
    assert not checkpoint.non_commercial
    assert open_checkpoint("someone/else").licence is None


def test_a_template_in_crossrank_json_is_the_prompt(copy):
    folder = copy("qwen3")
    template = SequenceTemplate(("{instruction}Q: {query}\nD: {document}\nA:",), instruction="<I> {instruction}\n")
    write_settings(folder, CheckpointSettings(family="qwen3_reranker", template=template, max_length=64))
    assert read_settings(folder).template == template
    checkpoint = open_checkpoint(folder)
    assert (checkpoint.template, checkpoint.max_length) == (template, 64)
    reranker = Reranker.load(folder, device="cpu", dtype="float32")
    ids = reranker._encoder.encode([("a", "b")]).input_ids[0].tolist()
    assert ids == AutoTokenizer.from_pretrained(folder)("Q: a\nD: b\nA:")["input_ids"]
    assert np.isfinite(reranker.score([("a", "b")], instruction="be kind")).all()


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"pieces": ["{query}"]}, "must hold {document} once"),
        ({"piece": ["{query} {document}"]}, "unknown key 'template.piece'"),
        ({"pieces": "{query} {document}"}, "template.pieces"),
    ],
)
def test_a_wrong_template_in_crossrank_json_is_an_error(template, message, tmp_path):
    (tmp_path / "crossrank.json").write_text(json.dumps({"template": template}))
    with pytest.raises(CheckpointError) as error:
        read_settings(tmp_path)
    assert message in str(error.value)


def test_special_tokens_of_tokenizer_config_are_special_as_in_transformers(copy):
    folder = copy("qwen3")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": "+"}))
    tokenizer = load_tokenizer(open_checkpoint(folder, family="ctxl_rerank_v2"))
    text = "2 + 2 is four"
    assert (
        tokenizer.encode(text, add_special_tokens=False).ids == AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    )


def test_limits_are_those_of_the_reference_unless_stated(copy):
    folder = copy("gemma")
    assert open_checkpoint(folder, family="bge_reranker_gemma").max_length == 1024
    assert open_checkpoint(folder, family="bge_reranker_gemma", max_length=77).max_length == 77
    write_settings(folder, CheckpointSettings(max_length=200))
    assert open_checkpoint(folder, family="bge_reranker_gemma").max_length == 200


def test_a_prompt_begins_with_the_own_token_of_the_tokenizer(copy):
    folder = copy("gemma")
    path = folder / "tokenizer_config.json"
    stated = json.loads(path.read_text())
    assert open_checkpoint(folder, family="bge_reranker_gemma").template.pieces[:2] == ("<bos>", "A: {query}")
    for without in ({"bos_token": None}, {"bos_token": stated["pad_token"]}):
        path.write_text(json.dumps(stated | without))
        assert open_checkpoint(folder, family="bge_reranker_gemma").template.pieces[0] == "A: {query}"
