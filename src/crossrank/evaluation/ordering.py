"""The one order that every measure sees: score descending, equal scores in the order in which they were given.

A reranker is given its candidates in the order of the first stage, so one that cannot tell two documents apart leaves
them where the first stage put them and gains nothing by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from crossrank.data.evaluation_set import stable_hash
from crossrank.data.trec import Candidate

# Candidates by query, best first. A query without candidates may be left out.
Run = Mapping[str, Sequence[Candidate]]
Qrels = Mapping[str, Mapping[str, int]]


def best_first(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Return the candidates in the order of the rule."""
    return tuple(sorted(candidates, key=lambda candidate: -candidate.score))


def without_order(query_id: str, document_ids: Iterable[str]) -> tuple[Candidate, ...]:
    """Return candidates that come without scores, in an order that knows nothing of relevance.

    Lists of candidates often name the relevant documents first; a reranker that gave every pair the same score would
    otherwise seem perfect. The order comes from a hash of both ids and is the same every time.
    """
    ordered = sorted(set(document_ids), key=lambda document_id: stable_hash(query_id, document_id))
    return tuple(Candidate(document_id, -float(place)) for place, document_id in enumerate(ordered))


def ideal(run: Run, qrels: Qrels) -> dict[str, tuple[Candidate, ...]]:
    """Return the run in the best order there is, by grade: the ceiling of whatever reorders it."""
    return {
        query_id: best_first(Candidate(item.document_id, float(grades.get(item.document_id, 0))) for item in found)
        for query_id, grades in qrels.items()
        if (found := run.get(query_id))
    }
