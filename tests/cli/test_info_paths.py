"""`crossrank info` says which path a decoder takes, and why."""

import json
import shutil

import pytest


@pytest.fixture
def facts(crossrank):
    def read(folder):
        result = crossrank("info", str(folder), "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return read


def test_a_bidirectional_decoder(facts, tiny_reranker):
    found = facts(tiny_reranker(pooling="last"))
    assert found["family"].startswith("llama_bidirectional: Llama made bidirectional")
    assert found["chosen_because"] == "config.json has model_type 'llama_bidirec': bidirectional attention"
    assert found["attention"] == "bidirectional: every token sees every other"
    assert found["template"]["pieces"] == ["question:{query} \n \n passage:{document}"]
    assert (found["pooling"], found["temperature"], found["max_length"]) == ("last", 0.5, 8192)


def test_a_decoder_with_a_head_and_native_attention(facts, tiny_reranker, tmp_path):
    folder = tmp_path / "native"
    shutil.copytree(tiny_reranker(), folder)
    config = json.loads((folder / "config.json").read_text())
    native = {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"], "auto_map": {}}
    (folder / "config.json").write_text(json.dumps(config | native))
    found = facts(folder)
    assert found["family"].startswith("decoder: ") and found["attention"] == "causal, as trained"
    assert "names LlamaForSequenceClassification: attention stays causal" in found["chosen_because"]


def test_a_class_outside_the_table(facts, tiny_reranker, tmp_path):
    folder = tmp_path / "outside"
    shutil.copytree(tiny_reranker(), folder)
    outside = {"model_type": "gemma2", "architectures": ["Gemma2ForSequenceClassification"], "id2label": {"0": "x"}}
    (folder / "config.json").write_text(json.dumps(outside))
    found = facts(folder)
    assert found["family"].startswith("native: ")
    assert "AutoModelForSequenceClassification with native attention" in found["chosen_because"]


def test_unknown_pooling_is_an_error_before_any_weight_is_read(crossrank, tiny_reranker, tmp_path):
    folder = tmp_path / "odd"
    shutil.copytree(tiny_reranker(), folder)
    config = json.loads((folder / "config.json").read_text()) | {"pooling": "weighted_avg"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()
    result = crossrank("info", str(folder))
    assert result.exit_code != 0
    assert "pooling must be one of avg, cls, last, not 'weighted_avg'" in result.output.replace("\n", " ")
