"""A reranker as Haystack wants one: `CrossrankRanker`, a component that pipelines can save and load."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from crossrank.errors import InputError, MissingExtra
from crossrank.types import Ranker

try:
    from haystack import Document, component, default_from_dict, default_to_dict
except ImportError:
    raise MissingExtra("The Haystack ranker", extra="haystack") from None


@component
class CrossrankRanker:
    """Keeps the best documents, best first, with the reranker's score.

    Args:
        model: A folder, a name on the hub, or None for the model that ships in the package.
        top_k: How many documents to keep; all if None.
        score_threshold: Drops what scores lower.
        meta_fields_to_embed: Fields of a document's meta to put before its content.
        embedding_separator: Between those fields and the content.
        load_options: More arguments for `Reranker.load`.
        rank_options: More arguments for `rank`; by default the scores are probabilities.
        remote: Instead of a model here: the arguments of a `RemoteReranker`, whose keys are in the environment and so
            never in a saved pipeline.

    Raises:
        InputError: If both a model and a remote one are given, or `top_k` is below 1.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        top_k: int | None = 10,
        score_threshold: float | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        load_options: dict[str, Any] | None = None,
        rank_options: dict[str, Any] | None = None,
        remote: dict[str, Any] | None = None,
    ) -> None:
        if remote is not None and (model is not None or load_options):
            raise InputError("give either a model or a remote reranker, not both")
        _check_top_k(top_k)
        self.model = model
        self.top_k = top_k
        self.score_threshold = score_threshold
        self.meta_fields_to_embed = meta_fields_to_embed or []
        self.embedding_separator = embedding_separator
        self.load_options = load_options or {}
        self.rank_options = rank_options if rank_options is not None else {"score_type": "probability"}
        self.remote = remote
        self._ranker: Ranker | None = None

    def warm_up(self) -> None:
        """Load the model, once."""
        if self._ranker is None:
            self._ranker = self._load()

    def to_dict(self) -> dict[str, Any]:
        """Return what a saved pipeline holds."""
        saved: dict[str, Any] = default_to_dict(
            self,
            model=self.model,
            top_k=self.top_k,
            score_threshold=self.score_threshold,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
            load_options=self.load_options,
            rank_options=self.rank_options,
            remote=self.remote,
        )
        return saved

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CrossrankRanker:
        """Return the component of a saved pipeline."""
        restored: CrossrankRanker = default_from_dict(cls, data)
        return restored

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """Return the best documents for a query; of several with the same id the one with the best score before.

        Args:
            query: What to rank for.
            documents: From a retriever.
            top_k: Instead of the component's own.
            score_threshold: Instead of the component's own.

        Raises:
            RerankError: What the reranker raises.
        """
        _check_top_k(top_k)
        self.warm_up()
        assert self._ranker is not None
        unique = _unique(documents)
        texts = [self._text(document) for document in unique]
        ranking = self._ranker.rank(query, texts, top_k=top_k or self.top_k, **self.rank_options)
        lowest = self.score_threshold if score_threshold is None else score_threshold
        kept = [hit for hit in ranking if lowest is None or hit.score >= lowest]
        return {"documents": [replace(unique[hit.index], score=hit.score) for hit in kept]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """Do as `run`, in a thread beside the event loop."""
        return await asyncio.to_thread(self.run, query, documents, top_k, score_threshold)

    def _load(self) -> Ranker:
        if self.remote is not None:
            from crossrank.integrations.remote import RemoteReranker

            return RemoteReranker(**self.remote)
        from crossrank.reranker import Reranker

        return Reranker.load(self.model, **self.load_options)

    def _text(self, document: Document) -> str:
        meta: Mapping[str, Any] = document.meta
        parts = [str(meta[field]) for field in self.meta_fields_to_embed if meta.get(field)]
        return self.embedding_separator.join([*parts, document.content or ""])


def _unique(documents: list[Document]) -> list[Document]:
    best: dict[str, Document] = {}
    for document in documents:
        known = best.setdefault(document.id, document)
        if (document.score or 0.0) > (known.score or 0.0):
            best[document.id] = document
    return list(best.values())


def _check_top_k(top_k: int | None) -> None:
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k must be at least 1, or None for all, not {top_k}")
