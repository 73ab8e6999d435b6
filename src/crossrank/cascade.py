"""Rankers one after the other: each gets the best documents of the one before it, and the last has the last word."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from crossrank.errors import InputError
from crossrank.retrieval.retriever import Retriever
from crossrank.types import Document, DocumentLike, Hit, Ranker, Ranking, Stage, check_query, to_documents


class Cascade:
    """Stages as one `Ranker`: as in `Cascade([retriever, reranker, llm], keep=[100, 20, 5])`.

    The ranking has the hits of the last stage, on its scale, and in `stages` what each of them did: documents, calls,
    tokens, costs, repairs and failures.

    A stage is a `Ranker`, or a retriever of `crossrank.retrieval` that is given the documents as its corpus: the index
    is kept as long as the documents stay the same. What a retriever does not find is dropped.

    Args:
        stages: At least one, the cheapest first.
        keep: How many of its best documents each stage hands on, never more than the stage before it.

    Raises:
        InputError: If stages and numbers do not go together.
    """

    def __init__(self, stages: Sequence[Ranker | Retriever], keep: Sequence[int]) -> None:
        if not stages or len(stages) != len(keep):
            raise InputError(f"a cascade takes one number to keep for each stage: {len(keep)} for {len(stages)}")
        if any(isinstance(count, bool) or not isinstance(count, int) or count < 1 for count in keep):
            raise InputError(f"a stage keeps a whole number of documents, at least 1, not {list(keep)}")
        if list(keep) != sorted(keep, reverse=True):
            raise InputError(f"a stage cannot keep more than the one before it: {list(keep)}")
        self._stages = [stage if isinstance(stage, Ranker) else _RetrieverStage(stage) for stage in stages]
        self._keep = list(keep)

    def rank(self, query: str, documents: Sequence[DocumentLike], *, top_k: int | None = None) -> Ranking:
        """Rank documents for a query; at most as many as the last stage keeps.

        Args:
            query: What to rank for.
            documents: Strings, `Document`s, or mappings with `text`.
            top_k: Keep the best k of those; all if None.

        Raises:
            RerankError: As the stages do.
        """
        check_query(query)
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k must be a whole number of at least 1, or None for all, not {top_k!r}")
        given = to_documents(documents, reads_images=True)
        positions = list(range(len(given)))
        reports: list[Stage] = []
        for stage, keep in zip(self._stages, self._keep, strict=True):
            ranking = stage.rank(query, [given[i] for i in positions], top_k=keep)
            reports += ranking.stages or (Stage(ranking.model, len(positions)),)
            hits = [replace(hit, index=positions[hit.index], document=given[positions[hit.index]]) for hit in ranking]
            positions = [hit.index for hit in hits]
        model = " > ".join(report.model for report in reports)
        return Ranking(query, tuple(hits[:top_k]), score_type=ranking.score_type, model=model, stages=tuple(reports))


class _RetrieverStage:
    """A retriever as a `Ranker` over the documents that it is given."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        self._indexed: list[Document] | None = None
        self._lock = threading.Lock()

    def rank(self, query: str, documents: Sequence[DocumentLike], *, top_k: int | None = None) -> Ranking:
        given = to_documents(documents)
        name = self._retriever.name
        if not given:
            return Ranking(query, (), score_type="retrieval", model=name)
        with self._lock:
            if self._indexed != given:
                # Positions stand for the ids, which a list of documents need not have.
                self._retriever.index(replace(document, id=str(i)) for i, document in enumerate(given))
                self._indexed = given
            (found,) = self._retriever.search({"query": query}, depth=top_k or len(given))
        numbered = [(int(candidate.document_id), candidate.score) for candidate in found.candidates]
        hits = tuple(Hit(i, score, given[i]) for i, score in numbered)
        return Ranking(query, hits, score_type="retrieval", model=name)
