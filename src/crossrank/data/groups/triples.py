"""MS MARCO triples: lines of `query`, `positive`, `negative` with tabs, as texts or as ids.

Lines of one query become one group, wherever they stand: its positives and its negatives, each once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crossrank.data.groups.config import SourceConfig
from crossrank.data.groups.corpus_index import CorpusIndex
from crossrank.data.groups.grouping import Grouper
from crossrank.data.groups.report import Kind, UnknownId
from crossrank.data.groups.store import text_key
from crossrank.data.groups.store_writer import Entry, StoreWriter
from crossrank.data.text import display_name, read_lines
from crossrank.errors import InputError
from crossrank.types import Document


def read_triples(source: SourceConfig, writer: StoreWriter) -> None:
    """Write the groups of a file of triples.

    Raises:
        DataError: If a file cannot be read.
        InputError: If only one of `queries` and `collection` is given, or none of them for what are ids.
    """
    if (source.queries is None) != (source.collection is None):
        raise InputError(f"{source.path}: triples of ids need both 'queries' and 'collection'")
    name = display_name(source.path)
    lookup = _Texts(writer) if source.queries is None else _Ids(source, writer)
    grouper = Grouper(writer, name)
    are_numbers = True
    for line, (query, positive, negative) in _fields(Path(source.path), 3, writer):
        are_numbers = are_numbers and all(field.isdecimal() for field in (query, positive, negative))
        try:
            query_id, text = lookup.query(query)
            entries = (lookup.document(positive)._replace(grade=1.0), lookup.document(negative))
        except InputError as error:
            writer.problems.add_row(error, name, line)
            continue
        grouper.add(query_id, text, entries, line)
    if are_numbers and source.queries is None and len(grouper):
        raise InputError(f"{source.path}: every field is a number: triples of ids need 'queries' and 'collection'")
    grouper.write(merge=True)


class _Texts:
    """Triples of texts; each text is stored once."""

    def __init__(self, writer: StoreWriter) -> None:
        self._writer = writer
        self._entries: dict[int, Entry] = {}

    def query(self, text: str) -> tuple[str | None, str]:
        return None, text

    def document(self, text: str) -> Entry:
        key = text_key(text)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = self._writer.add_document(Document(text))
        return entry


class _Ids:
    """Triples of ids: the texts are in the TSV files of the queries and of the collection."""

    def __init__(self, source: SourceConfig, writer: StoreWriter) -> None:
        assert source.queries is not None
        assert source.collection is not None
        self._queries = {fields[0]: fields[1] for _, fields in _fields(Path(source.queries), 2, writer)}
        self._corpus = CorpusIndex(writer, display_name(source.collection))
        for line, (document_id, text) in _fields(Path(source.collection), 2, writer):
            self._corpus.add(Document(text, id=document_id), line)
        self._corpus.finish()

    def query(self, query_id: str) -> tuple[str | None, str]:
        if query_id not in self._queries:
            raise UnknownId(f"query {query_id!r} is not among the queries")
        return query_id, self._queries[query_id]

    def document(self, document_id: str) -> Entry:
        return self._corpus.entry(document_id)


def _fields(path: Path, count: int, writer: StoreWriter) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each line, which tabs separate, with its number; lines with others are reported."""
    name = display_name(path)
    for line in read_lines(path):
        fields = [field.strip() for field in line.text.rstrip("\r\n").split("\t")]
        if line.error:
            writer.problems.add(Kind.malformed, line.error.message, name, line.number)
        elif len(fields) == count:
            yield line.number, fields
        elif fields != [""]:
            message = f"{len(fields)} fields with tabs between them, {count} are expected"
            writer.problems.add(Kind.malformed, message, name, line.number)
