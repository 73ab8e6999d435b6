"""The component inside Haystack pipelines, saved and loaded."""

from __future__ import annotations

import asyncio
import inspect

import pytest

pytest.importorskip("haystack", reason="pip install haystack-ai")

from haystack import Document, Pipeline

from crossrank.errors import InputError
from crossrank.integrations.haystack import CrossrankRanker

QUERY = "Which planet is known as the Red Planet?"
TEXTS = ["Bread needs flour and water.", "Mars is often referred to as the Red Planet.", "Paris"]


def load(pipeline: Pipeline) -> Pipeline:
    """Newer versions load classes of other packages only when told so."""
    told = {"allowed_modules": [CrossrankRanker.__module__]}
    known = inspect.signature(Pipeline.loads).parameters
    return Pipeline.loads(pipeline.dumps(), **told if "allowed_modules" in known else {})


@pytest.fixture
def documents():
    return [Document(id=str(i), content=text, score=0.1, meta={"title": f"T{i}"}) for i, text in enumerate(TEXTS)]


@pytest.fixture
def ranker(tiny_checkpoint):
    return CrossrankRanker(str(tiny_checkpoint("bert")), load_options={"backend": "torch"})


def test_the_best_documents_in_a_pipeline_that_was_saved(ranker, documents, tiny_reranker):
    pipeline = Pipeline()
    pipeline.add_component("ranker", ranker)
    restored = load(pipeline)
    found = restored.run({"ranker": {"query": QUERY, "documents": documents, "top_k": 2}})["ranker"]["documents"]
    expected = tiny_reranker.rank(QUERY, TEXTS, top_k=2, score_type="probability")
    assert [(d.id, d.score) for d in found] == [(str(h.index), pytest.approx(h.score, abs=1e-5)) for h in expected]
    assert [document.score for document in documents] == [0.1] * 3
    again = asyncio.run(ranker.run_async(QUERY, documents, top_k=2))["documents"]
    assert [document.id for document in again] == [document.id for document in found]


def test_meta_threshold_and_duplicates(ranker, documents, tiny_reranker):
    ranker.meta_fields_to_embed = ["title", "missing"]
    better = Document(id="0", content=TEXTS[0], score=0.9, meta={"title": "best"})
    found = ranker.run(QUERY, [*documents, better])["documents"]
    assert sorted(document.id for document in found) == ["0", "1", "2"]
    zero = next(document for document in found if document.id == "0")
    assert zero.meta["title"] == "best"
    alone = tiny_reranker.rank(QUERY, [f"best\n{TEXTS[0]}"], score_type="probability")[0].score
    assert zero.score == pytest.approx(alone, abs=1e-5)
    threshold = found[1].score
    assert len(ranker.run(QUERY, [*documents, better], score_threshold=threshold)["documents"]) == 2
    assert ranker.run(QUERY, []) == {"documents": []}


def test_a_remote_one_is_saved_without_its_key(server, documents, tiny_reranker, monkeypatch):
    monkeypatch.setenv("CROSSRANK_API_KEY", "very-secret")
    pipeline = Pipeline()
    pipeline.add_component("ranker", CrossrankRanker(remote={"provider": "crossrank", "url": server.url}, top_k=1))
    assert "very-secret" not in pipeline.dumps()
    found = load(pipeline).run({"ranker": {"query": QUERY, "documents": documents}})
    assert found["ranker"]["documents"][0].id == str(tiny_reranker.rank(QUERY, TEXTS)[0].index)


def test_what_cannot_be_used():
    with pytest.raises(InputError, match="not both"):
        CrossrankRanker("m", remote={"provider": "tei"})
    with pytest.raises(InputError, match="top_k"):
        CrossrankRanker(top_k=0)
