"""Click logs: which documents a result page showed, in which order, and which of them were clicked.

Two layouts, told apart by the first row. One row a page (JSONL or Parquet):

    {"session": "s1", "query": "red planet", "documents": ["d3", "d1", "d7"], "clicks": [{"id": "d1", "dwell_s": 41.5}]}

`documents` are ids in the order shown, or objects with `id` and `position`; `clicks` are ids, or objects with `id` and
`dwell_s`. One row a shown document (JSONL, Parquet, CSV or TSV), the rows of one page together:

    session,query,document,position,clicked,dwell_s
    s1,red planet,d3,1,0,

Positions count from 1, up to 10000. `session`, `query_id` and `dwell_s` may be left out; without sessions the rows of
one page are those between two of position 1. Where a session asks the same query again at once, its second position 1
begins a page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from crossrank.data.records import csv_records, json_kind, parquet_records, read_json_objects
from crossrank.data.text import SkippedLines, display_name, read_lines, skip_or_raise
from crossrank.errors import DataError, InputError

# Nobody looks further; what is higher is another number that got into the column, and every position takes memory.
MAX_POSITION = 10_000
_DOCUMENT_KEYS = ("document", "document_id", "id", "_id")
_YES, _NO = ("1", "true", "yes"), ("0", "false", "no", "")


class Impression(NamedTuple):
    """A document that was shown.

    Attributes:
        document_id: Its id in the corpus.
        position: Where it stood, from 1 at the top.
        clicked: Whether it was clicked.
        dwell_s: Seconds that the user stayed on it, or None where the log does not say.
    """

    document_id: str
    position: int
    clicked: bool
    dwell_s: float | None = None


@dataclass(frozen=True)
class ResultPage:
    """What one user saw for one query.

    Attributes:
        query: The text.
        impressions: By position.
        query_id: Of the log, or None.
        session: Of the log, or None.
    """

    query: str
    impressions: tuple[Impression, ...]
    query_id: str | None = None
    session: str | None = None


class _Row(NamedTuple):
    """A record and where it stands, for errors."""

    record: Mapping[str, Any]
    where: str
    line: int | None


def read_click_log(path: str | Path, *, skipped: SkippedLines | None = None) -> Iterator[ResultPage]:
    """Yield the result pages of a click log, one at a time.

    Args:
        path: `.jsonl`, `.csv`, `.tsv` (also `.gz`) or `.parquet`; `-` reads JSON lines from standard input.
        skipped: Bad rows are counted here and left out. Without it the first one is an error.

    Raises:
        DataError: If the file cannot be read or, without `skipped`, a row is bad; names file and line.
        MissingExtra: If it is Parquet and pyarrow is not installed.
    """
    name = display_name(path)
    rows = _rows(path, name, skipped)
    first = next(rows, None)
    if first is None:
        return
    read = _read_pages if "documents" in first.record else _join_impressions
    yield from read(_chained(first, rows), name, skipped)


def _rows(path: str | Path, name: str, skipped: SkippedLines | None) -> Iterator[_Row]:
    ending = name.lower().removesuffix(".gz").rpartition(".")[2]
    if ending == "parquet":
        for number, row in parquet_records(Path(path), check=_check_columns(name)):
            yield _Row(row, f"row {number}: ", None)
    elif ending in ("csv", "tsv"):
        delimiter = "\t" if ending == "tsv" else ","
        check = _check_columns(name)
        for line, record in csv_records(read_lines(path), name, check=check, delimiter=delimiter, skipped=skipped):
            yield _Row(record, "", line)
    else:
        for place, record in read_json_objects(read_lines(path), name, skipped):
            yield _Row(record, "", place.number)


def _check_columns(name: str) -> Any:
    def check(columns: list[str], line: int | None) -> None:
        if "query" not in columns or not ({"documents", *_DOCUMENT_KEYS[:2]} & set(columns)):
            raise DataError(
                f"a click log has a column 'query' and 'document' (or 'documents'), not {', '.join(columns)}",
                path=name,
                line=line,
            )

    return check


def _chained(first: _Row, rest: Iterable[_Row]) -> Iterator[_Row]:
    yield first
    yield from rest


def _read_pages(rows: Iterable[_Row], name: str, skipped: SkippedLines | None) -> Iterator[ResultPage]:
    for row in rows:
        try:
            yield _page(row.record)
        except InputError as error:
            skip_or_raise(DataError(f"{row.where}{error}", path=name, line=row.line), skipped)


def _page(record: Mapping[str, Any]) -> ResultPage:
    """Return the page of a nested row."""
    clicks = {}
    for click in _listed(record, "clicks"):
        clicks[_document_id(click)] = _dwell(click) if isinstance(click, Mapping) else None
    shown = []
    for place, document in enumerate(_listed(record, "documents"), start=1):
        document_id = _document_id(document)
        stated = document.get("position") if isinstance(document, Mapping) else None
        position = place if stated is None else _position(stated)
        shown.append(Impression(document_id, position, document_id in clicks, clicks.get(document_id)))
    unseen = clicks.keys() - {impression.document_id for impression in shown}
    if unseen:
        raise InputError(f"{sorted(unseen)[0]!r} was clicked, but is not among the documents shown")
    return _checked_page(record, shown)


def _join_impressions(rows: Iterable[_Row], name: str, skipped: SkippedLines | None) -> Iterator[ResultPage]:
    """Join the flat rows of one page."""
    key: tuple[Any, ...] | None = None
    head: _Row | None = None
    shown: list[Impression] = []
    for row in rows:
        try:
            impression = _impression(row.record)
            now = (row.record.get("session"), row.record.get("query_id"), row.record.get("query"))
        except InputError as error:
            skip_or_raise(DataError(f"{row.where}{error}", path=name, line=row.line), skipped)
            continue
        # With sessions the rows of a page may stand in any order, and a query may be asked again at once.
        top_is_new = row.record.get("session") is None or any(before.position == 1 for before in shown)
        starts_again = impression.position == 1 and top_is_new
        if head is not None and (now != key or starts_again):
            yield from _finished(head, shown, name, skipped)
            head, shown = None, []
        if head is None:
            key, head = now, row
        shown.append(impression)
    if head is not None:
        yield from _finished(head, shown, name, skipped)


def _finished(head: _Row, shown: list[Impression], name: str, skipped: SkippedLines | None) -> Iterator[ResultPage]:
    try:
        yield _checked_page(head.record, shown)
    except InputError as error:
        skip_or_raise(DataError(f"{head.where}{error}", path=name, line=head.line), skipped)


def _checked_page(record: Mapping[str, Any], shown: list[Impression]) -> ResultPage:
    query, session, query_id = record.get("query"), record.get("session"), record.get("query_id")
    if not isinstance(query, str) or not query.strip():
        raise InputError(f"'query' must be a text, not {query!r}")
    if not shown:
        raise InputError("no document was shown")
    shown = sorted(shown, key=lambda impression: impression.position)
    for what, values in (("document", [i.document_id for i in shown]), ("position", [str(i.position) for i in shown])):
        value, count = Counter(values).most_common(1)[0]
        if count > 1:
            raise InputError(f"{what} {value!r} comes twice on one page (session {session!r}, query {query!r})")
    return ResultPage(
        query,
        tuple(shown),
        query_id=None if query_id in (None, "") else str(query_id),
        session=None if session is None else str(session),
    )


def _impression(record: Mapping[str, Any]) -> Impression:
    if "position" not in record:
        raise InputError("no 'position' (from 1 at the top)")
    return Impression(
        _document_id(record), _position(record["position"]), _clicked(record.get("clicked")), _dwell(record)
    )


def _listed(record: Mapping[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f"{key!r} must be a list, not {json_kind(value)}")
    return value


def _document_id(value: Any) -> str:
    if isinstance(value, Mapping):
        value = next((value[key] for key in _DOCUMENT_KEYS if value.get(key) is not None), None)
    if (isinstance(value, str) and value) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise InputError(f"a document is named by its id, not by {value!r}")


def _position(value: Any) -> int:
    number = _number(value)
    if number is None or not 1 <= number <= MAX_POSITION or number != int(number):
        raise InputError(f"'position' must be a whole number from 1 to {MAX_POSITION}, not {value!r}")
    return int(number)


def _clicked(value: Any) -> bool:
    word = "" if value is None else str(value).strip().lower()
    if word in _YES or word in _NO:
        return word in _YES
    raise InputError(f"'clicked' must be 0 or 1, not {value!r}")


def _dwell(record: Mapping[str, Any]) -> float | None:
    value = record.get("dwell_s")
    if value is None or value == "":
        return None
    number = _number(value)
    if number is None or number < 0:
        raise InputError(f"'dwell_s' must be a number of seconds, not {value!r}")
    return number


def _number(value: Any) -> float | None:
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
