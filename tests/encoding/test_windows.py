"""Windows cover the text, keep their room, overlap, and end at sentences where there are any."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from crossrank.encoding.windows import split_into_windows


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return word_tokenizer()


def word_tokenizer() -> Tokenizer:
    """One token a word or mark, none for white space."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def test_a_window_ends_at_the_last_sentence_that_fits(words):
    text = "One two three. Four five six. Seven eight nine. Ten eleven twelve."  # 4 tokens a sentence
    windows = split_into_windows(text, words, room=12)  # 10 usable
    assert [text[a:b] for a, b in windows] == [
        "One two three. Four five six.",
        "Seven eight nine. Ten eleven twelve.",
    ]


def test_without_sentences_windows_overlap_by_an_eighth(words):
    text = " ".join(f"w{i}" for i in range(40))
    windows = [text[a:b].split() for a, b in split_into_windows(text, words, room=18)]  # 16 usable, 2 shared
    assert [(w[0], w[-1], len(w)) for w in windows] == [("w0", "w15", 16), ("w14", "w29", 16), ("w28", "w39", 12)]


def test_chinese_sentences_are_borders_without_white_space(tiny_checkpoint):
    tokenizer = Tokenizer.from_file(str(tiny_checkpoint("bert") / "tokenizer.json"))
    text = "火星是红色的。" * 6
    assert all(text[a:b].endswith("。") for a, b in split_into_windows(text, tokenizer, room=18))


@pytest.mark.parametrize(("text", "expected"), [("", [(0, 0)]), ("   \n", [(0, 0)]), ("word", [(0, 4)])])
def test_texts_of_at_most_one_token(text, expected, words):
    assert split_into_windows(text, words, room=1) == expected


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(alphabet="ab .!?\n。é", max_size=400),
    room=st.integers(min_value=1, max_value=40),
)
def test_windows_cover_every_token_in_order_and_keep_their_room(text, room):
    tokenizer = word_tokenizer()
    tokens = tokenizer.encode(text).offsets
    windows = split_into_windows(text, tokenizer, room=room)
    assert all(any(a <= start and end <= b for a, b in windows) for start, end in tokens)
    assert [a for a, _ in windows] == sorted({a for a, _ in windows})
    assert all(len(tokenizer.encode(text[a:b]).ids) <= room for a, b in windows)
