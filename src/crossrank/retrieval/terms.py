"""Text to the terms of a lexical index: words, stemmed, or character n-grams where a script has no spaces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

from crossrank.errors import InputError, MissingExtra

# ISO 639-1 codes of the languages that Snowball has a stemmer for.
_SNOWBALL = {
    "ar": "arabic", "ca": "catalan", "da": "danish", "de": "german", "el": "greek", "en": "english", "es": "spanish",
    "et": "estonian", "eu": "basque", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian",
    "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch",
    "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish",
    "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
NO_STEMMER = "none"
# Han with its iteration marks, kana, Hangul: two characters, as Lucene's CJKAnalyzer cuts them.
_BIGRAM_SCRIPTS = "\u3005-\u3007\u3040-\u30ff\u3131-\u318e\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"  # noqa: E501
# Thai, Lao, Myanmar, Khmer: three, since a character is often a vowel sign of the one before.
_TRIGRAM_SCRIPTS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"


class TermSplitter:
    """The terms of a text, in lower case.

    A word is a run of letters, digits and marks. The language decides its stemmer; English also leaves out Lucene's
    stop words (in other languages that gained nothing: `docs/log.md`). Scripts that do without spaces between words are
    cut into overlapping bigrams (Chinese, Japanese, also Korean) or trigrams (Thai, Lao, Burmese, Khmer), whatever the
    language.

    Args:
        language: An ISO 639-1 code or the English name of a language, as in `"de"` or `"german"`; `"none"`, or a
            language without a stemmer, given by its code, keeps every word as it is.

    Raises:
        InputError: If the language is neither a code nor known by its name.
        MissingExtra: If bm25s or PyStemmer is not installed.
    """

    def __init__(self, language: str = "english") -> None:
        self.language = _snowball_name(language)
        self._stemmer, self._stopwords = _load(self.language)
        self._find_runs = _pattern().finditer

    def split(self, text: str) -> list[str]:
        """Return the words in the order of the text, then the n-grams; each as often as it is there."""
        terms: list[str] = []
        words: list[str] = []
        for run in self._find_runs(unicodedata.normalize("NFKC", text).lower()):
            if run.lastgroup == "word":
                words.append(run.group())
            else:
                size = 2 if run.lastgroup == "bigrams" else 3
                terms += _ngrams(run.group(), size)
        return self._stem([word for word in words if word not in self._stopwords]) + terms

    def _stem(self, words: list[str]) -> list[str]:
        return words if self._stemmer is None else list(self._stemmer.stemWords(words))


def _ngrams(text: str, size: int) -> Sequence[str]:
    return [text[at : at + size] for at in range(max(1, len(text) - size + 1))]


@cache
def _pattern() -> re.Pattern[str]:
    """Runs of one kind of script; combining marks count as letters, since Hindi and Arabic words are full of them."""
    marks = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)) in ("Mn", "Mc"))
    spaced = rf"(?:(?![{_BIGRAM_SCRIPTS}{_TRIGRAM_SCRIPTS}])[\w{marks}])"
    return re.compile(rf"(?P<word>{spaced}+)|(?P<bigrams>[{_BIGRAM_SCRIPTS}]+)|(?P<trigrams>[{_TRIGRAM_SCRIPTS}]+)")


def _snowball_name(language: str) -> str:
    name = language.strip().lower()
    if name in _SNOWBALL:
        return _SNOWBALL[name]
    if name in _SNOWBALL.values():
        return name
    if name == NO_STEMMER or re.fullmatch("[a-z]{2}", name):
        return NO_STEMMER
    raise InputError(
        f"language {language!r} is not known: give a two-letter code, {NO_STEMMER!r}, or one of "
        f"{', '.join(sorted(_SNOWBALL.values()))}"
    )


def _load(language: str) -> tuple[Any, frozenset[str]]:
    """Return stemmer, None where there is none, and stop words of a language."""
    try:
        import Stemmer
        from bm25s.stopwords import STOPWORDS_EN
    except ImportError:
        raise MissingExtra("BM25", extra="mine") from None
    if language == NO_STEMMER:
        return None, frozenset()
    return Stemmer.Stemmer(language), frozenset(STOPWORDS_EN if language == "english" else ())
