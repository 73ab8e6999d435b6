from __future__ import annotations

from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from crossrank.llm.tokens import cut, estimate_tokens, tokens_of

ENGLISH = (
    "Photosynthesis is a system of biological processes by which organisms convert light energy into the chemical "
    "energy necessary to fuel their metabolism, in 2024 as in 1900. "
)


@pytest.fixture(scope="module")
def tokenizer():
    path = files("crossrank") / "assets" / "crossrank-mini-en-v1" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@given(st.text(max_size=200), st.integers(1, 30))
def test_a_cut_is_a_beginning_within_the_limit(text, limit):
    kept = cut(text, limit, estimate_tokens)
    assert text.startswith(kept) and len(estimate_tokens(kept)) <= limit
    assert kept == text or len(estimate_tokens(kept)) == limit


def test_with_a_tokenizer_the_limit_is_exact(tokenizer):
    kept = cut(ENGLISH * 50, 37, tokens_of(tokenizer))
    assert len(tokenizer.encode(kept, add_special_tokens=False).ids) == 37


@pytest.mark.parametrize("text", [ENGLISH, "Привет, как дела? ", "今日はいい天気です。", "x = [1, 2, 3]; # ok "])
def test_the_estimate_is_cautious_but_not_by_far(tokenizer, text):
    estimated, real = len(estimate_tokens(text * 20)), len(tokens_of(tokenizer)(text * 20))
    assert real <= estimated <= 4 * real


def test_a_huge_document_costs_no_more_than_its_beginning():
    text = "word " * 2_000_000
    assert len(cut(text, 300, estimate_tokens)) == 1499 or len(cut(text, 300, estimate_tokens)) < 2000
