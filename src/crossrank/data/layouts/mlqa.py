"""MLQA: questions in one of seven languages on paragraphs in one of seven; 42 pairs cross a border.

A pair is written as MLQA writes it, paragraphs first: in `"ar.en"` English questions are asked on Arabic paragraphs.

Source: MLQA's README (SQuAD JSON, files `SPLIT-context-AR-question-EN.json`), hub data sets facebook/mlqa and
google/xtreme (a table a pair, `mlqa.ar.en`, with a question and its paragraph a row), and mteb/MLQARetrieval, whose
tables `ara-eng-*` hold the same pair: their paragraphs are Arabic (mteb's statistics of lengths tell).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from crossrank.data.layouts import mteb
from crossrank.data.layouts.contents import Contents
from crossrank.data.tables import Row, Tables
from crossrank.data.text import reading
from crossrank.errors import DataError, InputError
from crossrank.types import Document

LANGUAGES = {"ar": "ara", "de": "deu", "en": "eng", "es": "spa", "hi": "hin", "vi": "vie", "zh": "zho"}
CROSS_PAIRS = tuple(f"{context}.{question}" for context in LANGUAGES for question in LANGUAGES if context != question)


def read(source: str | Path, *, config: str | None, split: str, revision: str | None) -> Contents:
    """Read one pair; the corpus is the paragraphs that the pair's own file or table holds.

    Args:
        source: A folder with MLQA's JSON files, or a folder or hub name with a table a pair or mteb's tables.
        config: The pair, as in `"ar.en"`.
        split: `"dev"` or `"test"`.
        revision: Branch, tag or commit on the hub.

    Raises:
        InputError: If the pair is not one of MLQA's.
        DataError: If a file is missing or bad.
    """
    context, _, question = (config or "").partition(".")
    if context not in LANGUAGES or question not in LANGUAGES:
        raise InputError(f"name a pair of {', '.join(LANGUAGES)}, paragraphs first, as in 'ar.en', not {config!r}")
    folder = Path(source).expanduser()
    name = f"{split}-context-{context}-question-{question}.json"
    for file in (folder / "MLQA_V1" / split / name, folder / split / name):
        if file.is_file():
            return _read_squad(file)
    in_tables, pair = "validation" if split == "dev" else split, f"{LANGUAGES[context]}-{LANGUAGES[question]}"
    tables = Tables(source, revision=revision)
    if not tables.splits(f"{pair}-qrels"):
        for config in (f"mlqa.{context}.{question}", f"MLQA.{context}.{question}"):
            if tables.splits(config):
                return _read_rows(tables.rows(config, in_tables))
    return mteb.read(source, config=pair, split=in_tables, revision=revision)


def _read_rows(rows: Iterable[Row]) -> Contents:
    """Read a question a row, with its paragraph; one that comes twice is one document."""
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    documents: dict[str, Document] = {}
    for row in rows:
        text = row.text("context")
        document = documents.setdefault(text, Document(text, title=row.first("title") or None, id=f"p{len(documents)}"))
        queries[row.key("id")] = row.text("question")
        qrels[row.key("id")] = {str(document.id): 1}
    return Contents(queries, qrels, documents.values())


def _read_squad(file: Path) -> Contents:
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    documents: dict[str, Document] = {}
    try:
        with reading(str(file)):
            articles = json.loads(file.read_text(encoding="utf-8"))["data"]
        for document, questions in _paragraphs(articles):
            # A paragraph that comes twice is one document.
            document = documents.setdefault(document.text, document)
            for question in questions:
                queries[question["id"]] = question["question"]
                qrels[question["id"]] = {str(document.id): 1}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"not in SQuAD's JSON format: {error!r}", path=file) from error
    return Contents(queries, qrels, documents.values())


def _paragraphs(articles: list[dict[str, Any]]) -> Iterator[tuple[Document, list[dict[str, Any]]]]:
    for a, article in enumerate(articles):
        for p, paragraph in enumerate(article["paragraphs"]):
            yield Document(paragraph["context"], title=article["title"], id=f"a{a}p{p}"), paragraph["qas"]
