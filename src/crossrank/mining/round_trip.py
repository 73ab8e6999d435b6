"""The round-trip filter: a synthetic query is kept where a retriever finds its own document with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from crossrank.retrieval.retriever import Retriever


def found_again(
    queries: Mapping[str, str],
    sources: Mapping[str, str],
    retriever: Retriever,
    *,
    within: int,
    on_progress: Callable[[], None] | None = None,
) -> dict[str, int]:
    """Return the rank of each query's own document, of the queries whose document is among the first.

    Args:
        queries: Text by id.
        sources: The document that a query was written for, by the id of the query.
        retriever: Has indexed the corpus.
        within: Greatest rank that is good enough; 1 is the rule of the source.
        on_progress: Called after each query.

    Source: Dai et al., "Promptagator: Few-shot Dense Retrieval From 8 Examples" (ICLR 2023).
    """
    ranks: dict[str, int] = {}
    for query_id, candidates in retriever.search(queries, depth=within):
        listed = [candidate.document_id for candidate in candidates]
        if sources[query_id] in listed:
            ranks[query_id] = listed.index(sources[query_id]) + 1
        if on_progress:
            on_progress()
    return {query_id: ranks[query_id] for query_id in queries if query_id in ranks}
