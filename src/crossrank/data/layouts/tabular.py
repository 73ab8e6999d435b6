"""What the table layouts share: queries, corpus, qrels and candidates as four tables, under several spellings."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any

from crossrank.data.tables import Row
from crossrank.types import Document

QUERY_KEYS = ("query-id", "query_id")
DOCUMENT_KEYS = ("corpus-id", "corpus_id")


def read_queries(rows: Iterable[Row]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the text and the language of each query; the language where the table states it.

    Raises:
        DataError: At a row without an id or a text, or whose id stands for another text above.
    """
    queries: dict[str, str] = {}
    languages: dict[str, str] = {}
    for row in rows:
        query_id = row.key("_id", "id", *QUERY_KEYS)
        text = row.text("text", "query")
        if queries.setdefault(query_id, text) != text:
            raise row.error(f"the id {query_id!r} stands for another query above")
        if isinstance(language := row.first("language"), str):
            languages[query_id] = language
    return queries, languages


def read_corpus(rows: Iterable[Row]) -> Iterator[Document]:
    """Yield the documents: their text or their page's markdown, their title, and the bytes of their image.

    Raises:
        DataError: At a row without an id, with neither text nor image, or with a title that is no text.
    """
    for row in rows:
        image = _image_bytes(row)
        text = row.first("text", "markdown") or ""
        if not isinstance(text, str) or ("text" not in row.values and "markdown" not in row.values and not image):
            raise row.error(f"neither a text nor an image (columns: {', '.join(row.values)})")
        title = row.first("title")
        if title is not None and not isinstance(title, str):
            raise row.error("the title is no text")
        yield Document(text, title=title or None, id=row.key("_id", "id", *DOCUMENT_KEYS), image=image)


def read_qrels(rows: Iterable[Row], *, queries: Container[str] | None = None) -> dict[str, dict[str, int]]:
    """Return the grades by query and document; a table without grades lists what is relevant.

    Args:
        rows: Of the table.
        queries: Where given, the ids that a judgement may name.

    Raises:
        DataError: At a row without ids, whose grade is no whole number, or with an unknown query.
    """
    qrels: dict[str, dict[str, int]] = {}
    for row in rows:
        grade = _grade(row)
        query_id = row.key(*QUERY_KEYS)
        if grade and queries is not None and query_id not in queries:
            raise row.error(f"query {query_id!r} is not among the queries")
        grades = qrels.setdefault(query_id, {})
        document_id = row.key(*DOCUMENT_KEYS)
        grades[document_id] = max(grade, grades.get(document_id, 0))
    return qrels


def read_candidates(
    rows: Iterable[Row], *, columns: tuple[str, ...] = ("corpus-ids", "corpus_ids")
) -> dict[str, list[str]]:
    """Return the documents to rank for each query, listed under the first of these columns that is there.

    Raises:
        DataError: At a row without an id or a list.
    """
    return {row.key(*QUERY_KEYS): row.ids(*columns) for row in rows}


def _grade(row: Row) -> int:
    value: Any = row.values.get("score", 1)
    try:
        grade = int(value)
        if float(value) == grade:
            # TREC-COVID grades two documents -1, which every tool reads as not relevant.
            return max(grade, 0)
    except (TypeError, ValueError):
        pass
    raise row.error(f"the grade {value!r} is not a whole number")


def _image_bytes(row: Row) -> bytes | None:
    value = row.first("image")
    if isinstance(value, dict):
        value = value.get("bytes")
    if value is None or isinstance(value, bytes):
        return value
    raise row.error("the image is not stored in the table as the bytes of its file")
