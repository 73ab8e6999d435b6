"""The reranker inside LanceDB: vector, full-text and hybrid searches of a real table."""

from __future__ import annotations

import pytest

pytest.importorskip("lancedb", reason="pip install lancedb")

import lancedb
import pyarrow as pa

from crossrank.errors import InputError
from crossrank.integrations.lancedb import CrossrankReranker

QUERY = "red planet"
TEXTS = ["Bread needs flour.", "Mars is the red planet.", "A planet is red.", "Paris is a red city."]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    database = lancedb.connect(tmp_path_factory.mktemp("lance"))
    rows = [{"id": i, "text": text, "vector": [float(i), 1.0]} for i, text in enumerate(TEXTS)]
    table = database.create_table("texts", rows)
    table.create_fts_index("text", replace=True)
    return table


def expected(reranker, ids):
    hits = reranker.rank(QUERY, [TEXTS[i] for i in ids])
    return [(ids[hit.index], pytest.approx(hit.score, abs=1e-5)) for hit in hits]


def found(rows):
    assert rows["_relevance_score"].type == pa.float32()
    return list(zip(rows["id"].to_pylist(), rows["_relevance_score"].to_pylist(), strict=True))


def test_a_vector_search(table, tiny_reranker):
    rows = table.search([0.0, 1.0]).limit(3).rerank(CrossrankReranker(tiny_reranker), query_string=QUERY).to_arrow()
    assert found(rows) == expected(tiny_reranker, [0, 1, 2])
    assert "_distance" not in rows.column_names


def test_a_full_text_search(table, tiny_reranker):
    rows = table.search(QUERY, query_type="fts").limit(4).rerank(CrossrankReranker(tiny_reranker)).to_arrow()
    assert found(rows) == expected(tiny_reranker, [1, 2, 3])
    assert "_score" not in rows.column_names


@pytest.mark.parametrize("return_score", ["relevance", "all"])
def test_a_hybrid_search(table, tiny_reranker, return_score):
    reranker = CrossrankReranker(tiny_reranker, return_score=return_score)
    search = table.search(query_type="hybrid").vector([0.0, 1.0]).text(QUERY).limit(4)
    rows = search.rerank(reranker).to_arrow()
    assert found(rows) == expected(tiny_reranker, [0, 1, 2, 3])
    assert {"_score", "_distance"} <= set(rows.column_names) or return_score == "relevance"


def test_empty_results_and_a_missing_column(table, tiny_reranker):
    reranker = CrossrankReranker(tiny_reranker)
    rows = table.search("nothing", query_type="fts").rerank(reranker).to_arrow()
    assert len(rows) == 0 and "_relevance_score" in rows.column_names
    with pytest.raises(InputError, match="no column 'body'"):
        CrossrankReranker(tiny_reranker, column="body").rerank_vector(QUERY, rows)
