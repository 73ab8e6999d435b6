"""Fixtures for the engines: encoded pairs of a checkpoint folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from crossrank.encoding.pairs import EncodedPairs, PairEncoder
from crossrank.models.checkpoint import load_tokenizer, open_checkpoint

# A busy machine must not fail a property.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def encode() -> Callable[[Path, Sequence[tuple[str, str]]], EncodedPairs]:
    """Encode pairs as a checkpoint does, at most 128 tokens each."""

    def encode_pairs(folder: Path, pairs: Sequence[tuple[str, str]]) -> EncodedPairs:
        return PairEncoder(load_tokenizer(open_checkpoint(folder, label=0)), max_length=128).encode(pairs)

    return encode_pairs
