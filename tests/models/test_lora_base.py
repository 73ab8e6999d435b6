import json
import logging
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from plain_decoder import PlainDecoder
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForSequenceClassification

from crossrank import Reranker
from crossrank.errors import CheckpointError, MissingExtra, UnsupportedModel
from crossrank.models import locating
from crossrank.models.adapters import export_merged
from crossrank.models.backbone import build_from_backbone
from crossrank.models.bidirectional import load_bidirectional
from crossrank.models.checkpoint import open_checkpoint
from crossrank.models.locating import checkpoint_files
from crossrank.models.saving import save_checkpoint
from crossrank.models.settings import CheckpointSettings

PAIRS = [("how much protein", "46 grams per day"), ("highest point", "The top of a mountain. " * 3)]


def load(folder):
    return Reranker.load(folder, device="cpu", dtype="float32")


def adapt(model, base, *, head=True):
    """Wrap a model in an adapter with random weights, as after training."""
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], modules_to_save=["score"] if head else None
    )
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    torch.manual_seed(5)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter.data, 0, 0.3 if "lora" in name else 1.0)
    return adapted


@pytest.fixture(scope="module")
def adapter(tiny_reranker, tmp_path_factory):
    """An adapter that peft alone has saved, on a published reranker; nothing else lies in the folder."""
    base = tiny_reranker()
    config = AutoConfig.for_model("llama", **native(base))
    model = LlamaForSequenceClassification.from_pretrained(base, config=config)
    folder = tmp_path_factory.mktemp("adapter")
    adapt(model, base).save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    return folder


def native(base):
    config = json.loads((base / "config.json").read_text())
    return {key: value for key, value in config.items() if key not in ("model_type", "auto_map", "architectures")}


def merged_by_hand(adapter, base, out):
    """The weights of base and adapter, added up in plain torch: W + alpha / r * B @ A."""
    from safetensors.torch import load_file, save_file

    weights, low_rank = load_file(base / "model.safetensors"), load_file(adapter / "adapter_model.safetensors")
    for name, matrix in low_rank.items():
        target = name.removeprefix("base_model.model.")
        if target.endswith("lora_A.weight"):
            other = low_rank[name.replace("lora_A", "lora_B")]
            weights[target.replace("lora_A.", "")] += 8 / 4 * other @ matrix
        elif "lora" not in target:
            weights[target] = matrix
    shutil.copytree(base, out)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return out


def test_adapter_and_head_load_on_top_of_their_base(adapter, tiny_reranker, tmp_path):
    by_hand = merged_by_hand(adapter, tiny_reranker(), tmp_path / "merged")
    reranker = load(adapter)
    np.testing.assert_allclose(reranker.score(PAIRS), load(by_hand).score(PAIRS), atol=1e-5)
    assert np.abs(reranker.score(PAIRS) - load(tiny_reranker()).score(PAIRS)).max() > 0.1
    ids = reranker._encoder.encode(PAIRS[:1]).input_ids[0]
    expected = PlainDecoder(by_hand).logits(torch.from_numpy(ids.astype(np.int64))[None])
    np.testing.assert_allclose(reranker.score(PAIRS[:1]), expected[0], atol=1e-5)
    whole = load(reranker.save(tmp_path / "saved"))
    assert whole.checkpoint.base_folder is None
    np.testing.assert_allclose(whole.score(PAIRS), reranker.score(PAIRS), atol=1e-6)


def test_loading_an_adapter_gives_no_false_alarm(adapter, caplog, monkeypatch):
    """transformers takes the model_type of the base for a mistake when peft asks for its configuration."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    load(adapter)
    assert not [message for message in caplog.messages if "instantiate a model of type" in message]


def test_an_adapter_on_a_bare_backbone_brings_the_head(tiny_backbone, tmp_path):
    """As a trainer saves it: `save_checkpoint` of the wrapped model describes the whole."""
    base = tiny_backbone("llama-untied")
    adapted = adapt(build_from_backbone(base, pooling="last", temperature=2.0)[0], base)
    settings = CheckpointSettings(max_length=200)
    folder = save_checkpoint(tmp_path / "adapter", model=adapted, tokenizer=base, settings=settings)
    assert not (folder / "model.safetensors").exists() and not (folder / "README.md").exists()
    loaded = load(folder)
    assert (loaded.checkpoint.max_length, loaded.checkpoint.settings.pooling) == (200, "last")
    encoded = loaded._encoder.encode(PAIRS[:1])
    with torch.inference_mode():
        expected = adapted(input_ids=torch.from_numpy(encoded.input_ids[0].astype(np.int64))[None]).logits[0]
    np.testing.assert_allclose(loaded.score(PAIRS[:1]), expected, atol=1e-5)
    # Without the description nothing says what the adapter makes of the language model.
    (folder / "config.json").unlink()
    with pytest.raises(UnsupportedModel, match="a LoRA adapter on a llama model, and no file says"):
        load(folder)


def test_an_adapter_without_a_head_on_a_bare_backbone_is_an_error(tiny_backbone, tmp_path):
    base = tiny_backbone()
    adapted = adapt(build_from_backbone(base)[0], base, head=False)
    folder = save_checkpoint(tmp_path / "a", model=adapted, tokenizer=base, settings=CheckpointSettings())
    with pytest.raises(CheckpointError, match="scoring head are missing"):
        load(folder)


def test_an_adapter_trains_the_fresh_head_below_it(adapter, tiny_backbone, tmp_path):
    fresh = Reranker.from_backbone(tiny_backbone(), device="cpu").save(tmp_path / "fresh")
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    change(folder, base_model_name_or_path=str(fresh))
    assert np.isfinite(load(folder).score(PAIRS)).all()
    headless = tmp_path / "headless"
    adapt(build_from_backbone(tiny_backbone())[0], fresh, head=False).save_pretrained(headless)
    with pytest.raises(CheckpointError, match="the head is fresh"):
        load(headless).score(PAIRS)


def test_a_relative_base_is_found_beside_the_adapter(adapter, tiny_reranker, tmp_path):
    shutil.copytree(tiny_reranker(), tmp_path / "base")
    shutil.copytree(adapter, tmp_path / "moved")
    change(tmp_path / "moved", base_model_name_or_path="../base")
    np.testing.assert_allclose(load(tmp_path / "moved").score(PAIRS), load(adapter).score(PAIRS))


def test_the_files_of_an_adapter_are_those_of_its_base_too(adapter, tiny_reranker):
    """What a stored run is compared with: a base that was trained on changes the scores of its adapters."""
    own = {path for path in adapter.iterdir() if path.is_file()}
    assert set(checkpoint_files(adapter)) == own | set(checkpoint_files(tiny_reranker()))
    assert tiny_reranker() / "model.safetensors" in set(checkpoint_files(adapter))


def change(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"peft_type": "IA3"}, UnsupportedModel, "'IA3' is not supported, only LORA"),
        ({"base_model_name_or_path": None}, CheckpointError, "must name the checkpoint below the adapter"),
        ({"base_model_name_or_path": "/gone"}, CheckpointError, "below this LoRA adapter: /gone: no such folder"),
        ({"target_modules": ["q_proj"]}, CheckpointError, "the adapter does not fit the model below it"),
    ],
)
def test_an_adapter_that_does_not_fit(adapter, tmp_path, values, error, message):
    folder = tmp_path / "copy"
    shutil.copytree(adapter, folder)
    change(folder, **values)
    with pytest.raises(error, match=message):
        load(folder)


def test_without_peft_the_extra_is_named(adapter, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"pip install 'crossrank\[lora\]'"):
        load_bidirectional(open_checkpoint(adapter), dtype="auto")


@pytest.fixture
def answering_adapter(tiny_language_model, tmp_path):
    """An adapter on a Qwen3-Reranker, as its fine-tuners save it, and the weights of both together."""
    base, folder, merged = tiny_language_model("qwen3"), tmp_path / "adapter", tmp_path / "merged"
    adapted = adapt(AutoModelForCausalLM.from_pretrained(base), base, head=False)
    adapted.save_pretrained(folder)
    shutil.copytree(base, merged)
    adapted.merge_and_unload().save_pretrained(merged)
    return folder, merged


def test_an_adapter_on_a_language_model_that_answers(answering_adapter, tiny_language_model):
    folder, merged = answering_adapter
    with pytest.raises(UnsupportedModel, match=r"or give family= \(--family\), one of qwen3_reranker, ctxl_rerank_v2"):
        load(folder)
    options = {"family": "qwen3_reranker", "device": "cpu", "dtype": "float32"}
    expected = Reranker.load(merged, **options).score(PAIRS)
    np.testing.assert_allclose(Reranker.load(folder, **options).score(PAIRS), expected, atol=1e-5)
    assert np.abs(Reranker.load(tiny_language_model("qwen3"), **options).score(PAIRS) - expected).max() > 0.01
    # The config.json of the whole beside it changes nothing, and crossrank.json can say the family.
    shutil.copy(merged / "config.json", folder / "config.json")
    (folder / "crossrank.json").write_text('{"family": "qwen3_reranker"}')
    np.testing.assert_allclose(load(folder).score(PAIRS), expected, atol=1e-5)
    with pytest.raises(UnsupportedModel, match="is not written merged, and loads as it is"):
        export_merged(folder, folder.parent / "whole")


def test_an_adapter_on_a_published_language_model_is_of_its_family(answering_adapter, tiny_language_model, monkeypatch):
    folder, _ = answering_adapter
    change(folder, base_model_name_or_path="Qwen/Qwen3-Reranker-0.6B")
    monkeypatch.setattr(locating, "download", lambda name, revision: tiny_language_model("qwen3"))
    checkpoint = open_checkpoint(folder)
    assert (checkpoint.family.name, checkpoint.licence) == ("qwen3_reranker", "Apache-2.0")
