"""xquad: the same questions and paragraphs in 12 languages, as BEIR folders, and two pools that cross the borders.

`x2en` asks in 11 languages over English paragraphs, `mixed` in 12 over the paragraphs in all 12, each of which is
relevant. The language stands before the id of a question, as in `"ar-a03p0q00"`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crossrank.data.beir import open_beir
from crossrank.data.layouts.contents import Contents
from crossrank.errors import InputError
from crossrank.types import Document

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh")
POOLS = (
    *LANGUAGES,
    *(f"x2en.{language}" for language in LANGUAGES if language != "en"),
    *(f"mixed.{language}" for language in LANGUAGES),
)
# The language of the paragraphs of a pool; "xx" stands for several.
_PARAGRAPHS = {"x2en": "en", "mixed": "xx"}


def read(source: str | Path, *, config: str | None, split: str, revision: str | None) -> Contents:
    """Read the questions of one language over one pool.

    Args:
        source: A folder with a folder a language, `x2en` and `mixed`.
        config: One of `POOLS`: `"de"`, or `"x2en.de"` or `"mixed.de"` for German questions over the two pools.
        split: The split.
        revision: Not read: there is no copy on the hub.

    Raises:
        InputError: If there is no such pool.
        DataError: If a file is missing or bad.
    """
    if config not in POOLS:
        raise InputError(f"xquad has no pool {config!r}: there are 'de', 'x2en.de', 'mixed.de', and so on")
    pool, _, language = config.rpartition(".")
    folder = Path(source).expanduser() / (pool or language)
    with open_beir(folder, split=split) as data:
        qrels = {query_id: grades for query_id, grades in data.qrels.items() if query_id.startswith(f"{language}-")}
        return Contents(data.queries, qrels, _documents(folder, split))


def language_of(config: str) -> str:
    """Return the languages of questions and paragraphs, as in `"de"`, `"de-en"`, and `"de-xx"` over several."""
    pool, _, language = config.rpartition(".")
    return f"{language}-{_PARAGRAPHS[pool]}" if pool else language


def pool_of(config: str) -> str:
    """Return what the sets of a table by language have in common."""
    pool, _, _ = config.rpartition(".")
    return f"xquad {pool}".strip()


def _documents(folder: Path, split: str) -> Iterator[Document]:
    with open_beir(folder, split=split) as data:
        yield from data.corpus
