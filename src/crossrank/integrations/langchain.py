"""A reranker as LangChain wants one: `CrossrankCompressor` for a `ContextualCompressionRetriever`, or by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, Field

from crossrank.errors import MissingExtra
from crossrank.types import Ranker

try:
    from langchain_core.callbacks import Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
except ImportError:
    raise MissingExtra("The LangChain compressor", extra="langchain") from None


class CrossrankCompressor(BaseDocumentCompressor):
    """Keeps the best documents, best first, with `relevance_score` in the metadata of a copy of each.

    Attributes:
        ranker: A `Reranker`, a `RemoteReranker`, or any other `Ranker`.
        top_n: How many documents to keep; all if None.
        rank_options: More arguments for `rank`, as `{"score_type": "probability"}`.
    """

    ranker: Ranker
    top_n: int | None = Field(default=3, ge=1)
    rank_options: dict[str, Any] = Field(default_factory=dict)

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Return the best documents for a query.

        Raises:
            RerankError: What the ranker raises.
        """
        texts = [document.page_content for document in documents]
        ranking = self.ranker.rank(query, texts, top_k=self.top_n, **self.rank_options)
        return [_with_score(documents[hit.index], hit.score) for hit in ranking]


def _with_score(document: Document, score: float) -> Document:
    return document.model_copy(update={"metadata": document.metadata | {"relevance_score": score}})
