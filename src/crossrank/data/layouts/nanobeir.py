"""NanoBEIR: 13 small sets as splits of the tables `corpus`, `queries`, `qrels` and `bm25`, or one set a repository.

Source: hub data sets sentence-transformers/NanoBEIR-en, zeta-alpha-ai/NanoNQ and sentence-transformers/NanoNQ-bm25.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from crossrank.data.layouts.contents import Contents
from crossrank.data.layouts.tabular import QUERY_KEYS, read_candidates, read_corpus, read_qrels, read_queries
from crossrank.data.tables import Row, Tables
from crossrank.errors import InputError

# The lists of BM25 are longer; its first 100 are what the published figures rerank.
DEPTH = 100
# The only split of a repository that holds one set.
_SINGLE = "train"


def read(source: str | Path, *, config: str | None, split: str, revision: str | None) -> Contents:
    """Read one of the sets; its candidates are the first 100 of BM25, and no relevant one is added.

    Args:
        source: A folder, or a name on the hub.
        config: The set, as in `"NanoMSMARCO"`; not read where the source holds one alone.
        split: Not read: each set is a split.
        revision: Branch, tag or commit on the hub.

    Raises:
        InputError: If the source holds several sets and none is named.
        DataError: If a table is missing or bad.
    """
    tables = Tables(source, revision=revision)
    is_single = list(tables.splits("corpus")) == [_SINGLE]
    if not config and not is_single:
        raise InputError(f"{source} holds several sets: name one, as in 'NanoMSMARCO'")
    name = _SINGLE if is_single else str(config)
    queries, languages = read_queries(tables.rows("queries", name))
    if tables.splits("relevance"):
        rows = list(tables.rows("relevance", name))
        qrels, ranked = _relevant(rows), read_candidates(rows, columns=("bm25-ranked-ids",))
    else:
        qrels = read_qrels(tables.rows("qrels", name), queries=queries)
        ranked = read_candidates(tables.rows("bm25", name)) if tables.splits("bm25") else {}
    return Contents(
        queries,
        qrels,
        read_corpus(tables.rows("corpus", name)),
        {query_id: documents[:DEPTH] for query_id, documents in ranked.items()} or None,
        languages,
    )


def _relevant(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    listed = {row.key(*QUERY_KEYS): row.ids("positive-corpus-ids") for row in rows}
    return {query_id: dict.fromkeys(documents, 1) for query_id, documents in listed.items()}
