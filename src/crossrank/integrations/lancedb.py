"""A reranker as LanceDB wants one: `CrossrankReranker` for `table.search(...).rerank(...)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossrank.errors import InputError, MissingExtra
from crossrank.types import Ranker

try:
    import pyarrow as pa
    from lancedb.rerankers import Reranker as LanceReranker
except ImportError:
    raise MissingExtra("The LanceDB reranker", extra="lancedb") from None

_SCORE = "_relevance_score"


class CrossrankReranker(LanceReranker):
    """Sorts the rows of a vector, full-text or hybrid search, and puts the scores into `_relevance_score`.

    Args:
        ranker: A `Reranker`, a `RemoteReranker`, or any other `Ranker`.
        column: The column with the text.
        return_score: `"relevance"`, or `"all"` to keep the scores of the search, too.
        rank_options: More arguments for `rank`, as `{"score_type": "probability"}`.
    """

    def __init__(
        self,
        ranker: Ranker,
        *,
        column: str = "text",
        return_score: str = "relevance",
        rank_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(return_score)
        self.ranker = ranker
        self.column = column
        self.rank_options = dict(rank_options or {})

    def __str__(self) -> str:
        return f"CrossrankReranker({self.ranker!r})"

    def rerank_hybrid(self, query: str, vector_results: pa.Table, fts_results: pa.Table) -> pa.Table:
        """Return the rows of both searches, best first, each once.

        Raises:
            InputError: If there is no such column of texts.
            RerankError: What the ranker raises.
        """
        merge = self._merge_and_keep_scores if self.score == "all" else self.merge_results
        return self._rerank(query, merge(vector_results, fts_results))

    def rerank_vector(self, query: str, vector_results: pa.Table) -> pa.Table:
        """Return the rows of a vector search, best first; raises as `rerank_hybrid`."""
        return self._rerank(query, vector_results)

    def rerank_fts(self, query: str, fts_results: pa.Table) -> pa.Table:
        """Return the rows of a full-text search, best first; raises as `rerank_hybrid`."""
        return self._rerank(query, fts_results)

    def _rerank(self, query: str, rows: pa.Table) -> pa.Table:
        if self.column not in rows.column_names:
            raise InputError(f"the results have no column {self.column!r}: select it, or name another with column=")
        texts = [text or "" for text in rows[self.column].to_pylist()]
        ranking = self.ranker.rank(query, texts, **self.rank_options) if texts else ()
        best = rows.take(pa.array([hit.index for hit in ranking], pa.int64()))
        scored = best.append_column(_SCORE, pa.array([hit.score for hit in ranking], pa.float32()))
        return self._keep_relevance_score(scored)
