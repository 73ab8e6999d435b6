"""ViDoRe V1, V2 and V3: pages as images, in V3 with their markdown; V3 spells its columns with underscores.

Source: the dataset cards of vidore/*_beir, vidore/*_v2 and vidore/vidore_v3_* on the hub.
"""

from __future__ import annotations

from pathlib import Path

from crossrank.data.layouts.contents import Contents
from crossrank.data.layouts.tabular import read_corpus, read_qrels, read_queries
from crossrank.data.tables import Tables


def read(source: str | Path, *, config: str | None, split: str, revision: str | None) -> Contents:
    """Read a set of page images; the queries of all its languages share the pages.

    Args:
        source: A folder, or a name on the hub.
        config: Not read: the sets have no configs beside their tables.
        split: The split.
        revision: Branch, tag or commit on the hub.

    Raises:
        DataError: If a table is missing or bad.
    """
    tables = Tables(source, revision=revision)
    queries, languages = read_queries(tables.rows("queries", split))
    return Contents(
        queries,
        read_qrels(tables.rows("qrels", split)),
        read_corpus(tables.rows("corpus", split)),
        languages=languages,
    )
