"""Vocabularies of tiny tokenizers, the same in every run: the trainers of WordPiece and Unigram number at random."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def wordpiece_vocabulary(texts: Sequence[str], special: list[str]) -> dict[str, int]:
    """Every word, every letter and some ends of words."""
    from tokenizers import normalizers, pre_tokenizers

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = {word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
    letters = {letter for word in words for letter in word}
    pieces = words | letters | {f"##{letter}" for letter in letters} | {f"##{word[-3:]}" for word in words}
    return {piece: i for i, piece in enumerate([*special, *sorted(pieces)])}


def unigram_vocabulary(texts: Sequence[str], special: list[str]) -> list[tuple[str, float]]:
    """Every word and every letter, with the logarithm of how often they come."""
    from tokenizers import pre_tokenizers

    splitter = pre_tokenizers.Metaspace()
    words = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    letters = Counter(letter for word in words for letter in word)
    counts = words + letters
    return [(token, 0.0) for token in special] + [
        (piece, math.log(count / counts.total())) for piece, count in sorted(counts.items())
    ]
