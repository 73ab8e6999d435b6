import json
import shutil

import numpy as np
import pytest

from crossrank.errors import CheckpointError, InputError
from crossrank.inference import export
from crossrank.inference.export import export_checkpoint, kendall_tau, restore_transformers
from crossrank.inference.openvino_engine import OpenVINOEngine
from crossrank.models.checkpoint import open_checkpoint
from crossrank.models.settings import read_settings

KINDS = ("bert", "electra", "roberta", "xlm-roberta", "deberta-v2", "modernbert", "mpnet", "distilbert", "modular")


def score(folder, encoded):
    return OpenVINOEngine.load(open_checkpoint(folder, label=0), dtype="float32").logits(encoded)


@pytest.mark.parametrize("kind", KINDS)
def test_exported_scores_equal_the_originals(tiny_checkpoint, tmp_path, hard_pairs, encode, kind):
    from crossrank.inference.torch_engine import TorchEngine

    source, out = tiny_checkpoint(kind), tmp_path / "out"
    report = export_checkpoint(source, out)
    assert report.max_abs_error < 1e-4
    assert report.kendall_tau > 0.9999
    reference = TorchEngine.load(open_checkpoint(source), device="cpu", dtype="float32")
    encoded = encode(source, hard_pairs)
    np.testing.assert_allclose(score(out, encoded), reference.logits(encoded), atol=1e-4)
    assert not list(out.rglob("*.safetensors"))


@pytest.mark.parametrize("kind", ["bert", "deberta-v2"])
def test_int8_is_smaller_and_says_what_it_costs(tiny_checkpoint, tmp_path, kind):
    full = export_checkpoint(tiny_checkpoint(kind), tmp_path / "full")
    small = export_checkpoint(tiny_checkpoint(kind), tmp_path / "small", weights="int8")
    sizes = [(report.folder / "openvino" / "openvino_model.bin").stat().st_size for report in (full, small)]
    assert sizes[1] < 0.5 * sizes[0]
    assert 0 < small.max_abs_error < 0.5
    assert small.kendall_tau > 0.9
    cpu = read_settings(tmp_path / "small").cpu
    assert cpu.weights == "int8"
    assert cpu.model_extra["max_abs_error"] == small.max_abs_error


def test_settings_and_labels_are_kept(tiny_checkpoint, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(tiny_checkpoint("bert-two-labels"), source)
    (source / "crossrank.json").write_text('{"format_version": 1, "max_length": 64, "provenance": {"recipe": "r"}}')
    export_checkpoint(source, tmp_path / "out")
    written = open_checkpoint(tmp_path / "out", label="relevant")
    assert (written.max_length, written.num_labels, written.label) == (64, 2, 1)
    assert written.settings.provenance == {"recipe": "r"}


@pytest.mark.parametrize("kind", ["bert", "electra", "roberta", "xlm-roberta"])
def test_a_cpu_form_becomes_a_transformers_folder_again(tiny_checkpoint, tmp_path, hard_pairs, reference_logits, kind):
    source = tiny_checkpoint(kind)
    export_checkpoint(source, tmp_path / "cpu")
    folder = restore_transformers(tmp_path / "cpu", tmp_path / "plain")
    np.testing.assert_array_equal(reference_logits(folder, hard_pairs), reference_logits(source, hard_pairs))


def test_an_int8_form_restored_scores_as_it_does(tiny_checkpoint, tmp_path, hard_pairs, reference_logits, encode):
    export_checkpoint(tiny_checkpoint("bert"), tmp_path / "cpu", weights="int8")
    folder = restore_transformers(tmp_path / "cpu", tmp_path / "plain")
    actual = score(tmp_path / "cpu", encode(tmp_path / "cpu", hard_pairs))
    np.testing.assert_allclose(actual, reference_logits(folder, hard_pairs), atol=1e-4)


def test_a_traced_graph_cannot_be_restored(tiny_checkpoint, tmp_path):
    export_checkpoint(tiny_checkpoint("distilbert"), tmp_path / "cpu")
    with pytest.raises(CheckpointError, match="traced"):
        restore_transformers(tmp_path / "cpu", tmp_path / "plain")
    assert not (tmp_path / "plain").exists()


def test_a_folder_in_use_is_refused(tiny_checkpoint, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        export_checkpoint(tiny_checkpoint("bert"), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_filled(tiny_checkpoint, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    export_checkpoint(tiny_checkpoint("bert"), out)
    assert (out / "crossrank.json").is_file()


def test_a_wrong_graph_leaves_nothing_behind(tiny_checkpoint, tmp_path, monkeypatch):
    build = export.build_graph

    def build_wrong(config, weights, **options):
        wrong = {name: array * 1.5 if name == "classifier.weight" else array for name, array in weights.items()}
        return build(config, wrong, **options)

    monkeypatch.setattr(export, "build_graph", build_wrong)
    with pytest.raises(CheckpointError, match="gives other scores than torch"):
        export_checkpoint(tiny_checkpoint("bert"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_is_refused(tiny_checkpoint, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(tiny_checkpoint("bert"), source)
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickle"):
        export_checkpoint(source, tmp_path / "out")


def test_kendall_tau_agrees_with_scipy_style_examples():
    one_swap = np.float32([1, 2, 3, 4]), np.float32([1, 3, 2, 4])
    assert kendall_tau(*one_swap) == pytest.approx(4 / 6)
    assert kendall_tau(one_swap[0], -one_swap[0]) == -1
    ties = np.float32([1, 1, 2]), np.float32([1, 2, 3])
    assert kendall_tau(*ties) == pytest.approx(2 / np.sqrt(2 * 3))


def test_the_description_of_the_weights_is_valid_json(tiny_checkpoint, tmp_path):
    export_checkpoint(tiny_checkpoint("bert"), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "crossrank.json").read_text())["cpu"]["weights"] == "float32"
