"""`crossrank models`, `info` and `export` on tiny checkpoints."""

import json
import shutil
from functools import partial

import huggingface_hub
import pytest

from crossrank.models.families import FAMILIES


@pytest.fixture
def hub_cache(monkeypatch, tmp_path):
    """An empty cache of the hub; the returned function puts a checkpoint into it under a name."""
    monkeypatch.setattr(huggingface_hub, "scan_cache_dir", partial(huggingface_hub.scan_cache_dir, tmp_path / "hub"))

    def add(name, folder):
        repository = tmp_path / "hub" / ("models--" + name.replace("/", "--"))
        snapshot = repository / "snapshots" / ("0" * 40)
        shutil.copytree(folder, snapshot)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40)
        return snapshot

    return add


def test_the_families_are_listed(crossrank, hub_cache):
    result = crossrank("models")
    assert result.exit_code == 0
    assert all(family.name in result.stdout and family.description[:20] in result.stdout for family in FAMILIES)
    listed = json.loads(crossrank("models", "--json").stdout)
    assert [family["name"] for family in listed["families"]] == [family.name for family in FAMILIES]
    assert set(listed["packages"]) == {"openvino", "torch", "transformers", "pyarrow"}


def test_rerankers_in_the_cache_are_listed_and_other_models_are_not(crossrank, hub_cache, tiny_checkpoint, exported):
    hub_cache("org/fast", exported)
    hub_cache("org/plain", tiny_checkpoint("electra"))
    hub_cache("org/two-labels", tiny_checkpoint("bert-two-labels"))
    headless = hub_cache("org/body", tiny_checkpoint("bert"))
    (headless / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    (hub_cache("org/no-weights", tiny_checkpoint("bert")) / "model.safetensors").unlink()
    found = {model["name"]: model for model in json.loads(crossrank("models", "--json").stdout)["models"]}
    assert {name for name in found if name.startswith("org/")} == {"org/fast", "org/plain", "org/two-labels"}
    assert found["org/plain"]["family"] == "electra"
    assert found["org/fast"]["loadable"] and found["org/plain"]["loadable"]
    assert found["org/plain"]["size_bytes"] > 10_000
    assert "org/plain" in crossrank("models").stdout


def test_without_torch_only_what_openvino_reads_is_loadable(
    crossrank, hub_cache, tiny_checkpoint, exported, monkeypatch
):
    import importlib.util

    from crossrank.cli import models
    from crossrank.inference import selection

    def find_spec(name):
        return None if name in ("torch", "transformers") else importlib.util.find_spec(name)

    monkeypatch.setattr(models, "find_spec", find_spec)
    monkeypatch.setattr(selection, "find_spec", find_spec)
    for name, folder in (("fast", exported), ("bert", tiny_checkpoint("bert")), ("gte", tiny_checkpoint("modernbert"))):
        hub_cache(f"org/{name}", folder)
    found = {model["name"]: model["loadable"] for model in json.loads(crossrank("models", "--json").stdout)["models"]}
    assert (found["org/fast"], found["org/bert"], found["org/gte"]) == (True, True, False)
    assert "pip install 'crossrank[torch]'" in crossrank("models").stdout


def test_info_says_everything(crossrank, tiny_checkpoint, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint("bert-two-labels"), folder)
    settings = {
        "format_version": 1,
        "prompt": {"query": "Q: {query}", "document": "{title}: {text}"},
        "max_length": 96,
        "calibration": {"method": "platt", "slope": 1.5, "intercept": -0.25},
        "fusion": {"method": "zscore", "weight": 0.75},
        "provenance": {"recipe": "by hand", "data": ["a", "b"]},
    }
    (folder / "crossrank.json").write_text(json.dumps(settings))
    facts = json.loads(crossrank("info", folder, "--json").stdout)
    assert facts["model"] == facts["folder"] == str(folder)
    assert facts["family"].startswith("bert: ")
    assert facts["architecture"] == "BertForSequenceClassification"
    assert facts["labels"] == ["irrelevant", "relevant"]
    assert facts["max_length"] == 96
    for key in ("prompt", "calibration", "fusion", "provenance"):
        assert facts[key] == settings[key]
    assert facts["sizes"]["hidden_size"] == 32 and facts["sizes"]["num_layers"] == 2
    assert facts["weights"]["dtypes"] == ["F32"]
    assert facts["files"]["model.safetensors"] == (folder / "model.safetensors").stat().st_size
    assert facts["engine"] == "torch: no CPU form in the folder: `crossrank export` makes one"
    table = crossrank("info", folder).stdout
    assert all(text in table for text in ("irrelevant, relevant", "by hand", "slope: 1.5", "model.safetensors"))


def test_info_counts_the_parameters(crossrank, tiny_checkpoint):
    from transformers import AutoModelForSequenceClassification

    folder = tiny_checkpoint("roberta")
    expected = sum(p.numel() for p in AutoModelForSequenceClassification.from_pretrained(folder).parameters())
    assert json.loads(crossrank("info", folder, "--json").stdout)["weights"]["num_parameters"] == expected


def test_info_of_the_cpu_form_names_openvino(crossrank, exported):
    facts = json.loads(crossrank("info", exported, "--json").stdout)
    assert facts["engine"].startswith("openvino: the folder holds the CPU form")
    assert facts["cpu"]["weights"] == "float32"


def test_info_of_a_truncated_weights_file(crossrank, tiny_checkpoint, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint("bert"), folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    result = crossrank("info", folder)
    assert result.exit_code == 1
    assert "model.safetensors: not a readable safetensors file" in result.stderr


def test_export_prints_how_close_the_scores_are(crossrank, tiny_checkpoint, tmp_path):
    result = crossrank("export", tiny_checkpoint("electra"), "-o", tmp_path / "fast", "--weights", "int8", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["folder"] == str(tmp_path / "fast") and report["weights"] == "int8"
    assert report["kendall_tau"] > 0.9
    assert (tmp_path / "fast" / "openvino" / "openvino_model.bin").is_file()
    again = crossrank("export", tiny_checkpoint("electra"), "-o", tmp_path / "fast")
    assert again.exit_code == 2 and "is there already" in again.stderr


def test_export_prints_a_table(crossrank, tiny_checkpoint, tmp_path):
    result = crossrank("export", tiny_checkpoint("bert"), "-o", tmp_path / "fast")
    assert result.exit_code == 0
    assert "max_abs_error" in result.stdout and "kendall_tau" in result.stdout


def test_info_says_which_path_a_language_model_takes_and_why(crossrank, tiny_language_model):
    folder = tiny_language_model("qwen3")
    refused = crossrank("info", folder)
    assert refused.exit_code == 1
    assert "give family= (--family), one of qwen3_reranker, ctxl_rerank_v2" in " ".join(refused.stderr.split())
    facts = json.loads(crossrank("info", folder, "--family", "ctxl_rerank_v2", "--json").stdout)
    assert facts["chosen_because"] == "family='ctxl_rerank_v2' was asked for"
    assert facts["licence"] == "CC-BY-NC-SA-4.0 (non-commercial)"
    assert facts["template"]["pieces"][0].endswith("<Query> {query}{instruction} ??")
    assert facts["engine"] == "torch: ctxl_rerank_v2 has no CPU form"
    facts = json.loads(crossrank("info", tiny_language_model("logit-score"), "--json").stdout)
    assert facts["chosen_because"] == "modules.json ends in LogitScore"
    assert facts["template"] == "the chat template of the tokenizer with the instruction 'retrieve passages' by default"


def test_licences_are_listed(crossrank, hub_cache):
    listed = {family["name"]: family for family in json.loads(crossrank("models", "--json").stdout)["families"]}
    assert listed["jina_reranker_v2"]["non_commercial"] and not listed["qwen3_reranker"]["non_commercial"]
    shown = crossrank("models").stdout
    assert "CC-BY-NC-4.0" in shown and "(non-commercial)" in shown


def test_published_language_models_in_the_cache_are_known_by_their_names(crossrank, hub_cache, tiny_language_model):
    hub_cache("Qwen/Qwen3-Reranker-0.6B", tiny_language_model("qwen3"))
    hub_cache("someone/Qwen3-0.6B", tiny_language_model("qwen3"))
    found = {model["name"]: model for model in json.loads(crossrank("models", "--json").stdout)["models"]}
    assert found["Qwen/Qwen3-Reranker-0.6B"]["family"] == "qwen3_reranker"
    assert "someone/Qwen3-0.6B" not in found


def test_language_models_have_no_cpu_form(crossrank, tiny_language_model, tmp_path):
    result = crossrank("export", tiny_language_model("qwen3-seq-cls"), "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "score it with torch" in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_rerank_takes_family_and_instruction(crossrank, tiny_language_model, tmp_path):
    documents = tmp_path / "documents.txt"
    documents.write_text("Mars is red.\n\nVenus.\n")
    options = ("--model", tiny_language_model("qwen3"), "--family", "qwen3_reranker", "--device", "cpu", "--jsonl")
    plain = crossrank("rerank", "red planet", documents, *options)
    asked = crossrank("rerank", "red planet", documents, *options, "--instruction", "find planets")
    scores = [[json.loads(line)["score"] for line in result.stdout.splitlines()] for result in (plain, asked)]
    assert len(scores[0]) == 2 and scores[0] != scores[1]
    refused = crossrank("rerank", "red planet", documents, "--instruction", "find planets")
    assert refused.exit_code == 2
    assert "no place for an instruction" in refused.stderr
