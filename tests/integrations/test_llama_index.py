"""The postprocessor inside LlamaIndex itself, with what it tells its listeners."""

from __future__ import annotations

import asyncio
import base64

import pytest

pytest.importorskip("llama_index.core", reason="pip install llama-index-core")

from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode

from crossrank import Ranking
from crossrank.errors import InputError
from crossrank.integrations.llama_index import CrossrankRerank

QUERY = "Which planet is known as the Red Planet?"
TEXTS = ["Bread needs flour and water.", "Mars is often referred to as the Red Planet.", "Paris"]


@pytest.fixture
def nodes():
    return [NodeWithScore(node=TextNode(text=text, id_=str(i)), score=0.1 * i) for i, text in enumerate(TEXTS)]


def test_the_best_nodes_and_the_originals_untouched(tiny_reranker, nodes):
    rerank = CrossrankRerank(tiny_reranker, top_n=2)
    found = rerank.postprocess_nodes(nodes, query_str=QUERY)
    expected = [(str(hit.index), pytest.approx(hit.score)) for hit in tiny_reranker.rank(QUERY, TEXTS, top_k=2)]
    assert [(n.node.node_id, n.score) for n in found] == expected
    assert [node.score for node in nodes] == [0.0, 0.1, 0.2]
    assert [
        (n.node.node_id, n.score) for n in asyncio.run(rerank.apostprocess_nodes(nodes, query_str=QUERY))
    ] == expected
    assert rerank.postprocess_nodes([], query_str=QUERY) == []
    assert rerank.class_name() == "CrossrankRerank"


def test_it_reads_the_metadata_that_embedding_models_read(tiny_reranker):
    node = TextNode(text="body", metadata={"title": "Mars", "secret": "x"}, excluded_embed_metadata_keys=["secret"])
    found = CrossrankRerank(tiny_reranker).postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
    assert found[0].score == pytest.approx(tiny_reranker.rank(QUERY, ["title: Mars\n\nbody"])[0].score)


def test_its_events_reach_both_kinds_of_listeners(tiny_reranker, nodes):
    heard = []

    class Listener(BaseEventHandler):
        def handle(self, event, **_):
            heard.append(event)

    debug = LlamaDebugHandler(print_trace_on_end=False)
    rerank = CrossrankRerank(tiny_reranker, top_n=2, callback_manager=CallbackManager([debug]))
    root = get_dispatcher()
    listener = Listener()
    root.add_event_handler(listener)
    try:
        rerank.postprocess_nodes(nodes, query_str=QUERY)
    finally:
        root.event_handlers.remove(listener)
    start = next(event for event in heard if isinstance(event, ReRankStartEvent))
    end = next(event for event in heard if isinstance(event, ReRankEndEvent))
    assert start.query.query_str == QUERY and start.top_n == 2 and len(start.nodes) == 3 and start.model_name
    assert len(end.nodes) == 2
    assert len(debug.get_event_pairs(CBEventType.RERANKING)) == 1


def test_images_are_handed_on():
    class Seeing:
        def rank(self, query, documents, *, top_k=None):
            self.images = [document.image for document in documents]
            return Ranking(query, ())

    seeing = Seeing()
    picture = ImageNode(image=base64.b64encode(b"\x89PNG").decode())
    linked = ImageNode(image_url="https://example.com/a.png")
    texts = [NodeWithScore(node=node) for node in (picture, linked, TextNode(text="a"))]
    CrossrankRerank(seeing).postprocess_nodes(texts, query_str="q")
    assert seeing.images == [b"\x89PNG", "https://example.com/a.png", None]


def test_without_a_query(tiny_reranker, nodes):
    with pytest.raises(InputError, match="needs a query"):
        CrossrankRerank(tiny_reranker).postprocess_nodes(nodes)
