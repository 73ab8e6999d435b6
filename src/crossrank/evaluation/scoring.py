"""Every candidate scored once, query by query, into a run that can be interrupted and continued."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from crossrank.data.evaluation_set import EvaluationSet
from crossrank.data.run_writer import RunWriter
from crossrank.data.trec import Candidate
from crossrank.errors import InputError
from crossrank.evaluation.ordering import Run
from crossrank.types import Document, Ranker, Scorer

# Pairs that are handed to a scorer at a time: enough to fill its batches, few enough to lose little by an interrupt.
BLOCK_PAIRS = 1024


class Clock(Protocol):
    """Adds up work, also over interruptions."""

    def add(self, pairs: int, seconds: float) -> None:
        """Count pairs, and the seconds that scoring them took."""
        ...


@dataclass(frozen=True)
class _Task:
    query_id: str
    query: str
    documents: list[Document]


def score_run(
    run: Run,
    data: EvaluationSet,
    scorer: Scorer | Ranker,
    writer: RunWriter,
    clock: Clock,
    *,
    on_query: Callable[[], None] = lambda: None,
    block_pairs: int = BLOCK_PAIRS,
) -> None:
    """Score the candidates of a run, and write them with their raw scores.

    Queries that the writer has already are passed over, and so are those without candidates.

    Args:
        run: Candidates, best first.
        data: Texts of queries and documents.
        scorer: A scorer gets the pairs of many queries at a time, a ranker one query at a time.
        writer: Takes each query as soon as it is scored.
        clock: Counts pairs and seconds.
        on_query: Called after each query.
        block_pairs: Pairs that a scorer gets at a time.

    Raises:
        InputError: If the run names a document that the corpus does not have, or a ranker drops documents.
    """
    for block in _blocks(run, data, set(writer.finished), block_pairs):
        began = time.perf_counter()
        scored = _score(block, scorer)
        clock.add(sum(map(len, scored)), time.perf_counter() - began)
        for task, candidates in zip(block, scored, strict=True):
            writer.write(task.query_id, candidates)
            on_query()


def _blocks(run: Run, data: EvaluationSet, finished: set[str], block_pairs: int) -> Iterator[list[_Task]]:
    block: list[_Task] = []
    for query_id in data.qrels:
        if query_id not in finished and run.get(query_id):
            documents = [_document(data, candidate.document_id) for candidate in run[query_id]]
            block.append(_Task(query_id, data.queries[query_id], documents))
        if sum(len(task.documents) for task in block) >= block_pairs:
            yield block
            block = []
    if block:
        yield block


def _document(data: EvaluationSet, document_id: str) -> Document:
    document = data.corpus.get(document_id)
    if document is None:
        raise InputError(f"document {document_id!r} is not in the corpus of {data.name}")
    return document


def _score(block: list[_Task], scorer: Scorer | Ranker) -> list[list[Candidate]]:
    if not isinstance(scorer, Scorer):
        return [_rank(task, scorer) for task in block]
    pairs: list[tuple[str, str | Document]] = [(task.query, document) for task in block for document in task.documents]
    scores = iter(scorer.score(pairs))
    return [[Candidate(str(document.id), float(next(scores))) for document in task.documents] for task in block]


def _rank(task: _Task, ranker: Ranker) -> list[Candidate]:
    ranking = ranker.rank(task.query, task.documents)
    if sorted(hit.index for hit in ranking) != list(range(len(task.documents))):
        raise InputError(
            f"query {task.query_id!r}: a ranking of {len(ranking)} documents came back for {len(task.documents)}; "
            "an evaluation needs each of them once"
        )
    return [Candidate(str(task.documents[hit.index].id), float(hit.score)) for hit in ranking]
