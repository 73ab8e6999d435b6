"""Which models are served: how they are named on the command line, and which weights they have."""

from __future__ import annotations

import gc
import shutil
import weakref

import pytest
from running_server import twin

from crossrank.errors import InputError
from crossrank.models.checkpoint import open_checkpoint
from crossrank.serving.metrics import Metrics
from crossrank.serving.models import Models, find_revision
from crossrank.serving.options import ModelSpec, ServeOptions, parse_model


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("crossrank-mini-en-v1", ModelSpec("crossrank-mini-en-v1", "crossrank-mini-en-v1")),
        ("BAAI/bge-reranker-v2-m3", ModelSpec("BAAI/bge-reranker-v2-m3", "BAAI/bge-reranker-v2-m3")),
        ("/models/mine/", ModelSpec("mine", "/models/mine/")),
        ("./a=b", ModelSpec("a=b", "./a=b")),
        ("rerank-v3.5=./mine", ModelSpec("rerank-v3.5", "./mine")),
        ("nvidia/some-model=BAAI/other", ModelSpec("nvidia/some-model", "BAAI/other")),
    ],
)
def test_names_of_models(text, spec):
    assert parse_model(text) == spec


@pytest.mark.parametrize("text", ["=x", "x=", " = "])
def test_half_a_name_is_an_error(text):
    with pytest.raises(InputError, match="write NAME=MODEL"):
        parse_model(text)


def test_the_revision_is_the_commit_of_the_hub_or_follows_the_weights(tiny_checkpoint, tmp_path):
    folder = tiny_checkpoint("bert")
    in_cache = tmp_path / "models--x--y" / "snapshots" / "0123abc"
    shutil.copytree(folder, in_cache)
    assert find_revision(open_checkpoint(in_cache)) == "0123abc"
    copied = tmp_path / "copy"
    shutil.copytree(folder, copied)
    before = find_revision(open_checkpoint(copied))
    assert before == find_revision(open_checkpoint(folder)), "the same wherever it lies"
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert find_revision(open_checkpoint(copied)) != before


def test_a_model_that_is_unloaded_leaves_the_memory_although_the_server_started_with_it(tiny_reranker):
    models = Models(ServeOptions(models=()), Metrics())
    models.add("first", tiny_reranker)
    second = twin(tiny_reranker)
    second.itself = second  # parts of large models refer to each other
    models.add("second", second)
    gone = weakref.ref(second)
    del second
    gc.freeze()  # as the server does when everything has been loaded
    models.unload("second")
    models.stop()
    assert gone() is None
