"""Tables of queries and page images, as ColPali's training set and the sets of ViDoRe have them.

Either one table with a query and its page a row, in Parquet or JSON lines:

    {"query": "...", "image": {"bytes": ...}, "image_filename": "report.pdf/page_12.jpg"}
    {"query": "...", "image": "pages/12.png", "doc_id": "report", "text": "what OCR has read"}

(and maybe a `label`, 0 for a page that does not answer the query), or three, `queries`, `corpus` and `qrels`, joined by
`query-id` and `corpus-id` (or `query_id` and `corpus_id`). A row without a query is a page that is a negative alone.

Source: the dataset cards of vidore/colpali_train_set, vidore/*_v2 and vidore/vidore_v3_* on the hub.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crossrank.data.groups.config import SourceConfig
from crossrank.data.groups.corpus_index import CorpusIndex
from crossrank.data.groups.grouping import Grouper
from crossrank.data.groups.inline import QUERY_KEYS, finite, query_id
from crossrank.data.groups.report import UnknownId
from crossrank.data.groups.sampling import hash_text
from crossrank.data.groups.store_writer import Entry, StoreWriter
from crossrank.data.hub import dataset_folder
from crossrank.data.layouts.tabular import DOCUMENT_KEYS, read_qrels, read_queries
from crossrank.data.records import json_kind
from crossrank.data.tables import Row, Tables, read_table
from crossrank.errors import DataError, InputError
from crossrank.types import Document

SCHEME = "hf://"
# Where the only table of a data set stands.
_CONFIGS = ("default", "data", ".")
# Without one, every query is answered by its page.
_LABEL_KEYS = ("label", "grade", "relevance")
_TEXT_KEYS = ("text", "markdown", "ocr")
_ID_KEYS = ("page_id", "_id", "id", *DOCUMENT_KEYS, "image_filename")


def read_pages(source: SourceConfig, writer: StoreWriter) -> None:
    """Write a group for every query of a table of pages.

    Raises:
        DataError: If a table is missing or cannot be read.
    """
    split = source.split or "train"
    if Path(source.path).is_file():
        _read_flat(read_table(Path(source.path)), writer)
        return
    tables = Tables(source.path.removeprefix(SCHEME))
    if tables.splits("corpus"):
        _read_joined(tables, split, source.path, writer)
        return
    config = next((name for name in _CONFIGS if tables.splits(name)), None)
    if config is None:
        raise DataError("no table of pages, nor corpus, queries and qrels", path=source.path)
    _read_flat(tables.rows(config, split), writer)


def find_pages(path: str) -> Path:
    """Return the folder of the head of a data set of the hub, which is named by its commit.

    Raises:
        DataError: If there is none.
    """
    return dataset_folder(path.removeprefix(SCHEME), patterns=["README.md"])


def page_files(path: Path) -> list[Path]:
    """Return the files that a file or a folder of pages is read from."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def has_page_columns(columns: list[str]) -> bool:
    """Return whether these are the columns of a table with a query and its page a row."""
    return "image" in columns and any(key in columns for key in QUERY_KEYS)


def _read_flat(rows: Iterator[Row], writer: StoreWriter) -> None:
    """Write the groups of a table with a query and its page a row; queries of one text have several pages."""
    groupers: dict[str, Grouper] = {}
    pages: dict[int, Entry] = {}
    for row in rows:
        try:
            entry = _page(row, writer, pages)
            query = row.first(*QUERY_KEYS)
            if query is None:
                continue
            if not isinstance(query, str):
                raise InputError(f"the query must be a string, not {json_kind(query)}")
            if row.file not in groupers:
                groupers[row.file] = Grouper(writer, row.file)
            grade = finite(1.0 if (label := row.first(*_LABEL_KEYS)) is None else label, "the label")
            groupers[row.file].add(query_id(row.values), query, (entry._replace(grade=grade),), row.number)
        except InputError as error:
            writer.problems.add_row(error, row.file, row.number)
    for grouper in groupers.values():
        grouper.write(merge=True)


def _page(row: Row, writer: StoreWriter, pages: dict[int, Entry]) -> Entry:
    """Write the page of a row, unless it was written before."""
    document = _document(row, writer)
    key = hash_text(f"{writer.images.content_key(document.image)} {document.id} {document.text}")
    if key not in pages:
        pages[key] = writer.add_document(document)
    return pages[key]


def _document(row: Row, writer: StoreWriter) -> Document:
    value, text = row.first("image"), row.first(*_TEXT_KEYS)
    if value is None:
        raise InputError(f"no 'image' among the fields ({', '.join(map(repr, row.values))})")
    name = row.first(*_ID_KEYS)
    return Document(
        text if isinstance(text, str) else "",
        id=None if name is None else str(name),
        metadata=row.values,
        image=writer.images.find(value, Path(row.file).parent),
    )


def _read_joined(tables: Tables, split: str, name: str, writer: StoreWriter) -> None:
    queries, _ = read_queries(tables.rows("queries", split))
    corpus = CorpusIndex(writer, name)
    for row in tables.rows("corpus", split):
        try:
            corpus.add(_document(row, writer), row.number)
        except InputError as error:
            writer.problems.add_row(error, row.file, row.number)
    corpus.finish()
    grouper = Grouper(writer, name)
    for number, (key, grades) in enumerate(read_qrels(tables.rows("qrels", split)).items(), start=1):
        try:
            if key not in queries:
                raise UnknownId(f"query {key!r} is not among the queries")
            entries = tuple(corpus.entry(page)._replace(grade=float(grade)) for page, grade in grades.items())
            grouper.add(key, queries[key], entries, number)
        except InputError as error:
            writer.problems.add_row(error, name, number)
    grouper.write(merge=True)
