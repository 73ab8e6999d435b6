"""The compressor inside LangChain itself."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("langchain_core", reason="pip install langchain-core")

from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import RunnableLambda
from pydantic import ValidationError

from crossrank.integrations.langchain import CrossrankCompressor
from crossrank.integrations.remote import RemoteReranker

QUERY = "Which planet is known as the Red Planet?"
TEXTS = ["Bread needs flour and water.", "Mars is often referred to as the Red Planet.", "Paris"]


@pytest.fixture
def documents():
    return [Document(page_content=text, metadata={"place": i}, id=str(i)) for i, text in enumerate(TEXTS)]


def test_the_best_documents_with_their_scores_and_the_originals_untouched(tiny_reranker, documents):
    compressor = CrossrankCompressor(ranker=tiny_reranker, top_n=2)
    assert isinstance(compressor, BaseDocumentCompressor)
    found = compressor.compress_documents(documents, QUERY)
    expected = tiny_reranker.rank(QUERY, TEXTS, top_k=2)
    assert [(d.id, d.metadata["relevance_score"]) for d in found] == [(str(h.index), h.score) for h in expected]
    assert [d.metadata["place"] for d in found] == [h.index for h in expected]
    assert all("relevance_score" not in document.metadata for document in documents)
    assert list(asyncio.run(compressor.acompress_documents(documents, QUERY))) == list(found)
    assert list(compressor.compress_documents([], QUERY)) == []


def test_in_a_chain_with_probabilities(tiny_reranker, documents):
    compressor = CrossrankCompressor(ranker=tiny_reranker, top_n=None, rank_options={"score_type": "probability"})
    chain = RunnableLambda(lambda query: documents) | (lambda found: compressor.compress_documents(found, QUERY))
    scores = [document.metadata["relevance_score"] for document in chain.invoke(QUERY)]
    assert len(scores) == 3 and all(0 < score < 1 for score in scores)


def test_in_a_compression_retriever(tiny_reranker, documents):
    classic = pytest.importorskip("langchain_classic.retrievers", reason="pip install langchain-classic")
    from langchain_core.retrievers import BaseRetriever

    class All(BaseRetriever):
        def _get_relevant_documents(self, query, *, run_manager):
            return documents

    compressor = CrossrankCompressor(ranker=tiny_reranker, top_n=1)
    retriever = classic.ContextualCompressionRetriever(base_compressor=compressor, base_retriever=All())
    assert [d.id for d in retriever.invoke(QUERY)] == [str(tiny_reranker.rank(QUERY, TEXTS)[0].index)]


def test_over_a_server(server, documents, tiny_reranker):
    remote = RemoteReranker("crossrank", url=server.url)
    found = CrossrankCompressor(ranker=remote, top_n=1).compress_documents(documents, QUERY)
    assert found[0].id == str(tiny_reranker.rank(QUERY, TEXTS)[0].index)


@pytest.mark.parametrize("options", [{"ranker": "a name"}, {"top_n": 0}, {"top_k": 3}])
def test_what_cannot_be_used(options, tiny_reranker):
    with pytest.raises(ValidationError):
        CrossrankCompressor(**{"ranker": tiny_reranker} | options)
