"""MLDR: questions on long documents in 13 languages, as lines of JSON in a folder a language.

Source: hub data set Shitao/MLDR.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crossrank.data.hub import dataset_folder
from crossrank.data.layouts.contents import Contents
from crossrank.data.records import read_json_objects
from crossrank.data.tables import Row
from crossrank.data.text import display_name, read_lines
from crossrank.errors import InputError
from crossrank.types import Document


def read(source: str | Path, *, config: str | None, split: str, revision: str | None) -> Contents:
    """Read one language, over its whole corpus: the negatives that come with a question are no candidates.

    Args:
        source: A folder, or a name on the hub.
        config: The language, as in `"en"`.
        split: `"train"`, `"dev"` or `"test"`.
        revision: Branch, tag or commit on the hub.

    Raises:
        InputError: If no language is named.
        DataError: If a file is missing or bad.
    """
    if not config:
        raise InputError(f"{source} holds 13 languages: name one, as in 'en'")
    names = [f"mldr-v1.0-{config}/{split}.jsonl.gz", f"mldr-v1.0-{config}/corpus.jsonl.gz"]
    questions, corpus = (dataset_folder(source, patterns=names, revision=revision) / name for name in names)
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for row in _rows(questions):
        query_id = row.key("query_id")
        queries[query_id] = row.text("query")
        qrels[query_id] = {_passage_id(passage, row): 1 for passage in row.first("positive_passages") or ()}
    documents = (Document(row.text("text"), id=row.key("docid")) for row in _rows(corpus))
    return Contents(queries, qrels, documents)


def _rows(file: Path) -> Iterator[Row]:
    name = display_name(file)
    for line, record in read_json_objects(read_lines(file), name, None):
        yield Row(record, name, line.number)


def _passage_id(passage: object, row: Row) -> str:
    if not isinstance(passage, dict):
        raise row.error("a positive passage is no object")
    return Row(passage, row.file, row.number).key("docid")
