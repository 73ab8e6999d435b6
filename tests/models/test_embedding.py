import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from crossrank.errors import CheckpointError
from crossrank.models import embedding
from crossrank.models.embedding import BidirectionalEmbedder

TEXTS = [
    "query: red planet",
    "passage: Mars, known for its reddish appearance.",
    "",
    "passage: " + "the mountain " * 90,
]


@pytest.fixture(scope="module")
def embedding_folder(tiny_reranker, tmp_path_factory):
    """The published layout of an embedding model: the body's weights without a head, named without `model.`."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("embed") / "model"
    shutil.copytree(tiny_reranker("llama"), folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["score.weight"]
    save_file(
        {name.removeprefix("model."): value for name, value in tensors.items()}, folder / "model.safetensors",
        metadata={"format": "pt"},
    )  # fmt: skip
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["LlamaBidirectionalModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def reference(folder, texts):
    """transformers' Llama with a mask that hides nothing, a text at a time: mean of the last layer, length 1."""
    from transformers import LlamaConfig, LlamaModel

    values = json.loads((folder / "config.json").read_text())
    config = LlamaConfig.from_dict({k: v for k, v in values.items() if k not in ("model_type", "auto_map")})
    from safetensors.torch import load_file

    model = LlamaModel._from_config(config, attn_implementation="eager").eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    vectors = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            hidden = model(ids, attention_mask=torch.zeros(1, 1, ids.shape[1], ids.shape[1])).last_hidden_state
        vectors.append(torch.nn.functional.normalize(hidden[0].mean(0), dim=0))
    return torch.stack(vectors).numpy()


@pytest.mark.parametrize("is_packed", [True, False])
def test_vectors_are_those_of_transformers(embedding_folder, is_packed, monkeypatch):
    if not is_packed:
        monkeypatch.setattr(embedding, "can_pack", lambda device, dtype: False)
    monkeypatch.setattr(embedding, "_CPU_BUDGET", 60)
    embedder = BidirectionalEmbedder(embedding_folder, where="tiny", device="cpu")
    assert (embedder._packed is not None) is is_packed
    found = embedder.embed(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(embedding_folder, TEXTS), atol=1e-5)


def test_another_pooling_is_refused(embedding_folder, tmp_path):
    folder = tmp_path / "cls"
    shutil.copytree(embedding_folder, folder)
    config = json.loads((folder / "config.json").read_text()) | {"pooling": "cls"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="pool by the mean, not by 'cls'"):
        BidirectionalEmbedder(folder, where="tiny", device="cpu")


def test_a_broken_tokenizer_names_its_file(embedding_folder, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(embedding_folder, folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        BidirectionalEmbedder(folder, where="tiny", device="cpu")


def test_prompts_stand_before_the_texts(embedding_folder):
    from crossrank.retrieval.embedders import open_embedder

    embedder = open_embedder(embedding_folder, device="cpu")
    np.testing.assert_allclose(
        embedder.embed_queries(["red planet"]), reference(embedding_folder, ["query: red planet"]), atol=1e-5
    )
    np.testing.assert_allclose(
        embedder.embed_documents(["Mars"]), reference(embedding_folder, ["passage: Mars"]), atol=1e-5
    )
