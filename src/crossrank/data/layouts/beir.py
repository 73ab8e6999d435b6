"""BEIR's own layout with the language of a set beside it, from a folder or the hub.

BM25 stems by the language, and tables by language name it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from crossrank.data.beir import open_beir
from crossrank.data.hub import dataset_folder
from crossrank.data.layouts.contents import Contents
from crossrank.errors import InputError
from crossrank.types import Document

_FILES = ("corpus.jsonl*", "queries.jsonl*", "qrels/*", "images/*")


def read(source: str | Path, *, config: str | None, split: str, revision: str | None) -> Contents:
    """Read one split of a collection.

    Args:
        source: A folder, or a name on the hub.
        config: The language of its texts, as in `"de"`; nothing of it is read from the files.
        split: The split.
        revision: Branch, tag or commit on the hub.

    Raises:
        InputError: If the config is no two-letter code.
        DataError: If a file is missing or bad.
    """
    if config and not re.fullmatch("[a-z]{2}", config):
        raise InputError(f"{config!r} is no language: of a BEIR folder the two-letter code is named, as in 'de'")
    folder = dataset_folder(source, patterns=_FILES, revision=revision)
    with open_beir(folder, split=split) as data:
        return Contents(data.queries, data.qrels, _documents(folder, split))


def _documents(folder: Path, split: str) -> Iterator[Document]:
    with open_beir(folder, split=split) as data:
        yield from data.corpus
