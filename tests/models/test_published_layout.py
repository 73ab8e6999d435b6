import filecmp
import json
import logging
import shutil

import numpy as np
import pytest
import torch
from plain_decoder import PlainDecoder
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from crossrank import Reranker
from crossrank.encoding.prompt import PromptTemplate
from crossrank.encoding.template import SequenceTemplate
from crossrank.errors import InputError
from crossrank.models.bidirectional import load_bidirectional
from crossrank.models.checkpoint import open_checkpoint
from crossrank.models.saving import save_checkpoint
from crossrank.models.settings import CheckpointSettings
from tiny_decoders import KINDS

PAIRS = [
    ("how much protein should a female eat?", " 46 grams per day \n"),
    ("how much protein should a female eat?", "The highest point of a mountain. " * 20),
    (" {document} ", "{query} question: passage: "),
    ("Mars 🍞", ""),
]


def load(folder, **options):
    return Reranker.load(folder, device="cpu", dtype="float32", **options)


def contents(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_round_trip_is_bit_exact(tiny_reranker, tmp_path, dtype):
    source = tiny_reranker("llama", dtype)
    first = load(source).save(tmp_path / "first")
    second = load(first).save(tmp_path / "second")
    assert contents(first) == contents(second)
    for name in contents(first):
        assert filecmp.cmp(first / name, second / name, shallow=False), name
    before, after = (load_file(folder / "model.safetensors") for folder in (source, second))
    assert set(before) == set(after)
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype and torch.equal(tensor, after[name]), name
    assert (source / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes()
    np.testing.assert_array_equal(load(second).score(PAIRS), load(source).score(PAIRS))


def test_the_published_names(tiny_reranker, tmp_path):
    folder = load(tiny_reranker("llama", "bfloat16")).save(tmp_path / "saved")
    config = json.loads((folder / "config.json").read_text())
    module = "llama_bidirectional_model"
    expected = {
        "model_type": "llama_bidirec",
        "architectures": ["LlamaBidirectionalForSequenceClassification"],
        "auto_map": {
            "AutoConfig": f"{module}.LlamaBidirectionalConfig",
            "AutoModelForSequenceClassification": f"{module}.LlamaBidirectionalForSequenceClassification",
        },
        "pooling": "avg",
        "temperature": 0.5,
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": True,
        "rope_theta": 500000.0,
        "id2label": {"0": "LABEL_0"},
        "num_key_value_heads": 2,
    }
    assert {key: config[key] for key in expected} == expected
    assert config["rope_scaling"]["rope_type"] == "llama3"
    names = set(load_file(folder / "model.safetensors"))
    assert names >= {"score.weight", "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"}
    assert all(name.startswith("model.") or name == "score.weight" for name in names)
    settings = json.loads((folder / "crossrank.json").read_text())
    assert settings["template"]["pieces"] == ["question:{query} \n \n passage:{document}"]
    assert (settings["max_length"], settings["pooling"]) == (8192, "avg")


@pytest.mark.parametrize(("kind", "pooling"), [*((kind, "avg") for kind in KINDS), ("llama", "cls"), ("llama", "last")])
def test_sentence_transformers_scores_the_same_without_remote_code(tiny_reranker, tmp_path, kind, pooling):
    source = tiny_reranker(kind, pooling=pooling)
    folder = load(source).save(tmp_path / "saved")
    expected = load(folder).score(PAIRS)
    np.testing.assert_allclose(expected, load(source).score(PAIRS), atol=1e-6)
    peer = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    assert peer.max_seq_length == 8192
    np.testing.assert_allclose(peer.predict(PAIRS), expected, atol=2e-5)
    for pair, score in zip(PAIRS, expected, strict=True):  # alone, so without padding
        np.testing.assert_allclose(peer.predict([pair])[0], score, atol=1e-5)


@torch.inference_mode()
def test_transformers_with_remote_code_gives_the_same_logits(tiny_reranker, tmp_path):
    folder = load(tiny_reranker()).save(tmp_path / "saved")
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
    assert type(model).__name__ == "LlamaBidirectionalForSequenceClassification"
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    tokenizer.pad_token = tokenizer.eos_token
    texts = [f"question:{query} \n \n passage:{document}" for query, document in PAIRS]
    for side in ("left", "right"):
        tokenizer.padding_side = side
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        np.testing.assert_allclose(model(**inputs).logits[:, 0], load(folder).score(PAIRS), atol=1e-5)
    alone = tokenizer(texts[0], return_tensors="pt")["input_ids"]
    torch.testing.assert_close(model(alone).logits, PlainDecoder(folder).logits(alone), atol=1e-5, rtol=1e-5)


def test_other_backbones_name_their_own_classes_and_no_remote_code(tiny_reranker, tmp_path):
    folder = load(tiny_reranker("qwen3")).save(tmp_path / "saved")
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "qwen3_bidirec" and "auto_map" not in config
    assert config["architectures"] == ["Qwen3BidirectionalForSequenceClassification"]
    assert not list(folder.glob("*.py"))


def test_the_settings_survive_and_the_head_is_trained(tiny_reranker, tmp_path):
    """As a trainer saves: a model in memory, a tokenizer of transformers, settings of its own."""
    checkpoint = open_checkpoint(tiny_reranker())
    settings = CheckpointSettings(max_length=300, activation="sigmoid", provenance={"recipe": "r"})
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_reranker())
    model = load_bidirectional(checkpoint, dtype=torch.float32)
    folder = save_checkpoint(tmp_path / "saved", model=model, tokenizer=tokenizer, settings=settings)
    saved = open_checkpoint(folder)
    assert (saved.max_length, saved.activation, saved.settings.provenance) == (300, "sigmoid", {"recipe": "r"})
    assert not saved.settings.untrained_head
    peer = CrossEncoder(str(folder), device="cpu")
    assert isinstance(peer.activation_fn, torch.nn.Sigmoid) and peer.max_seq_length == 300
    expected = 1 / (1 + np.exp(-load(folder).score(PAIRS)))
    np.testing.assert_allclose(peer.predict(PAIRS), expected, atol=2e-5)


def test_a_prompt_that_sentence_transformers_cannot_render_is_left_out(tiny_reranker, tmp_path):
    template = SequenceTemplate(pieces=("query: {query}", "document: {document}"), special_tokens=True)
    folder = save_with(template, tiny_reranker(), tmp_path / "two")
    assert not (folder / "modules.json").exists() and open_checkpoint(folder).template == template
    turned = SequenceTemplate(pieces=('<{document}> "{query}" \\n é',))
    folder = save_with(turned, tiny_reranker(), tmp_path / "turned")
    peer = CrossEncoder(str(folder), device="cpu")
    np.testing.assert_allclose(peer.predict(PAIRS), load(folder).score(PAIRS), atol=1e-5)


@pytest.mark.parametrize("space", ["first", "always", "never"])
def test_a_tokenizer_that_puts_a_space_before_a_text_reads_the_same_in_sentence_transformers(
    space, tiny_reranker, tmp_path
):
    """As Llama 2 and Mistral: SentencePiece; behind the special token "first" leaves the space out."""
    source = with_tokenizer(tiny_reranker(), tmp_path / "source", pre_tokenizers.Metaspace(prepend_scheme=space))
    folder = load(source).save(tmp_path / "saved")
    expected = load(source).score(PAIRS[:3])
    np.testing.assert_array_equal(load(folder).score(PAIRS[:3]), expected)
    peer = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    np.testing.assert_allclose(peer.predict(PAIRS[:3]), expected, atol=2e-5)


def with_tokenizer(source, folder, pre_tokenizer, begin="<s>"):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"])
    texts = ["question:\n passage:{}", *(text for pair in PAIRS for text in pair)]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, 1)])
    shutil.copytree(source, folder)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", padding_side="left"
    )
    fast.save_pretrained(folder)
    return folder


def test_a_prompt_whose_tokens_sentence_transformers_cannot_make_is_left_out(tiny_reranker, tmp_path, caplog):
    """What its post-processor calls the token before a text is not what the token is called."""
    source = with_tokenizer(tiny_reranker(), tmp_path / "source", pre_tokenizers.Whitespace(), begin="START")
    with caplog.at_level(logging.WARNING, logger="crossrank"):
        folder = load(source).save(tmp_path / "saved")
    assert caplog.messages == ["the prompt has no form for sentence-transformers: the files for it are left out"]
    assert not {"modules.json", "config_native.json", "chat_template.jinja"} & contents(folder)
    np.testing.assert_array_equal(load(folder).score(PAIRS), load(source).score(PAIRS))


def test_prompt_and_temperature_of_crossrank_json_reach_sentence_transformers(tiny_reranker, tmp_path):
    model = load_bidirectional(open_checkpoint(tiny_reranker()), dtype=torch.float32)
    settings = CheckpointSettings(temperature=4.0, prompt=PromptTemplate(query="Query: {query}"))
    folder = save_checkpoint(tmp_path / "saved", model=model, tokenizer=tiny_reranker(), settings=settings)
    expected = load(folder).score(PAIRS)
    assert np.abs(expected - load(tiny_reranker()).score(PAIRS) / 4).max() > 1e-3
    peer = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    np.testing.assert_allclose(peer.predict(PAIRS), expected, atol=2e-5)


def save_with(template, source, folder):
    checkpoint = open_checkpoint(source)
    model = load_bidirectional(checkpoint, dtype=torch.float32)
    return save_checkpoint(folder, model=model, tokenizer=source, settings=CheckpointSettings(template=template))


def test_saving_is_atomic(tiny_reranker, tmp_path, monkeypatch):
    folder = load(tiny_reranker()).save(tmp_path / "saved")
    before = contents(folder)

    def fail(*_: object) -> None:
        raise OSError("disk gone")

    monkeypatch.setattr("crossrank.models.saving.write_settings", fail)
    with pytest.raises(OSError, match="disk gone"):
        load(tiny_reranker("qwen2")).save(folder)
    assert contents(folder) == before and open_checkpoint(folder).family.name == "llama_bidirectional"
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "thesis.txt").touch()
    with pytest.raises(InputError, match="holds no checkpoint"):
        load(tiny_reranker()).save(folder)


def test_the_target_is_a_folder_of_its_own(tiny_reranker, tmp_path, monkeypatch):
    reranker = load(tiny_reranker())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert reranker.save("~/saved") == tmp_path / "saved"
    monkeypatch.chdir(tmp_path / "saved")
    for target in (".", tmp_path / "saved"):
        with pytest.raises(InputError, match="is the working directory, which would be replaced: give a folder of its"):
            reranker.save(target)
    with pytest.raises(InputError, match=r"config\.json is a file: give a folder of its own"):
        reranker.save("config.json")
