import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from crossrank.errors import InputError
from crossrank.models.checkpoint import open_checkpoint
from crossrank.models.saving import save_checkpoint
from crossrank.models.settings import CheckpointSettings

SETTINGS = CheckpointSettings(max_length=100, activation="identity", provenance={"recipe": "r"})


def save(source, folder, settings=SETTINGS):
    model = AutoModelForSequenceClassification.from_pretrained(source)
    return save_checkpoint(folder, model=model, tokenizer=AutoTokenizer.from_pretrained(source), settings=settings)


@pytest.mark.parametrize("kind", ["bert", "modernbert", "xlm-roberta"])
def test_all_three_libraries_read_the_folder_with_the_same_scores(
    tiny_checkpoint, tmp_path, hard_pairs, reference_logits, kind
):
    source = tiny_checkpoint(kind)
    folder = save(source, tmp_path / "saved")
    short = [pair for pair in hard_pairs if len(pair[1]) < 40]
    expected = reference_logits(source, short)[:, 0]
    np.testing.assert_allclose(reference_logits(folder, short)[:, 0], expected, atol=1e-6)
    peer = CrossEncoder(str(folder), device="cpu")
    assert isinstance(peer.activation_fn, torch.nn.Identity)
    np.testing.assert_allclose(peer.predict(short), expected, atol=1e-5)
    checkpoint = open_checkpoint(folder)
    assert (checkpoint.max_length, peer.max_seq_length, checkpoint.activation) == (100, 100, "identity")
    assert checkpoint.settings == SETTINGS


def test_an_older_checkpoint_is_replaced_and_nothing_is_left_beside_it(tiny_checkpoint, tmp_path):
    folder = save(tiny_checkpoint("electra"), tmp_path / "saved")
    (folder / "stale.txt").touch()
    save(tiny_checkpoint("bert"), folder)
    assert open_checkpoint(folder).family.name == "bert"
    assert not (folder / "stale.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_failure_leaves_the_older_checkpoint(tiny_checkpoint, tmp_path, monkeypatch):
    folder = save(tiny_checkpoint("bert"), tmp_path / "saved")

    def fail(*_: object) -> None:
        raise OSError("disk gone")

    monkeypatch.setattr("crossrank.models.saving.write_settings", fail)
    with pytest.raises(OSError, match="disk gone"):
        save(tiny_checkpoint("electra"), folder)
    assert open_checkpoint(folder).family.name == "bert"
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_folder_of_something_else_is_not_touched(tiny_checkpoint, tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InputError, match="holds no checkpoint"):
        save(tiny_checkpoint("bert"), tmp_path)
    assert (tmp_path / "thesis.txt").exists()
