"""Which runtime a checkpoint gets, and why."""

from __future__ import annotations

import shutil

import pytest

from crossrank.errors import InputError, MissingExtra
from crossrank.inference import selection
from crossrank.inference.selection import choose_engine, load_engine, resolve
from crossrank.models.checkpoint import open_checkpoint


@pytest.fixture
def cpu_form(tiny_checkpoint, tmp_path):
    folder = tmp_path / "cpu"
    shutil.copytree(tiny_checkpoint("bert"), folder)
    (folder / "openvino").mkdir()
    (folder / "openvino" / "openvino_model.xml").write_text("<net/>")
    return folder


def test_a_plain_checkpoint_goes_to_torch(tiny_checkpoint):
    choice = choose_engine(open_checkpoint(tiny_checkpoint("bert")))
    assert (choice.backend, choice.reason) == ("torch", "no CPU form in the folder: `crossrank export` makes one")


def test_the_cpu_form_goes_to_openvino_unless_another_device_is_asked_for(cpu_form):
    checkpoint = open_checkpoint(cpu_form)
    assert choose_engine(checkpoint).backend == "openvino"
    assert choose_engine(checkpoint, device="cuda").backend == "torch"
    assert choose_engine(checkpoint, backend="torch").backend == "torch"


def test_without_torch_a_bert_family_checkpoint_goes_to_openvino(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(selection, "find_spec", lambda name: None)
    assert choose_engine(open_checkpoint(tiny_checkpoint("bert"))).backend == "openvino"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "onnx"}, "backend must be one of auto, openvino, torch"),
        ({"backend": "openvino", "device": "cuda"}, "runs on the CPU"),
    ],
)
def test_bad_options_are_errors(tiny_checkpoint, options, message):
    with pytest.raises(InputError, match=message):
        choose_engine(open_checkpoint(tiny_checkpoint("bert")), **options)


def test_language_models_run_in_torch(tiny_language_model):
    checkpoint = open_checkpoint(tiny_language_model("qwen3"), family="qwen3_reranker")
    assert choose_engine(checkpoint).backend == "torch"
    with pytest.raises(InputError, match="qwen3_reranker has no CPU form"):
        choose_engine(checkpoint, backend="openvino")


@pytest.mark.parametrize("backend", ["openvino", "torch"])
@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_what_will_compute_is_known_before_anything_is_loaded(tiny_checkpoint, backend, dtype):
    checkpoint = open_checkpoint(tiny_checkpoint("bert"))
    options = {"device": "cpu", "dtype": dtype}
    known = resolve(choose_engine(checkpoint, backend=backend, device="cpu"), **options)
    engine = load_engine(checkpoint, backend=backend, **options)
    print(known)
    assert known == (engine.device, engine.precision)
    assert "auto" not in known


def test_a_missing_torch_is_said_before_anything_is_loaded(tiny_checkpoint, monkeypatch):
    choice = choose_engine(open_checkpoint(tiny_checkpoint("bert")), backend="torch")
    monkeypatch.setattr(selection, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"crossrank\[torch\]"):
        resolve(choice)
