"""Files of query and document pairs, cut into shards that can be read one by one.

A row is `{"query": ..., "document": ...}`, where the document is a text or an object with `text`, `title` and `image`;
or these stand beside the query. An image is a path in the file's folder or a data URL, and needs no text. `id`,
`query_id` and `document_id` are carried through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossrank.data.pages import attach_image
from crossrank.data.records import ID_KEYS, json_kind, parquet_records, read_json_objects
from crossrank.data.text import SkippedLines, decode_lines, display_name, open_binary, skip_or_raise
from crossrank.errors import DataError, InputError
from crossrank.types import Document

KINDS = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".parquet")
_TEXT_KEYS = ("document", "text")
# Two windows of the scorer; what an interrupt can cost.
SHARD_ROWS = 4096
# Of queries and texts together; some hundred megabytes at most, token ids included.
SHARD_CHARACTERS = 32_000_000


@dataclass(frozen=True)
class PairRow:
    """A pair and where it stands.

    Attributes:
        number: The line of a text file, or the row of a Parquet file, from 1.
        query: The text.
        document: With its title and its image, where it has them.
        ids: `id`, `query_id` and `document_id`, as far as the row has them.
    """

    number: int
    query: str
    document: Document
    ids: Mapping[str, str]


@dataclass(frozen=True)
class PairShard:
    """Consecutive rows of a file.

    Attributes:
        index: Which one of the file, from 0.
        first: The line or row that it starts with, from 1.
        last: The line or row of its last pair.
        offset: Where it starts, in bytes of the unpacked text file; 0 in Parquet files.
        num_pairs: Rows that can be read.
    """

    index: int
    first: int
    last: int
    offset: int
    num_pairs: int


def plan_shards(path: Path, *, skipped: SkippedLines | None = None) -> Iterator[PairShard]:
    """Read and check a whole file of pairs, and yield the shards that it falls into.

    Args:
        path: JSON lines, also packed with gzip, or Parquet.
        skipped: Bad rows are counted here and left out. Without it the first one is an error.

    Raises:
        DataError: If the file is missing, of another kind or cannot be read, or, without `skipped`, a row is bad.
        MissingExtra: If it is Parquet and pyarrow is not installed.
    """
    index = num_pairs = num_characters = first = last = start = 0
    for row, offset in _rows(path, first=1, offset=0, skipped=skipped):
        size = len(row.query) + len(row.document.text) + _length_of_image(row.document)
        if num_pairs and (num_pairs == SHARD_ROWS or num_characters + size > SHARD_CHARACTERS):
            yield PairShard(index, first, last, start, num_pairs)
            index, num_pairs, num_characters = index + 1, 0, 0
        if not num_pairs:
            first, start = row.number, offset
        num_pairs, num_characters, last = num_pairs + 1, num_characters + size, row.number
    if num_pairs:
        yield PairShard(index, first, last, start, num_pairs)


def read_shard(path: Path, shard: PairShard) -> list[PairRow]:
    """Return the pairs of a shard; rows that were bad when the shards were planned are left out.

    Raises:
        DataError: If the file cannot be read, or is not the one that the shards were planned for.
    """
    rows: list[PairRow] = []
    for row, _ in _rows(path, first=shard.first, offset=shard.offset, skipped=SkippedLines()):
        if row.number > shard.last:
            break
        rows.append(row)
    if len(rows) != shard.num_pairs:
        raise DataError("the file was changed while it was scored", path=display_name(path), line=shard.first)
    return rows


def place(path: Path, number: int, message: str) -> DataError:
    """Return an error that names the file and the line or row."""
    name = display_name(path)
    if name.lower().endswith(".parquet"):
        return DataError(f"row {number}: {message}", path=name)
    return DataError(message, path=name, line=number)


def _rows(path: Path, *, first: int, offset: int, skipped: SkippedLines | None) -> Iterator[tuple[PairRow, int]]:
    """Yield the rows from one on, each with the byte that its line starts at."""
    for number, start, record in _records(path, first, offset, skipped):
        try:
            yield _row(number, record, path.parent), start
        except InputError as error:
            skip_or_raise(place(path, number, str(error)), skipped)


def _records(
    path: Path, first: int, offset: int, skipped: SkippedLines | None
) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    name = display_name(path)
    if not name.lower().endswith(KINDS):
        raise DataError(f"unknown kind of file; pairs are read from {', '.join(KINDS)}", path=name)
    if name.lower().endswith(".parquet"):
        check = _check_columns(name)
        for number, record in parquet_records(path, check=check, first=first, skipped=skipped):
            yield number, 0, record
        return
    with open_binary(path) as stream:
        lines = decode_lines(stream, name, first=first, offset=offset)
        for line, record in read_json_objects(lines, name, skipped):
            yield line.number, line.offset, record


def _check_columns(name: str) -> Any:
    def check(columns: list[str], line: int | None) -> None:
        if "query" not in columns or not {*_TEXT_KEYS, "image"} & set(columns):
            found = ", ".join(map(repr, columns)) or "none"
            raise DataError(
                f"pairs have the columns 'query' and 'document' (or 'text', or 'image'); found {found}", path=name
            )

    return check


def _row(number: int, record: Mapping[str, Any], folder: Path) -> PairRow:
    query = _text(record, "query")
    if not query.strip():
        raise InputError("'query' is empty")
    key = next((key for key in _TEXT_KEYS if record.get(key) is not None), None)
    source = record[key] if key and isinstance(record[key], Mapping) else record
    if key is None and not record.get("image"):
        raise InputError(f"no 'document' (or 'text', or 'image') among the fields ({', '.join(map(repr, record))})")
    image, title = (_optional_text(source, name) for name in ("image", "title"))
    text_key = "text" if source is not record or key is None else key
    text = "" if image and source.get(text_key) is None else _text(source, text_key)
    document = Document(text, title=title, metadata={"image": image} if image else {})
    return PairRow(number, query, attach_image(document, folder), _ids(record, source))


def _length_of_image(document: Document) -> int:
    return len(document.image) if isinstance(document.image, str) else 0


def _optional_text(record: Mapping[str, Any], key: str) -> str | None:
    return _text(record, key) or None if record.get(key) is not None else None


def _text(record: Mapping[str, Any], key: str) -> str:
    if key not in record:
        raise InputError(f"no {key!r} among the fields ({', '.join(map(repr, record)) or 'there are none'})")
    if not isinstance(record[key], str):
        raise InputError(f"{key!r} must be a string, not {json_kind(record[key])}")
    value: str = record[key]
    return value


def _ids(record: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, str]:
    """Return the ids of a row; a document that is an object may bring its own."""
    found = {key: _id(record, key) for key in ("query_id", "document_id")} | {"id": _id(record, *ID_KEYS)}
    if document is not record:
        found["document_id"] = found["document_id"] or _id(document, *ID_KEYS)
    return {key: value for key, value in found.items() if value is not None}


def _id(record: Mapping[str, Any], *keys: str) -> str | None:
    value = next((record[key] for key in keys if record.get(key) not in (None, "")), None)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InputError(f"{keys[0]!r} must be a string or a whole number, not {json_kind(value)}")
