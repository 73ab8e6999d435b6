"""Published data sets by layout and name: read once into a BEIR folder of the cache, and opened from there.

A corpus of millions of documents is then searched on disk, an image is a file, and a second evaluation starts at once.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from crossrank.data.beir import open_beir, queries_are_documents
from crossrank.data.beir_writer import CANDIDATES_FILE, write_beir
from crossrank.data.evaluation_set import EvaluationSet
from crossrank.data.layouts import beir, miracl, mldr, mlqa, mteb, nanobeir, techqa, vidore, xquad
from crossrank.data.layouts.contents import Contents
from crossrank.data.text import reading
from crossrank.errors import DataError, InputError
from crossrank.types import Document

# Raised when what is written changes, so that folders of older versions are not opened.
_FORMAT = 2


class _Reader(Protocol):
    def __call__(self, source: str | Path, *, config: str | None, split: str, revision: str | None) -> Contents: ...


# The reader of each layout, and the split that its published figures are of.
LAYOUTS: dict[str, tuple[_Reader, str]] = {
    "beir": (beir.read, "test"),
    "mteb": (mteb.read, "test"),
    "nanobeir": (nanobeir.read, "test"),
    "vidore": (vidore.read, "test"),
    "miracl": (miracl.read, "dev"),
    "mldr": (mldr.read, "test"),
    "mlqa": (mlqa.read, "test"),
    "techqa": (techqa.read, "dev"),
    "xquad": (xquad.read, "dev"),
}
# Layouts whose candidates stand in the order of their retriever.
_RANKED = ("nanobeir",)
_CONFIGS = {"mlqa": mlqa.CROSS_PAIRS, "xquad": xquad.POOLS}


@dataclass(frozen=True)
class PublishedSet:
    """Where a data set is found, and which part of it is meant.

    Attributes:
        layout: One of `LAYOUTS`.
        source: A folder, or a name on the hub.
        config: The language, pair or set inside, where there are several.
        split: The split; the layout's own where None.
        query_language: Only the queries of this language, in the spelling of the set; all where None.
        language: For tables, as in `EvaluationSet`.
        family: For tables by language: what the sets that differ in their languages alone have in common.
        revision: Branch, tag or commit on the hub. What was read from a branch is not read again when it moves.
        queries_are_documents: The queries are documents of the corpus too, and must not find themselves.
        name: For tables; made of the source and the parts where None.
    """

    layout: str
    source: str
    config: str | None = None
    split: str | None = None
    query_language: str | None = None
    language: str | None = None
    family: str | None = None
    revision: str | None = None
    queries_are_documents: bool = False
    name: str | None = None

    @property
    def title(self) -> str:
        """What tables call it."""
        parts = (self.source.rstrip("/").rpartition("/")[2], self.config, self.query_language)
        return self.name or "-".join(part for part in parts if part)


def parse_published(text: str, *, split: str | None = None) -> list[PublishedSet]:
    """Return the sets that `LAYOUT:SOURCE[:CONFIG]` names; none where the text does not begin with a layout.

    Without a config, MLQA stands for its 42 pairs that cross a border, and xquad for all its pools.

    Raises:
        InputError: If no source is named.
    """
    layout, colon, rest = text.partition(":")
    if not colon or layout not in LAYOUTS:
        return []
    source, _, config = rest.partition(":")
    if not source:
        raise InputError(f"{text!r} names no source: write {layout}:FOLDER or {layout}:HUB/NAME")
    are_documents = queries_are_documents(source.rstrip("/").rpartition("/")[2], config)
    configs = [config] if config else [*(_CONFIGS.get(layout) or [""])]
    return [
        _described(PublishedSet(layout, source, config or None, split, queries_are_documents=are_documents))
        for config in configs
    ]


def _described(published: PublishedSet) -> PublishedSet:
    """Return the set with the language that its config tells."""
    config = published.config or ""
    language, family = None, published.layout
    if published.layout == "vidore" and config:
        # Its pages are read once for all languages, and stand in the cache once.
        family = replace(published, config=None).title
        stated = next((name for name, code in vidore.LANGUAGES.items() if code == config), config)
        asked, pages = vidore.LANGUAGES.get(stated, stated), vidore.language_of_pages(family)
        language = asked if asked == pages else f"{asked}-{pages}"
        published = replace(published, config=None, query_language=stated)
    elif published.layout == "mlqa":
        language = "-".join(reversed(config.split(".")))
    elif published.layout == "xquad":
        language, family = xquad.language_of(config), xquad.pool_of(config)
    elif re.fullmatch("[a-z]{2}", config):
        language = config
    return replace(published, language=language, family=family if language else None)


@contextmanager
def open_published(
    published: PublishedSet, *, cache: Path | None = None, on_progress: Callable[[int], None] | None = None
) -> Iterator[EvaluationSet]:
    """Open a published data set; the first time it is read into the cache.

    Args:
        published: Which one.
        cache: Where the BEIR folders are kept; `cache_folder()` where None.
        on_progress: Called with the number of documents that have been read since the last call.

    Raises:
        InputError: If a part of it has to be named, or does not exist.
        DataError: If it cannot be found or read.
        MissingExtra: If its files are Parquet and pyarrow is not installed.
    """
    reader, default_split = LAYOUTS[published.layout]
    split = published.split or default_split
    folder = (cache or cache_folder()) / _folder_name(published, split)
    if not folder.is_dir():
        contents = reader(published.source, config=published.config, split=split, revision=published.revision)
        if on_progress:
            contents = replace(contents, documents=_counted(contents.documents, on_progress))
        write_beir(contents, folder, split=contents.split or split, source=published.source)
    (judged,) = folder.glob("qrels/*.tsv")
    with open_beir(folder, split=judged.stem, name=published.title) as data:
        data = replace(
            data,
            candidates=_read_candidates(folder),
            language=published.language,
            queries_are_documents=published.queries_are_documents,
            candidates_are_ranked=published.layout in _RANKED,
        )
        yield _in_language(data, folder, published.query_language) if published.query_language else data


def cache_folder() -> Path:
    """Return where data sets are kept: `$CROSSRANK_CACHE`, or `crossrank` in the user's cache folder."""
    stated = os.environ.get("CROSSRANK_CACHE")
    if stated:
        return Path(stated) / "datasets"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossrank" / "datasets"


def _folder_name(published: PublishedSet, split: str) -> str:
    """Return a name that is readable, and another one whenever the files or the part of them are others."""
    parts = [_FORMAT, published.layout, published.source, published.config, split, published.revision]
    root = Path(published.source).expanduser()
    if root.is_dir():
        parts[2] = str(root.resolve())
        files = (path for path in sorted(root.rglob("*")) if path.is_file())
        parts += [(str(path.relative_to(root)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = blake2b(json.dumps(parts).encode("utf-8"), digest_size=6).hexdigest()
    readable = "-".join(part for part in (published.layout, root.name, published.config, split) if part)
    return f"{readable}-{digest}"


def _counted(documents: Iterable[Document], on_progress: Callable[[int], None]) -> Iterator[Document]:
    for document in documents:
        yield document
        on_progress(1)


def _read_candidates(folder: Path) -> dict[str, list[str]] | None:
    file = folder / CANDIDATES_FILE
    if not file.is_file():
        return None
    with reading(str(file)), file.open(encoding="utf-8") as stream:
        return {record["query-id"]: record["corpus-ids"] for record in map(json.loads, stream)}


def _in_language(data: EvaluationSet, folder: Path, language: str) -> EvaluationSet:
    """Return the set with the queries of one language."""
    with (folder / "queries.jsonl").open(encoding="utf-8") as stream:
        languages = {record["_id"]: record.get("language") for record in map(json.loads, stream)}
    qrels = {query_id: grades for query_id, grades in data.qrels.items() if languages[query_id] == language}
    if not qrels:
        found = sorted({str(found) for found in languages.values() if found}) or ["no language"]
        raise DataError(f"no query in {language!r}: the queries state {', '.join(found)}", path=folder)
    return replace(data, qrels=qrels)
