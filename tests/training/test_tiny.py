"""Tiny models, made on the spot."""

from __future__ import annotations

import pytest
from transformers import AutoModel, AutoTokenizer

from crossrank.errors import InputError
from crossrank.training.tiny import build_tiny_model
from crossrank.types import Document, TrainingGroup


class Planets:
    """One group of two documents."""

    def __len__(self) -> int:
        return 1

    def sample(self, index: int, *, epoch: int) -> TrainingGroup:
        return TrainingGroup("q", "mars planet", (Document("the red planet"), Document("bread")), (1.0, 0.0))


@pytest.mark.parametrize("kind", ["bert", "modernbert", "llama"])
def test_a_tiny_model_loads_with_the_words_of_its_groups(tmp_path, capfd, kind):
    folder = build_tiny_model(f"tiny:{kind}", tmp_path / kind, Planets())
    assert capfd.readouterr() == ("", ""), "no progress of transformers"
    tokens = AutoTokenizer.from_pretrained(folder).tokenize("planet")
    print(tokens)
    assert len(tokens) < len("planet")
    assert AutoModel.from_pretrained(folder).config.num_hidden_layers == 2


def test_an_unknown_kind_names_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"model 'tiny:gpt': there are tiny:bert, tiny:modernbert"):
        build_tiny_model("tiny:gpt", tmp_path / "x", Planets())
