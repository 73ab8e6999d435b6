"""Tokens of a text: where each begins and ends, exactly with a tokenizer, otherwise by a cautious estimate."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

Spans = Sequence[tuple[int, int]]
FindTokens = Callable[[str], Spans]

# Up to 6 Latin letters with the space before them, up to 3 digits, or one character of anything else: on English text
# 1.06 to 1.31 times the tokens of a vocabulary of 30,000 (docs/log.md), so that what is cut by it fits.
_TOKEN = re.compile(r" ?[A-Za-z]{1,6}|\d{1,3}|\s+|.", re.DOTALL)


def estimate_tokens(text: str) -> Spans:
    """Return half-open ranges of characters that stand for tokens of an unknown vocabulary."""
    return [match.span() for match in _TOKEN.finditer(text)]


def tokens_of(tokenizer: Any) -> FindTokens:
    """Return the function that finds the tokens of a model, by its `tokenizers.Tokenizer`."""
    return lambda text: tokenizer.encode(text, add_special_tokens=False).offsets


def cut(text: str, limit: int, find: FindTokens) -> str:
    """Return the beginning of a text that holds at most `limit` tokens."""
    # No token is longer than this on average over a text: the rest of a huge document is not looked at.
    head = text[: limit * 64]
    spans = find(head)
    return head if len(spans) <= limit else head[: spans[limit - 1][1]]
