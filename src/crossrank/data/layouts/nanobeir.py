"""NanoBEIR: 13 small sets as splits of the tables `corpus`, `queries`, `qrels` and `bm25`.

Source: hub data set sentence-transformers/NanoBEIR-en.
"""

from __future__ import annotations

from pathlib import Path

from crossrank.data.layouts.contents import Contents
from crossrank.data.layouts.tabular import read_candidates, read_corpus, read_qrels, read_queries
from crossrank.data.tables import Tables
from crossrank.errors import InputError

# The lists of BM25 are longer; its first 100 are what the published figures rerank.
DEPTH = 100


def read(source: str | Path, *, config: str | None, split: str, revision: str | None) -> Contents:
    """Read one of the sets; its candidates are the first 100 of BM25, and no relevant one is added.

    Args:
        source: A folder, or a name on the hub.
        config: The set, as in `"NanoMSMARCO"`.
        split: Not read: each set is a split.
        revision: Branch, tag or commit on the hub.

    Raises:
        InputError: If no set is named.
        DataError: If a table is missing or bad.
    """
    if not config:
        raise InputError(f"{source} holds several sets: name one, as in 'NanoMSMARCO'")
    tables = Tables(source, revision=revision)
    queries, languages = read_queries(tables.rows("queries", config))
    ranked = read_candidates(tables.rows("bm25", config)) if tables.splits("bm25") else None
    return Contents(
        queries,
        read_qrels(tables.rows("qrels", config)),
        read_corpus(tables.rows("corpus", config)),
        {query_id: documents[:DEPTH] for query_id, documents in ranked.items()} if ranked else None,
        languages,
    )
