"""mteb's retrieval and reranking sets: tables `corpus`, `queries`, `qrels` and maybe `top_ranked`, once a language.

Source: mteb 2, abstasks/retrieval_dataset_loaders.py.
"""

from __future__ import annotations

from pathlib import Path

from crossrank.data.layouts.contents import Contents
from crossrank.data.layouts.tabular import read_candidates, read_corpus, read_qrels, read_queries
from crossrank.data.layouts.vidore import LANGUAGES as PAGE_LANGUAGES
from crossrank.data.tables import Tables
from crossrank.errors import DataError


def read(source: str | Path, *, config: str | None, split: str, revision: str | None) -> Contents:
    """Read a set of mteb.

    Args:
        source: A folder, or a name on the hub.
        config: The language or pair that stands before the names of its tables, as in `"de"`; None where nothing does.
        split: The split.
        revision: Branch, tag or commit on the hub.

    Raises:
        DataError: If a table is missing or bad.
    """
    tables = Tables(source, revision=revision)
    prefix = f"{config}-" if config else ""
    qrels_tables = [f"{prefix}qrels"] if config else ["default", "qrels"]
    qrels_table = next((name for name in qrels_tables if tables.splits(name)), None)
    if qrels_table is None:
        hint = "" if config else "; where there is one a language, name it, as in mteb:SOURCE:de"
        raise DataError(f"no table {' or '.join(map(repr, qrels_tables))} with judgements{hint}", path=source)
    queries, languages = read_queries(tables.rows(f"{prefix}queries", split))
    # ViDoRe V3 judges the queries of all languages in the table of each.
    is_shared = config in PAGE_LANGUAGES
    qrels = read_qrels(tables.rows(qrels_table, split), queries=None if is_shared else queries)
    if is_shared:
        qrels = {query_id: grades for query_id, grades in qrels.items() if query_id in queries}
    candidates = f"{prefix}top_ranked"
    return Contents(
        queries,
        qrels,
        read_corpus(tables.rows(f"{prefix}corpus", split)),
        read_candidates(tables.rows(candidates, split)) if tables.splits(candidates) else None,
        languages,
        tables.split_of(qrels_table, split),
    )
