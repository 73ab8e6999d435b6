"""jina-reranker-v2 is XLM-RoBERTa under other names: each is told, and nothing is lost."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from crossrank import Reranker
from crossrank.errors import CheckpointError, UnsupportedModel
from crossrank.models.key_renames import to_transformers


def test_scores_are_those_of_the_native_class(tiny_language_model, tiny_checkpoint, reference_logits, hard_pairs):
    folder = tiny_language_model("jina")
    reranker = Reranker.load(folder, family="jina_reranker_v2", device="cpu", dtype="float32")
    expected = reference_logits(tiny_checkpoint("xlm-roberta"), hard_pairs)[:, 0]
    np.testing.assert_allclose(reranker.score(hard_pairs), expected, atol=1e-4, rtol=1e-5)
    assert reranker.checkpoint.max_length == 128, "positions start behind the padding id"


def test_renames_are_complete(tiny_language_model, tiny_checkpoint):
    published = load_file(tiny_language_model("jina") / "model.safetensors")
    native = load_file(tiny_checkpoint("xlm-roberta") / "model.safetensors")
    renamed = to_transformers(published)
    assert renamed.keys() == native.keys()
    assert all(torch.equal(renamed[name], native[name]) for name in native)


def test_a_missing_matrix_is_an_error(tiny_language_model, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_language_model("jina"), tmp_path / "jina")
    tensors = load_file(folder / "model.safetensors")
    del tensors["roberta.encoder.layers.1.mixer.Wqkv.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"weights are missing \(3\): .*attention.self.key.weight"):
        Reranker.load(folder, family="jina_reranker_v2", device="cpu")


def test_the_folder_alone_does_not_say_what_it_is(tiny_language_model):
    with pytest.raises(UnsupportedModel, match=r"without a model_type.*give family=.*one of jina_reranker_v2"):
        Reranker.load(tiny_language_model("jina"))
