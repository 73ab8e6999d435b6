from __future__ import annotations

import pytest

from crossrank import Cascade, Document, Hit, LLMReranker, Ranking, Reranker
from crossrank.errors import InputError
from crossrank.llm.client import ChatClient, Prices
from crossrank.retrieval.bm25 import BM25
from crossrank.types import Ranker, to_documents

TEXTS = [
    "Bread needs flour, water, salt and yeast.",
    "Venus is the hottest planet.",
    "Mars is the red planet, and its dust is red.",
    "The red dress hangs in the red room.",
    "A planet moves around a star.",
]


class ByLength:
    """Ranks by length of the text, the longest first."""

    def __init__(self):
        self.seen = []

    def rank(self, query, documents, *, top_k=None):
        given = to_documents(documents)
        self.seen.append([document.text for document in given])
        order = sorted(range(len(given)), key=lambda i: -len(given[i].text))[:top_k]
        hits = tuple(Hit(i, float(len(given[i].text)), given[i], truncated=i == 0) for i in order)
        return Ranking(query, hits, score_type="length", model="by-length")


def test_each_stage_gets_the_best_of_the_one_before_it_and_positions_are_those_of_the_input():
    asked = []

    def chat(messages):
        asked.append(messages[1]["content"])
        return '{"ranking": [2, 1]}'

    middle = ByLength()
    llm = LLMReranker(ChatClient(chat, prices=Prices(1.0, 1.0)))
    cascade = Cascade([BM25(), middle, llm], keep=[3, 2, 1])
    assert isinstance(cascade, Ranker)
    documents = [Document(text, id="same") for text in TEXTS]
    ranking = cascade.rank("red planet", documents)
    assert len(middle.seen[0]) == 3 and TEXTS[0] not in middle.seen[0]
    assert asked[0].count("</passage>") == 2
    by_length = sorted(middle.seen[0], key=len, reverse=True)[:2]
    assert [hit.document.text for hit in ranking] == [by_length[1]]
    assert TEXTS[ranking[0].index] == by_length[1] and ranking[0].document is documents[ranking[0].index]
    assert [(stage.model, stage.documents) for stage in ranking.stages] == [
        ("bm25", 5),
        ("by-length", 3),
        (llm.rank("q", []).model, 2),
    ]
    assert [stage.usage.calls for stage in ranking.stages] == [0, 0, 1]
    assert ranking.stages[2].usage.cost_usd > 0 and ranking.stages[0].usage.cost_usd is None
    assert ranking.score_type == "reciprocal rank"


def test_the_index_of_a_retriever_is_kept_while_the_documents_stay_the_same(monkeypatch):
    indexed = []
    index = BM25.index
    monkeypatch.setattr(BM25, "index", lambda self, corpus, **options: indexed.append(1) or index(self, corpus))
    cascade = Cascade([BM25(), ByLength()], keep=[2, 2])
    assert [hit.index for hit in cascade.rank("red planet", TEXTS)] == [2, 3]
    cascade.rank("flour", list(TEXTS))
    assert len(indexed) == 1
    assert [hit.index for hit in cascade.rank("red planet", TEXTS[3:])] == [0, 1]
    assert len(indexed) == 2
    assert list(cascade.rank("zebra", TEXTS)) == [] and list(cascade.rank("red", [])) == []


def test_a_real_cross_encoder_prefilters_and_a_failing_model_keeps_its_order():
    reranker = Reranker.load()
    ranking = Cascade([reranker, LLMReranker(lambda messages: "I cannot do that")], keep=[3, 2]).rank(
        "red planet", TEXTS
    )
    expected = reranker.rank("red planet", TEXTS, top_k=2)
    assert [hit.index for hit in ranking] == [hit.index for hit in expected]
    assert ranking.stages[1].failures and ranking.stages[1].documents == 3


def test_top_k_and_nested_cascades():
    inner = Cascade([ByLength(), ByLength()], keep=[4, 3])
    ranking = Cascade([inner, ByLength()], keep=[3, 2]).rank("q", TEXTS, top_k=1)
    assert [hit.index for hit in ranking] == [2] and len(ranking.stages) == 3


@pytest.mark.parametrize("keep", [[], [1, 2], [0], [3, 0], [2, 3], [1.5, 1], [True, True], [3, 2, 1]])
def test_numbers_that_do_not_fit(keep):
    with pytest.raises(InputError):
        Cascade([ByLength(), ByLength()], keep=keep)


def test_bad_input():
    cascade = Cascade([ByLength()], keep=[2])
    for query, documents, top_k in (("", TEXTS, None), ("q", "text", None), ("q", TEXTS, 0)):
        with pytest.raises(InputError):
            cascade.rank(query, documents, top_k=top_k)
