"""Windows over a document that is too long for the model: overlapping, and cut at ends of sentences."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from tokenizers import Tokenizer

# Where a window may end well: after the end of a sentence or of a line, also without white space (CJK).
SENTENCE_BORDER = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？｡])|\n+")
# A window shares this part of its room with the next one, so that what a border cuts in two is read whole once.
OVERLAP_SHARE = 8
# A window that is tokenised alone may take a token or two more than the same text inside its document.
SPARE_TOKENS = 2


def split_into_windows(text: str, tokenizer: Tokenizer, *, room: int) -> list[tuple[int, int]]:
    """Cut a text into windows of at most `room` tokens.

    Windows end at the last end of a sentence in their second half; where there is none, between two tokens. Each next
    window begins at a beginning of a sentence inside the last eighth of the window before, or there at a token.

    Args:
        text: The document, without its title.
        tokenizer: The checkpoint's tokenizer.
        room: Most tokens of a window.

    Returns:
        Half-open ranges of characters that together cover every token of the text, in order; one empty range for a
        text without tokens.
    """
    offsets = [o for o in tokenizer.encode(text, add_special_tokens=False).offsets if o[1] > o[0]]
    if not offsets:
        return [(0, 0)]
    starts = [start for start, _ in offsets]
    borders = _border_tokens(text, starts)
    size = max(1, room - SPARE_TOKENS)
    overlap = size // OVERLAP_SHARE
    windows: list[tuple[int, int]] = []
    begin = 0
    while True:
        end = min(begin + size, len(offsets))
        if end < len(offsets):
            end = _last_between(borders, begin + size // 2, end) or end
        windows.append((starts[begin], offsets[end - 1][1]))
        if end == len(offsets):
            return windows
        earliest = max(begin + 1, end - overlap)
        begin = _first_between(borders, earliest, end) or earliest


def _border_tokens(text: str, starts: Sequence[int]) -> list[int]:
    """Return the tokens that begin a sentence, ascending."""
    tokens = (bisect_left(starts, match.end()) for match in SENTENCE_BORDER.finditer(text))
    return sorted({token for token in tokens if 0 < token < len(starts)})


def _last_between(borders: list[int], low: int, high: int) -> int | None:
    """Return the last border in `(low, high]`, or None."""
    at = bisect_right(borders, high) - 1
    return borders[at] if at >= 0 and borders[at] > low else None


def _first_between(borders: list[int], low: int, high: int) -> int | None:
    """Return the first border in `[low, high]`, or None."""
    at = bisect_left(borders, low)
    return borders[at] if at < len(borders) and borders[at] <= high else None
