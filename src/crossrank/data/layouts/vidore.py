"""ViDoRe V1, V2 and V3: pages as images, in V3 with their markdown; V3 spells its columns with underscores.

Source: dataset cards of vidore/*_beir, vidore/*_v2, vidore/vidore_v3_* and vidore/vidore_v3_*_mteb_format on the hub.
"""

from __future__ import annotations

from pathlib import Path

from crossrank.data.layouts.contents import Contents
from crossrank.data.layouts.tabular import read_corpus, read_qrels, read_queries
from crossrank.data.tables import Tables

# As the queries state them, and as tables name them.
LANGUAGES = {
    "english": "en", "french": "fr", "german": "de", "spanish": "es", "italian": "it", "portuguese": "pt",
}  # fmt: skip
# The sets whose pages are in French; those of the others are in English.
_IN_FRENCH = ("v3_finance_fr", "v3_energy", "v3_physics", "tabfquad", "shiftproject")


def read(source: str | Path, *, config: str | None, split: str, revision: str | None) -> Contents:
    """Read a set of page images; the queries of all its languages share the pages.

    Args:
        source: A folder, or a name on the hub.
        config: Not read: which queries are evaluated on is chosen by their language afterwards.
        split: The split.
        revision: Branch, tag or commit on the hub.

    Raises:
        DataError: If a table is missing or bad.
    """
    tables = Tables(source, revision=revision)
    if not tables.splits("queries"):
        found = [language for language in LANGUAGES if tables.splits(f"{language}-queries")]
        if found:
            return _read_by_language(tables, found, split)
    queries, languages = read_queries(tables.rows("queries", split))
    return Contents(
        queries,
        read_qrels(tables.rows("qrels", split), queries=queries),
        read_corpus(tables.rows("corpus", split)),
        languages=languages,
    )


def language_of_pages(source: str) -> str:
    """Return the language of the pages of a set, by its name on the hub."""
    return "fr" if any(name in source for name in _IN_FRENCH) else "en"


def _read_by_language(tables: Tables, found: list[str], split: str) -> Contents:
    """Read V3 in the format of mteb, whose tables are there once a language.

    The pages are the same in each. So are the judgements, of the queries of all languages: those of a language that is
    not there are left out.
    """
    queries: dict[str, str] = {}
    languages: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for language in found:
        asked, _ = read_queries(tables.rows(f"{language}-queries", split))
        queries |= asked
        languages |= dict.fromkeys(asked, language)
        judged = read_qrels(tables.rows(f"{language}-qrels", split))
        qrels |= {query_id: grades for query_id, grades in judged.items() if query_id in asked}
    return Contents(queries, qrels, read_corpus(tables.rows(f"{found[0]}-corpus", split)), languages=languages)
