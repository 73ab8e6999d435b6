"""What products with a field for an address send, written from their sources and documentation, against this server.

Each reads the answer as the product does. The Elasticsearch and OpenSearch settings are those of docs/integrations.md.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

QUERY = 'Which planet is "red"?'
TEXTS = ["Bread needs flour and water.", "Mars is often referred to as the Red Planet.", "Paris\nis a city"]
DOCS = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text(encoding="utf-8")


@pytest.fixture
def expected(tiny_reranker):
    return [
        (hit.index, pytest.approx(hit.score, abs=1e-5))
        for hit in tiny_reranker.rank(QUERY, TEXTS, score_type="probability")
    ]


def setting(head: str) -> dict:
    """The JSON that the documentation tells to send to a product."""
    return json.loads(DOCS.split(head, 1)[1].split("```", 1)[0])


def filled(template: str, **values) -> dict:
    """A template of a product with its placeholders filled; inside quotes the text alone, escaped."""
    return json.loads(re.sub(r"\$\{(?:parameters\.)?(\w+)\}", lambda found: values[found[1]], template))


def test_open_webui(server, expected):
    body = {"model": "default", "query": QUERY, "documents": TEXTS, "top_n": len(TEXTS)}
    results = server.post("/v1/rerank", body, authorization="Bearer").json()["results"]
    assert [(r["index"], r["relevance_score"]) for r in results] == expected
    by_index = sorted(results, key=lambda result: result["index"])
    assert [result["index"] for result in by_index] == [0, 1, 2], "it wants every index"
    assert all(0 <= result["relevance_score"] <= 1 for result in results), "its threshold is from 0 to 1"


def test_dify(server, expected):
    """The plugin checks the address with three documents before it uses it."""
    check = {"model": "default", "query": "What is the capital of the United States?", "documents": TEXTS, "top_n": 3}
    assert len(server.post("/v1/rerank", check, authorization="Bearer any").json()["results"]) == 3
    for top_n in (None, 20):
        body = {"model": "default", "query": QUERY, "documents": TEXTS, "top_n": top_n}
        results = server.post("/v1/rerank", body).json()["results"]
        assert [(r["index"], r["relevance_score"]) for r in results] == expected
        assert [r["document"]["text"] for r in results] == [TEXTS[r["index"]] for r in results]


def test_dify_with_its_plugin_for_text_embeddings_inference(server, expected):
    info = server.get("/tei/info").json()
    assert "reranker" in info["model_type"] and info["max_input_length"] > 0
    body = {"query": QUERY, "texts": TEXTS, "return_text": True}
    answer = server.post("/tei/rerank", body).json()
    assert [(hit["index"], hit["score"]) for hit in answer] == expected
    assert [hit["text"] for hit in answer] == [TEXTS[hit["index"]] for hit in answer]


# What the template may hold, too.
MORE = ', "top_n": ${top_n}, "return_documents": ${return_documents}}'


@pytest.mark.parametrize(("more", "top_n", "has_documents"), [("}", 3, True), (MORE, 2, True), (MORE, 10, False)])
def test_elasticsearch(server, expected, more, top_n, has_documents):
    settings = setting("PUT _inference/rerank/crossrank\n")["service_settings"]
    values = {"query": json.dumps(QUERY), "input": json.dumps(TEXTS), "top_n": str(top_n)}
    template = settings["request"].removesuffix("}") + more
    body = filled(template, **values, return_documents=json.dumps(has_documents))
    answer = server.post(settings["url"].removeprefix("http://HOST:8000"), body).json()
    parser = settings["response"]["json_parser"]
    found = zip(values_at(parser["reranked_index"], answer), values_at(parser["relevance_score"], answer), strict=True)
    assert list(found) == expected[:top_n]
    if has_documents:
        assert values_at(parser["document_text"], answer) == [TEXTS[index] for index, _ in expected[:top_n]]


def values_at(path: str, answer) -> list:
    """The values of a path as `$.results[*].document.text`."""
    found = re.fullmatch(r"\$\.(\w+)\[\*\]\.([\w.]+)", path)
    values = answer[found[1]]
    for name in found[2].split("."):
        values = [value[name] for value in values]
    return values


def test_opensearch(server, expected):
    """Its post-processing puts the score of each document where it was: it sorts by `index` itself."""
    action = setting("POST /_plugins/_ml/connectors/_create\n")["actions"][0]
    values = {"query": json.dumps(QUERY)[1:-1], "documents": json.dumps(TEXTS), "model": "default"}
    body = filled(action["request_body"], **values, top_n=str(len(TEXTS)))
    results = server.post(action["url"].removeprefix("http://HOST:8000"), body).json()["results"]
    assert [(r["index"], r["relevance_score"]) for r in results] == expected
