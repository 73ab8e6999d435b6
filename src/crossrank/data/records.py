"""Rows with named fields to documents: JSONL, CSV and TSV, Parquet."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from crossrank.data.text import Line, SkippedLines, display_name, reading, skip_or_raise
from crossrank.errors import DataError, InputError, MissingExtra
from crossrank.types import Document

DEFAULT_TEXT_COLUMN = "text"
ID_KEYS = ("id", "_id")
# The largest limit that every platform takes; a field is a document and may be long.
CSV_FIELD_LIMIT = 2**31 - 1
# Of a Parquet file so many rows are held at once, or so many bytes.
_BATCH_ROWS, _BATCH_BYTES = 1024, 32 << 20
ColumnCheck = Callable[[list[str], int | None], None]
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_object(text: str) -> dict[str, Any]:
    """Parse one JSON object.

    Raises:
        InputError: If it is malformed, not an object, or holds a lone surrogate.
    """
    try:
        record = json.loads(text.strip(), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InputError(f"malformed JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"malformed JSON: {error}") from error
    if not isinstance(record, dict):
        raise InputError(f"expected a JSON object, found {json_kind(record)}")
    refuse_lone_surrogates(text, record)
    return record


def refuse_lone_surrogates(text: str, value: Any) -> None:
    """Check that a value that was parsed from JSON holds text only.

    Raises:
        InputError: If it holds half of a surrogate pair, which no encoding can write.
    """
    if _ESCAPED_SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError("a lone surrogate (half of a \\u escape pair) is not text") from error


def record_id(record: Mapping[str, Any]) -> str | None:
    """Return the `id` of a record, or its `_id`; a whole number becomes a string.

    Raises:
        InputError: If it is of another kind.
    """
    value = next((record[key] for key in ID_KEYS if record.get(key) not in (None, "")), None)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    found = repr(value) if isinstance(value, float) else json_kind(value)
    raise InputError(f"the id must be a string or a whole number, not {found}")


def document_from_record(record: Mapping[str, Any], *, text_column: str | None = None) -> Document:
    """Return the document that a record describes; what is neither text, title nor id becomes its metadata.

    The entries of an object named `metadata` are taken one by one. A record with an `image` may lack its text.

    Raises:
        InputError: If the text is missing, or a field has the wrong type.
    """
    text_key = text_column or DEFAULT_TEXT_COLUMN
    if text_key not in record and isinstance(record.get("image"), str):
        record = {**record, text_key: ""}
    if text_key not in record:
        raise InputError(f"no {text_key!r} among the fields ({', '.join(map(repr, record)) or 'there are none'})")
    text, title = record[text_key], record.get("title")
    if not isinstance(text, str):
        raise InputError(f"{text_key!r} must be a string, not {json_kind(text)}")
    if title is not None and not isinstance(title, str):
        raise InputError(f"'title' must be a string, not {json_kind(title)}")
    inner = record.get("metadata")
    nested = inner if isinstance(inner, Mapping) else {}
    taken = {text_key, "title", *ID_KEYS} | ({"metadata"} if isinstance(inner, Mapping) else set())
    rest = {key: value for key, value in record.items() if key not in taken}
    return Document(text, title=title or None, id=record_id(record), metadata={**nested, **rest})


def read_json_objects(
    lines: Iterable[Line], name: str, skipped: SkippedLines | None
) -> Iterator[tuple[Line, dict[str, Any]]]:
    """Yield each JSON object with its line; blank lines are passed over.

    Raises:
        DataError: At the first bad line, without `skipped`.
    """
    for line in lines:
        if not line.text.strip():
            continue
        if line.error:
            skip_or_raise(line.error, skipped)
            continue
        try:
            record = parse_object(line.text)
        except InputError as error:
            skip_or_raise(DataError(str(error), path=name, line=line.number), skipped)
            continue
        yield line, record


def jsonl_documents(
    lines: Iterable[Line], name: str, *, text_column: str | None = None, skipped: SkippedLines | None = None
) -> Iterator[Document]:
    """Yield the documents of JSON lines.

    Raises:
        DataError: At the first bad line, without `skipped`.
    """
    for line, record in read_json_objects(lines, name, skipped):
        try:
            document = document_from_record(record, text_column=text_column)
        except InputError as error:
            skip_or_raise(DataError(str(error), path=name, line=line.number), skipped)
            continue
        yield document


def csv_documents(
    lines: Iterable[Line],
    name: str,
    *,
    delimiter: str = ",",
    text_column: str | None = None,
    skipped: SkippedLines | None = None,
) -> Iterator[Document]:
    """Yield the documents of a table with a header line; a quoted field may hold line breaks.

    Raises:
        DataError: If the text column is missing, or, without `skipped`, at the first bad row.
    """

    def check(columns: list[str], line: int | None) -> None:
        _check_columns(columns, text_column, name, line)

    for _, record in csv_records(lines, name, delimiter=delimiter, check=check, skipped=skipped):
        yield document_from_record(record, text_column=text_column)


def csv_records(
    lines: Iterable[Line], name: str, *, check: ColumnCheck, delimiter: str = ",", skipped: SkippedLines | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a table with a header line by column, each with the line that it starts on.

    Args:
        lines: The lines of the file.
        name: The file, for messages.
        check: Called with the columns and their line before the first row; may refuse them.
        delimiter: Between two fields.
        skipped: Bad rows are counted here and left out. Without it the first one is an error.

    Raises:
        DataError: If the header is broken, or, without `skipped`, at the first bad row.
    """
    rows = _csv_rows(lines, name, delimiter)
    header_line, header, error = next(rows, (1, None, None))
    if error:
        raise error
    if header is None:
        return
    columns = [column.strip() for column in header]
    _check_distinct(columns, name, header_line)
    check(columns, header_line)
    for number, row, error in rows:
        if row is not None and len(row) != len(columns):
            found = f"{len(row)} fields where the header has {len(columns)}"
            error = error or DataError(found, path=name, line=number)
        if row is None or error:
            assert error is not None
            skip_or_raise(error, skipped)
            continue
        yield number, dict(zip(columns, row, strict=True))


def parquet_documents(
    path: Path, *, text_column: str | None = None, skipped: SkippedLines | None = None
) -> Iterator[Document]:
    """Yield the documents of a Parquet file, batch by batch; values that JSON does not know become strings.

    Raises:
        DataError: If the file cannot be read or has no text column, or, without `skipped`, at the first bad row.
        MissingExtra: If pyarrow is not installed.
    """
    name = display_name(path)

    def check(columns: list[str], line: int | None) -> None:
        _check_columns(columns, text_column, name, line)

    as_they_are = (text_column or DEFAULT_TEXT_COLUMN, "title", *ID_KEYS)
    for number, row in parquet_records(path, check=check, skipped=skipped):
        record = {key: value if key in as_they_are else _json_value(value) for key, value in row.items()}
        try:
            document = document_from_record(record, text_column=text_column)
        except InputError as problem:
            skip_or_raise(DataError(f"row {number}: {problem}", path=name), skipped)
            continue
        yield document


def parquet_records(
    path: Path, *, check: ColumnCheck, first: int = 1, skipped: SkippedLines | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a Parquet file by column, batch by batch, with their numbers from 1.

    Args:
        path: The file.
        check: Called with the columns before the first row; may refuse them.
        first: The number of the row to begin with.
        skipped: Rows that hold what is not UTF-8 are counted here and left out. Without it the first one is an error.

    Raises:
        DataError: If the file cannot be read, or, without `skipped`, at the first bad row.
        MissingExtra: If pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("reading Parquet files", extra="parquet") from error
    name = display_name(path)
    try:
        with reading(name), parquet.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            _check_distinct(columns, name, None)
            check(columns, None)
            for start, batch in _parquet_batches(file, first):
                yield from _parquet_rows(batch, start, name, skipped)
    except pyarrow.ArrowException as failure:
        raise DataError(f"not a readable Parquet file: {failure}", path=name) from failure


def _parquet_rows(
    batch: Any, first: int, name: str, skipped: SkippedLines | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):  # something in it is no value of Python: found one by one
        rows = None
    if rows is not None:
        yield from enumerate(rows, start=first)
        return
    for at in range(batch.num_rows):
        row = batch.slice(at, 1)
        try:
            record = {key: _parquet_value(row.column(key), key) for key in batch.schema.names}
        except InputError as problem:
            skip_or_raise(DataError(f"row {first + at}: {problem}", path=name), skipped)
            continue
        yield first + at, record


def _parquet_value(column: Any, name: str) -> Any:
    """Return the only value of a column; a time that Python has no type for is written out."""
    import pyarrow

    try:
        try:
            return column.to_pylist()[0]
        except (ValueError, OverflowError):
            if not pyarrow.types.is_temporal(column.type):
                raise
            return column.cast(pyarrow.string()).to_pylist()[0]
    except UnicodeDecodeError as error:
        bad = error.object[error.start]
        raise InputError(f"{name!r} is not valid UTF-8 at byte {error.start} (0x{bad:02x})") from None
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name!r} cannot be read: {error}") from None


def _parquet_batches(file: Any, first: int) -> Iterator[tuple[int, Any]]:
    """Yield batches with the number of their first row; row groups before the row `first` are not read."""
    number, groups = 1, list(range(file.num_row_groups))
    while groups and number + file.metadata.row_group(groups[0]).num_rows <= first:
        number += file.metadata.row_group(groups.pop(0)).num_rows
    for batch in file.iter_batches(batch_size=_batch_rows(file), row_groups=groups):
        skipped = min(max(first - number, 0), batch.num_rows)
        if skipped < batch.num_rows:
            yield number + skipped, batch.slice(skipped)
        number += batch.num_rows


def _batch_rows(file: Any) -> int:
    """Return how many rows are held at once: fewer where they are large, as those with images are."""
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    row_bytes = sum(group.total_byte_size for group in groups) / max(1, file.metadata.num_rows)
    return int(max(1, min(_BATCH_ROWS, _BATCH_BYTES / max(1.0, row_bytes))))


class _RecordLines:
    """Hands lines to the csv module and remembers where the current record began and what was wrong in it."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self.first: int | None = None
        self.error: DataError | None = None

    def start_record(self) -> None:
        self.first = self.error = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.first = self.first or line.number
        self.error = self.error or line.error
        return line.text


def _csv_rows(
    lines: Iterable[Line], name: str, delimiter: str
) -> Iterator[tuple[int, list[str] | None, DataError | None]]:
    csv.field_size_limit(max(CSV_FIELD_LIMIT, csv.field_size_limit()))
    source = _RecordLines(lines)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        source.start_record()
        row: list[str] | None = None
        error = None
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as failure:
            error = DataError(f"malformed row: {failure}", path=name, line=source.first)
        if row != []:  # a blank line
            yield source.first or 1, row, source.error or error


def _check_distinct(columns: list[str], name: str, line: int | None) -> None:
    repeated = next((column for i, column in enumerate(columns) if column in columns[:i]), None)
    if repeated is not None:
        raise DataError(f"two columns are named {repeated!r}", path=name, line=line)


def _check_columns(columns: list[str], text_column: str | None, name: str, line: int | None) -> None:
    wanted = text_column or DEFAULT_TEXT_COLUMN
    if wanted not in columns:
        raise DataError(
            f"no column {wanted!r}; name the text column (--text-column), one of {', '.join(map(repr, columns))}",
            path=name,
            line=line,
        )


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON value")


def json_kind(value: object) -> str:
    """Return what a value from JSON is, in words."""
    kinds = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else kinds.get(type(value), type(value).__name__)


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
