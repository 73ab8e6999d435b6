"""Queries made from documents: what the collections' own queries lack, long descriptions and bare keywords.

A span of a document asks for the rest of it (the inverse cloze task; Source: arXiv 1906.00300), the way people describe
a symptom or paste a paragraph. Keywords are a few rare words of the document. Neither is a judgement: the teacher's
scores say how near the other candidates are.
"""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np

SPAN_WORDS = (12, 60)  # shortest and longest span
REST_WORDS = 25  # a document must keep as many
LEADING_SHARE = 0.5  # spans that are the beginning of their document, as symptoms and abstracts are
NUM_KEYWORDS = (2, 5)
WORD = re.compile(r"[^\W\d_]{3,}")


def span_query(text: str, rng: np.random.Generator) -> tuple[str, str] | None:
    """Return a span of the text and the text without it; None where the text is too short for both."""
    words = text.split()
    longest = min(SPAN_WORDS[1], len(words) - REST_WORDS)
    if longest < SPAN_WORDS[0]:
        return None
    length = int(rng.integers(SPAN_WORDS[0], longest + 1))
    start = 0 if rng.random() < LEADING_SHARE else int(rng.integers(0, len(words) - length + 1))
    return " ".join(words[start : start + length]), " ".join(words[:start] + words[start + length :])


class Keywords:
    """A corpus' words and how rare they are."""

    def __init__(self, texts: list[str]) -> None:
        frequencies = Counter(word for text in texts for word in set(WORD.findall(text.lower())))
        # A word of one document alone would give the answer away; nothing else could compete.
        self.rarity = {word: math.log(len(texts) / count) for word, count in frequencies.items() if count > 1}

    def query(self, text: str, rng: np.random.Generator) -> str | None:
        """Return a few words of the text, rare ones more often, in their order; None where it has too few."""
        words = [w for w in dict.fromkeys(WORD.findall(text.lower())) if self.rarity.get(w, 0.0) > 0]
        if len(words) < NUM_KEYWORDS[1]:
            return None
        weights = np.array([self.rarity[w] ** 3 for w in words])  # mostly the words that people would search for
        count = int(rng.integers(NUM_KEYWORDS[0], NUM_KEYWORDS[1] + 1))
        chosen = rng.choice(len(words), count, replace=False, p=weights / weights.sum())
        return " ".join(words[i] for i in sorted(chosen))
