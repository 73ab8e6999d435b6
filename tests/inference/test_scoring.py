"""Windows of pairs: any number of pairs, in order, each once, with progress."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer

from crossrank.encoding.pairs import PairEncoder
from crossrank.errors import InputError, NumericalError
from crossrank.inference import scoring
from crossrank.inference.scoring import score_pairs


class LengthEngine:
    """Scores a pair by its number of tokens."""

    name, device, precision = "fake", "cpu", "float32"

    def logits(self, encoded):
        return encoded.lengths.astype(np.float32)[:, None]


@pytest.fixture
def encoder(tiny_checkpoint) -> PairEncoder:
    return PairEncoder(Tokenizer.from_file(str(tiny_checkpoint("bert") / "tokenizer.json")), max_length=32)


@pytest.mark.parametrize("num_pairs", [1, 9, 10, 11, 35])
def test_windows_keep_the_order(num_pairs, encoder, monkeypatch):
    monkeypatch.setattr(scoring, "WINDOW_PAIRS", 10)
    pairs = [("Mars", "Mars " * (i % 7)) for i in range(num_pairs)]
    done = []
    scored = score_pairs(pairs, encoder=encoder, engine=LengthEngine(), on_progress=done.append)
    assert scored.logits[:, 0].tolist() == encoder.encode(pairs).lengths.tolist()
    assert sum(done) == num_pairs


def test_equal_pairs_are_computed_once_and_score_the_same(encoder):
    class Counting(LengthEngine):
        computed = 0

        def logits(self, encoded):
            self.computed += len(encoded)
            return np.arange(len(encoded), dtype=np.float32)[:, None]

    engine = Counting()
    pairs = [("Mars", "red"), ("Mars", "bread"), ("Mars", "red"), ("red", "Mars"), ("Mars", "red")]
    assert score_pairs(pairs, encoder=encoder, engine=engine).logits[:, 0].tolist() == [0, 1, 0, 2, 0]
    assert engine.computed == 3


def test_an_error_in_a_later_window_is_raised(encoder, monkeypatch):
    monkeypatch.setattr(scoring, "WINDOW_PAIRS", 2)
    with pytest.raises(InputError, match="not valid Unicode"):
        score_pairs([("a", "b")] * 5 + [("a", "\ud800")], encoder=encoder, engine=LengthEngine())


def test_the_pair_that_is_not_finite_is_named_across_windows(encoder, monkeypatch):
    monkeypatch.setattr(scoring, "WINDOW_PAIRS", 2)

    class Broken(LengthEngine):
        def logits(self, encoded):
            return np.where(encoded.lengths[:, None] > 10, np.inf, 0).astype(np.float32)

    pairs = [("a", "b")] * 4 + [("a", "Mars " * 20)]
    with pytest.raises(NumericalError, match="for pair 4"):
        score_pairs(pairs, encoder=encoder, engine=Broken())
