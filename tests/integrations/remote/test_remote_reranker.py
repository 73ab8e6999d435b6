"""Every provider against this server on a real socket, beside the same model at home; then limits and bad answers."""

from __future__ import annotations

import json
import math

import httpx
import numpy as np
import pytest

from crossrank.errors import InputError, NumericalError, RemoteError
from crossrank.integrations.remote import PROVIDERS, RemoteReranker
from crossrank.types import Document, Ranker, Scorer

QUERY = "Which planet is known as the Red Planet?"
TEXTS = ["Bread needs flour and water.", "Mars is often referred to as the Red Planet.", "Paris", "Settings. " * 200]
# Where a server of crossrank speaks each API without a doubt.
PREFIXES = {"crossrank": "", "nim": ""}


def of(server, name: str, **options) -> RemoteReranker:
    return RemoteReranker(name, "tiny", url=server.url + PREFIXES.get(name, f"/{name}"), **options)


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_ranks_as_the_model_at_home(name, server, tiny_reranker):
    with of(server, name) as remote:
        for scale in remote.provider.score_types:
            found = remote.rank(QUERY, TEXTS, score_type=scale)
            at_home = tiny_reranker.rank(QUERY, TEXTS, score_type=scale)
            assert [hit.index for hit in found] == [hit.index for hit in at_home]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in at_home], abs=1e-4)
            assert (found.score_type, found.query, found.model) == (scale, QUERY, "tiny")
            assert len(remote.rank(QUERY, TEXTS, top_k=2, score_type=scale)) == 2


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_scores_pairs_of_several_queries_in_the_order_given(name, server, tiny_reranker):
    pairs = [(query, text) for text in TEXTS for query in (QUERY, "bread")]
    remote = of(server, name, max_documents=3)
    assert isinstance(remote, Scorer) and isinstance(remote, Ranker)
    scores = remote.score(pairs)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, tiny_reranker.score(pairs), atol=2e-3)


def test_a_crossrank_server_says_what_was_cut_and_where_the_best_window_lies(server, tiny_reranker):
    documents = [Document("Paris", title="Capitals"), Document("Settings. " * 200, title="Help")]
    found = of(server, "crossrank").rank(QUERY, documents)
    assert {hit.index: hit.truncated for hit in found} == {0: False, 1: True}
    chunked = of(server, "crossrank", extra_body={"on_overflow": "chunk"}).rank(QUERY, documents)
    assert not any(hit.truncated for hit in chunked)
    start, end = next(hit.span for hit in chunked if hit.index == 1)
    assert 0 <= start < end <= 2000


def answering(answer, asked=None) -> httpx.Client:
    def handle(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if asked is not None:
            asked.append((str(request.url), body))
        return httpx.Response(200, json=answer(body))

    return httpx.Client(transport=httpx.MockTransport(handle))


def test_requests_keep_to_the_limits_and_are_merged():
    asked = []

    def answer(body):  # the number at the end of each text is its score
        return [{"index": i, "score": float(text.split()[-1])} for i, text in enumerate(body["texts"])]

    remote = RemoteReranker("tei", url="http://h", client=answering(answer, asked), concurrency=3)
    ranking = remote.rank("q", [f"text {i}" for i in range(100)])
    assert [hit.index for hit in ranking] == list(range(99, -1, -1))
    assert sorted(len(body["texts"]) for _, body in asked) == [4, 32, 32, 32]
    asked.clear()
    remote.rank("q", [f"{'x' * 1_000_000} {i}" for i in range(3)])
    assert [len(body["texts"]) for _, body in asked] == [1, 1, 1], "2 MB are one text here"


def test_voyage_counts_the_query_with_each_document():
    asked = []

    def answer(body):
        return {"data": [{"index": i, "relevance_score": 0.5} for i in range(len(body["documents"]))]}

    voyage = RemoteReranker("voyage", "rerank-2.5", url="http://h/v1", client=answering(answer, asked))
    voyage.rank("q" * 5000, ["d" * 1000] * 150)
    for url, body in asked:
        assert url == "http://h/v1/rerank"
        assert len(body["query"]) * len(body["documents"]) + sum(map(len, body["documents"])) <= 600_000
    assert sum(len(body["documents"]) for _, body in asked) == 150


@pytest.mark.parametrize("url", ["http://h", "http://h/", "http://h/v1", "http://h/v1/ranking"])
def test_the_address_with_or_without_its_path(url):
    asked = []
    client = answering(lambda body: {"rankings": [{"index": 0, "logit": 1.0}]}, asked)
    RemoteReranker("nim", "m", url=url, client=client).rank("q", ["a"])
    assert asked[0][0] == "http://h/v1/ranking"


def test_the_hosted_service_gets_the_key_of_the_environment(monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", "nvapi-secret")
    seen = []

    def handle(request):
        seen.append(request)
        return httpx.Response(200, json={"rankings": [{"index": 0, "logit": 1.0}]})

    client = httpx.Client(transport=httpx.MockTransport(handle))
    remote = RemoteReranker("nim", "nvidia/nv-rerankqa-mistral-4b-v3", client=client)
    remote.rank("q", ["a"])
    assert seen[0].headers["authorization"] == "Bearer nvapi-secret"
    assert seen[0].url.path == "/v1/retrieval/nvidia/nv-rerankqa-mistral-4b-v3/reranking"
    assert "secret" not in repr(remote)


def test_a_server_with_keys_takes_the_one_of_the_environment(tiny_reranker, monkeypatch):
    from running_server import Running

    with Running.on(tiny_reranker, api_keys={"someone": "0123456789"}) as running:
        for name in PROVIDERS:
            monkeypatch.setenv("MY_KEY", "0123456789")
            assert len(of(running, name, key_variable="MY_KEY").rank("q", ["a", "b"])) == 2
            monkeypatch.setenv("MY_KEY", "another-key")
            with pytest.raises(RemoteError, match="401") as raised:
                of(running, name, key_variable="MY_KEY").rank("q", ["a"])
            assert "another-key" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"provider": "nope"}, "provider must be one of"),
        ({"provider": "cohere", "model": "m"}, "set the environment variable COHERE_API_KEY"),
        ({"provider": "cohere"}, "needs a model"),
        ({"provider": "tei"}, "give the url"),
        ({"provider": "tei", "url": "h:80"}, "must begin with http"),
        ({"provider": "tei", "url": "http://h", "key_variable": "NOT_SET"}, "NOT_SET"),
        ({"provider": "tei", "url": "http://h", "concurrency": 0}, "above 0"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_sent(options, message, monkeypatch):
    monkeypatch.delenv("COHERE_API_KEY", raising=False)
    with pytest.raises(InputError, match=message):
        RemoteReranker(**options)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ([{"index": 0, "score": 1.0}], RemoteError, "1 scores for 2 documents"),
        ([{"index": 0, "score": 1.0}, {"index": 0, "score": 1.0}], RemoteError, "2 scores for 2"),
        ({"results": []}, RemoteError, "another shape"),
        ([{"index": 0, "score": None}, {"index": 1, "score": 1.0}], RemoteError, "another shape"),
    ],
)
def test_an_answer_that_cannot_be_right_is_an_error(answer, error, message):
    remote = RemoteReranker("tei", url="http://h", client=answering(lambda _: answer))
    with pytest.raises(error, match=message):
        remote.rank("q", ["a", "b"])


def test_nan_is_an_error_and_certainty_is_finite():
    nan = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, text='[{"index":0,"score":NaN}]')))
    with pytest.raises(NumericalError, match="nan"):
        RemoteReranker("tei", url="http://h", client=nan).rank("q", ["a"])
    for given, found in [(1.0, 16.118), (0.5, 0.0), (0.0, -16.118)]:
        answer = {"results": [{"index": 0, "relevance_score": given}]}
        remote = RemoteReranker("cohere", "m", url="http://h", client=answering(lambda _, answer=answer: answer))
        assert remote.score([("q", "a")])[0] == pytest.approx(found, abs=1e-2)
        assert math.isfinite(remote.rank("q", ["a"])[0].score)
    outside = answering(lambda _: {"results": [{"index": 0, "relevance_score": -0.2}]})
    with pytest.raises(RemoteError, match=r"outside 0\.\.1"):
        RemoteReranker("jina", "jina-reranker-v3", url="http://h", client=outside).score([("q", "a")])


def test_nothing_to_rank_asks_nothing():
    def refuse(_):
        raise AssertionError("nothing should be sent")

    remote = RemoteReranker("tei", url="http://h", client=httpx.Client(transport=httpx.MockTransport(refuse)))
    assert list(remote.rank("q", [])) == []
    assert remote.score([]).shape == (0,)
    for query, documents in [(" ", ["a"]), (3, ["a"]), ("q", "a"), ("q", [Document(image=b"\x89PNG")]), ("q", [3])]:
        with pytest.raises(InputError):
            remote.rank(query, documents)
