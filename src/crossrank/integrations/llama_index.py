"""A reranker as LlamaIndex wants one: `CrossrankRerank`, a node postprocessor that tells the events of reranking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossrank.errors import InputError, MissingExtra
from crossrank.types import Document, Ranker

try:
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
    from llama_index.core.callbacks import CBEventType, EventPayload
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import BaseNode, ImageNode, MetadataMode, NodeWithScore, QueryBundle
except ImportError:
    raise MissingExtra("The LlamaIndex postprocessor", extra="llama-index") from None

_dispatcher = get_dispatcher(__name__)


class CrossrankRerank(BaseNodePostprocessor):
    """Keeps the best nodes, best first, with the reranker's score; the nodes that came in stay as they are.

    Attributes:
        top_n: How many nodes to keep; all if None.
        rank_options: More arguments for `rank`, as `{"score_type": "probability"}`.
    """

    top_n: int | None = Field(default=2, ge=1, description="How many nodes to keep; all if None.")
    rank_options: dict[str, Any] = Field(default_factory=dict, description="More arguments for `rank`.")
    _ranker: Ranker = PrivateAttr()

    def __init__(
        self, ranker: Ranker, *, top_n: int | None = 2, rank_options: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(top_n=top_n, rank_options=dict(rank_options or {}), **kwargs)
        self._ranker = ranker

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex files the component."""
        return "CrossrankRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise InputError("reranking needs a query: give query_str or query_bundle")
        if not nodes:
            return []
        query = query_bundle.query_str
        top_n = self.top_n or len(nodes)
        model = repr(self._ranker)
        _dispatcher.event(ReRankStartEvent(query=query_bundle, nodes=nodes, top_n=top_n, model_name=model))
        payload = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: model,
            EventPayload.QUERY_STR: query,
            EventPayload.TOP_K: top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            documents = [_document(node.node) for node in nodes]
            ranking = self._ranker.rank(query, documents, top_k=top_n, **self.rank_options)
            best = [NodeWithScore(node=nodes[hit.index].node, score=hit.score) for hit in ranking]
            event.on_end(payload={EventPayload.NODES: best})
        _dispatcher.event(ReRankEndEvent(nodes=best))
        return best


def _document(node: BaseNode) -> Document:
    """Return what embedding models read of a node, and its image."""
    text = node.get_content(metadata_mode=MetadataMode.EMBED)
    if not isinstance(node, ImageNode) or not (node.image or node.image_path or node.image_url):
        return Document(text)
    # An address is left to the reranker: fetching it is nothing to do unasked.
    return Document(text, image=node.image_url or node.resolve_image().read())
