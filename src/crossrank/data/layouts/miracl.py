"""MIRACL: topics and TREC judgements a language, and the Wikipedia passages of the language beside them.

Source: hub data sets miracl/miracl and miracl/miracl-corpus.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crossrank.data.hub import dataset_folder
from crossrank.data.layouts.contents import Contents
from crossrank.data.qrels import read_qrels
from crossrank.data.records import read_json_objects
from crossrank.data.tables import Row
from crossrank.data.text import display_name, read_lines
from crossrank.errors import DataError, InputError
from crossrank.types import Document


def read(source: str | Path, *, config: str | None, split: str, revision: str | None) -> Contents:
    """Read one language over all of its passages, up to 33 million; mteb's MIRACL sets are the small ones.

    Args:
        source: `miracl/miracl` on the hub, whose passages are in `miracl/miracl-corpus`, or a folder with the trees of
            both, or beside a folder of the other's name.
        config: The language, as in `"en"`.
        split: `"train"` or `"dev"`.
        revision: Of the topics and judgements on the hub: branch, tag or commit.

    Raises:
        InputError: If no language is named.
        DataError: If a file is missing or bad.
    """
    if not config:
        raise InputError(f"{source} holds 18 languages: name one, as in 'en'")
    tree, passages = f"miracl-v1.0-{config}", f"miracl-corpus-v1.0-{config}"
    topics = f"{tree}/topics/topics.miracl-v1.0-{config}-{split}.tsv"
    judged = f"{tree}/qrels/qrels.miracl-v1.0-{config}-{split}.tsv"
    folder = dataset_folder(source, patterns=[topics, judged], revision=revision)
    corpus = folder
    if not (folder / passages).is_dir():
        corpus = dataset_folder(f"{str(source).rstrip('/')}-corpus", patterns=[f"{passages}/*.jsonl.gz"])
    files = sorted((corpus / passages).glob("*.jsonl.gz"))
    if not files:
        raise DataError("no passages (docs-*.jsonl.gz)", path=corpus / passages)
    queries = _topics(folder / topics)
    return Contents(queries, read_qrels(folder / judged, queries=queries), _passages(files))


def _topics(file: Path) -> dict[str, str]:
    topics: dict[str, str] = {}
    for line in read_lines(file):
        if line.error:
            raise line.error
        query_id, tab, text = line.text.strip().partition("\t")
        if query_id and not tab:
            raise DataError("a topic is an id, a tab and a text", path=display_name(file), line=line.number)
        if query_id:
            topics[query_id] = text
    return topics


def _passages(files: list[Path]) -> Iterator[Document]:
    for file in files:
        name = display_name(file)
        for line, record in read_json_objects(read_lines(file), name, None):
            row = Row(record, name, line.number)
            yield Document(row.text("text"), title=row.first("title") or None, id=row.key("docid"))
