"""Groups as an audit reads them: whatever they hold, also what training would refuse."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from crossrank.data.groups.inline import (
    ID_KEYS,
    NEGATIVE_KEYS,
    POSITIVE_KEYS,
    QUERY_KEYS,
    first_field,
    query_id,
    read_rows,
)
from crossrank.data.groups.report import Problems
from crossrank.data.json_stream import stream_json
from crossrank.data.questions import MinableCorpus, open_corpus_id_questions
from crossrank.data.records import ID_KEYS as RECORD_ID_KEYS
from crossrank.data.records import json_kind, record_id
from crossrank.data.text import display_name
from crossrank.errors import DataError, InputError

# Where a row holds one score a document without saying whose it is.
SCORE = "score"


class AuditedDocument(NamedTuple):
    """A document of a group.

    Attributes:
        id: Its key, or None.
        text: Title and body.
        scores: By who gave them; may be infinite or NaN.
        source: How it became a negative, where the row says it.
    """

    id: str | None
    text: str
    scores: Mapping[str, float]
    source: str | None


class AuditedGroup(NamedTuple):
    """A query with its documents.

    Attributes:
        query_id: Its key; file and line where it has none.
        query: The text.
        positives: At least one.
        negatives: May be empty.
    """

    query_id: str
    query: str
    positives: tuple[AuditedDocument, ...]
    negatives: tuple[AuditedDocument, ...]


ReadGroups = Callable[[], Iterator[AuditedGroup]]


@contextmanager
def open_groups_to_audit(path: Path) -> Iterator[ReadGroups]:
    """Open JSON lines, a JSON list or Parquet with texts, or corpus-ID JSON; what is yielded may be called again.

    Raises:
        DataError: If the file or a corpus is bad; later, if a row is.
    """
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".json") and any(item.key == "corpus" for item in stream_json(path)):
        with open_corpus_id_questions(path) as questions:
            corpora = questions.corpora
            yield lambda: (_group(q.fields, q.query_id, corpora[q.corpus_id]) for q in questions.read())
    else:
        yield lambda: _read(path)


def _read(path: Path) -> Iterator[AuditedGroup]:
    name = display_name(path)
    problems = Problems()
    for line, row in read_rows(path, problems):
        problems.raise_errors()
        try:
            key = query_id(row, (*ID_KEYS, *RECORD_ID_KEYS)) or f"{path.name}:{line}"
            yield _group(row, key, None)
        except InputError as error:
            raise DataError(str(error), path=name, line=line) from error
    problems.raise_errors()


def _group(row: Mapping[str, Any], key: str, corpus: MinableCorpus | None) -> AuditedGroup:
    query = first_field(row, QUERY_KEYS)
    if not isinstance(query, str):
        raise InputError(f"the query must be a string, not {json_kind(query)}")
    positives, negatives = (_documents(first_field(row, names), corpus) for names in (POSITIVE_KEYS, NEGATIVE_KEYS))
    if not positives:
        raise InputError("there is no positive")
    return AuditedGroup(key, query, positives, negatives)


def _documents(value: Any, corpus: MinableCorpus | None) -> tuple[AuditedDocument, ...]:
    found = value if isinstance(value, list) else [value]
    return tuple(_document(document, corpus) for document in found)


def _document(value: Any, corpus: MinableCorpus | None) -> AuditedDocument:
    row = value if isinstance(value, dict) else {"text" if corpus is None else "id": value}
    document_id = record_id(row)
    if corpus is not None:
        document = corpus.get(document_id) if document_id is not None else None
        if document is None:
            raise InputError(f"document {document_id!r} is not in the corpus")
        title, text = document.title, document.text
    else:
        title, text = row.get("title"), row.get("text", "")
    if not isinstance(text, str):
        raise InputError(f"'text' must be a string, not {json_kind(text)}")
    source = row.get("source")
    return AuditedDocument(
        document_id, f"{title} {text}" if title else text, _scores(row), source if isinstance(source, str) else None
    )


def _scores(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the score of a document, or without one those of the retrievers that found it."""
    if row.get(SCORE) is not None:
        return {SCORE: _number(row[SCORE])}
    places = row.get("found_by")
    items = places.items() if isinstance(places, dict) else ()
    return {name: _number(place[SCORE]) for name, place in items if isinstance(place, dict) and SCORE in place}


def _number(value: Any) -> float:
    return math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
