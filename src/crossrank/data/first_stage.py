"""A first-stage run joined with its queries and its corpus: what a reranker is asked, query by query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from crossrank.data.evaluation_set import DocumentStore
from crossrank.data.text import SkippedLines, display_name, skip_or_raise
from crossrank.data.trec import RunQuery, read_run
from crossrank.errors import DataError
from crossrank.types import Document


@dataclass(frozen=True)
class RerankingTask:
    """One query and its candidates.

    Attributes:
        query_id: As in the run.
        query: The text.
        documents: In the order of the run.
        first_stage_scores: Of the documents, in the same order.
    """

    query_id: str
    query: str
    documents: tuple[Document, ...]
    first_stage_scores: tuple[float, ...]


def read_tasks(
    run: str | Path, queries: Mapping[str, str], corpus: DocumentStore, *, skipped: SkippedLines | None = None
) -> Iterator[RerankingTask]:
    """Yield the queries of a run with their texts; holds the documents of one query at a time.

    Args:
        run: A TREC run.
        queries: Text by id.
        corpus: Document by id.
        skipped: Bad lines, and lines whose query or document is unknown, are counted here and left out; so is a query
            without any candidate left. Without it the first such line is an error.

    Raises:
        DataError: If a line is bad, or its query or its document is unknown.
    """
    for item in read_run(run, skipped=skipped):
        if item.query_id not in queries:
            unknown = DataError(f"no text for query {item.query_id!r}", path=display_name(run), line=item.lines[0])
            skip_or_raise(unknown, skipped)
            continue
        task = _join(item, queries[item.query_id], corpus, display_name(run), skipped)
        if task.documents:
            yield task


def _join(item: RunQuery, query: str, corpus: DocumentStore, name: str, skipped: SkippedLines | None) -> RerankingTask:
    documents: list[Document] = []
    scores: list[float] = []
    for candidate, line in zip(item.candidates, item.lines, strict=True):
        document = corpus.get(candidate.document_id)
        if document is None:
            unknown = f"document {candidate.document_id!r} is not in the corpus"
            skip_or_raise(DataError(unknown, path=name, line=line), skipped)
            continue
        documents.append(document)
        scores.append(candidate.score)
    return RerankingTask(item.query_id, query, tuple(documents), tuple(scores))
