"""The candidates of an evaluation: retrieved, out of a run, or given with the data set; never filled up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from crossrank.data.evaluation_set import EvaluationSet
from crossrank.data.text import display_name
from crossrank.data.trec import Candidate, read_run
from crossrank.errors import DataError
from crossrank.evaluation.ordering import Run, best_first, without_order
from crossrank.retrieval.retriever import OnProgress, Retriever


def retrieve(
    data: EvaluationSet, retriever: Retriever, *, depth: int, on_progress: OnProgress | None = None
) -> dict[str, tuple[Candidate, ...]]:
    """Return the `depth` best candidates of each judged query, out of the whole corpus.

    Where the data set gives the candidates of each query, the retriever orders these instead, all of them; what it does
    not find stands last.
    """
    retriever.index(data.corpus, on_progress=on_progress)
    queries = {query_id: data.queries[query_id] for query_id in data.qrels}
    if data.candidates is None:
        # One more than wanted, because a query that is a document of the corpus finds itself.
        more = 1 if data.queries_are_documents else 0
        return {
            found.query_id: _others(found.candidates, found.query_id, data)[:depth]
            for found in retriever.search(queries, depth=depth + more)
        }
    ordered = {}
    for found in retriever.search(queries, depth=max(1, len(data.corpus))):
        pool = {item.document_id for item in given(data, found.query_id)}
        ordered[found.query_id] = _only(found.candidates, pool, found.query_id)
    return ordered


def _only(found: Iterable[Candidate], pool: set[str], query_id: str) -> tuple[Candidate, ...]:
    kept = [candidate for candidate in found if candidate.document_id in pool]
    lowest = min((candidate.score for candidate in kept), default=0.0)
    rest = without_order(query_id, pool - {candidate.document_id for candidate in kept})
    return (*kept, *(Candidate(item.document_id, lowest - 1 + item.score) for item in rest))


def given(data: EvaluationSet, query_id: str) -> tuple[Candidate, ...]:
    """Return the candidates that come with the data set: as ranked there, else in an order that knows no relevance."""
    listed = (data.candidates or {}).get(query_id, ())
    if data.candidates_are_ranked:
        ranked = (Candidate(item, -float(place)) for place, item in enumerate(dict.fromkeys(listed)))
        return _others(ranked, query_id, data)
    return _others(without_order(query_id, listed), query_id, data)


def everything(data: EvaluationSet) -> dict[str, tuple[Candidate, ...]]:
    """Return the whole corpus for each judged query, in an order that knows nothing of relevance."""
    ids = [str(document.id) for document in data.corpus]
    return {query_id: _others(without_order(query_id, ids), query_id, data) for query_id in data.qrels}


def _others(candidates: Iterable[Candidate], query_id: str, data: EvaluationSet) -> tuple[Candidate, ...]:
    """Return the candidates without the query itself, where queries are documents of the corpus."""
    return tuple(item for item in candidates if not (data.queries_are_documents and item.document_id == query_id))


def read_candidates(path: str | Path, data: EvaluationSet, *, depth: int | None) -> dict[str, tuple[Candidate, ...]]:
    """Return the `depth` best candidates of each judged query out of a run, all of them if None.

    Raises:
        DataError: If a line is bad, names a query or a document that the data set does not have, or none of the judged
            queries is in the run.
    """
    run: dict[str, tuple[Candidate, ...]] = {}
    for item in read_run(path):
        if item.query_id not in data.queries:
            raise DataError(f"{data.name} has no query {item.query_id!r}", path=display_name(path), line=item.lines[0])
        if item.query_id not in data.qrels:
            continue
        for candidate, line in zip(item.candidates, item.lines, strict=True):
            if candidate.document_id not in data.corpus:
                unknown = f"document {candidate.document_id!r} is not in the corpus of {data.name}"
                raise DataError(unknown, path=display_name(path), line=line)
        run[item.query_id] = _others(best_first(item.candidates), item.query_id, data)[:depth]
    if not run:
        raise DataError(
            f"none of the {len(data.qrels)} judged queries of {data.name} is in this run: is it of another split?",
            path=display_name(path),
        )
    return run


def missing_positives(data: EvaluationSet, run: Run) -> Iterator[tuple[str, list[str]]]:
    """Yield each query whose candidates lack relevant documents, with the ids of those."""
    for query_id, grades in data.qrels.items():
        found = {candidate.document_id for candidate in run.get(query_id, ())}
        missing = [document_id for document_id, grade in grades.items() if grade > 0 and document_id not in found]
        if missing:
            yield query_id, missing
