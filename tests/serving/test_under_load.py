"""Many clients at once: batches across requests, a bounded queue, deadlines, abandoned requests, failures."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from running_server import wait_until

from crossrank.serving import runtime

QUERY = "Which planet is known as the Red Planet?"
TEXTS = [
    "Mars is often referred to as the Red Planet.",
    "Bread needs flour, water, salt and yeast, and an hour of rest.",
    "Venus " * 60,
    "Paris",
    "How many people live in the city, and how large is the river? " * 40,
]


def body(texts=("Mars",), query=QUERY, **more):
    return {"query": query, "texts": list(texts), "raw_scores": True} | more


def scores(answer) -> list[float]:
    assert answer.status_code == 200, answer.text
    return [hit["score"] for hit in sorted(answer.json(), key=lambda hit: hit["index"])]


def test_scores_are_the_same_whatever_is_computed_together(start, stub, gate, tiny_reranker):
    server = start(stub, batch_tokens=700)
    requests = [[TEXTS[(i + k) % len(TEXTS)] for k in range(1 + i % 5)] for i in range(24)]
    gate.opened.clear()
    first = len(gate.batches)
    with ThreadPoolExecutor(24) as pool:
        answers = [pool.submit(server.post, "/rerank", body(texts)) for texts in requests]
        queue = server.service.models.default.queue
        wait_until(lambda: queue.num_requests == 24)
        time.sleep(0.2)  # the last ones are tokenised
        gate.opened.set()
        answers = [answer.result() for answer in answers]
    for texts, answer in zip(requests, answers, strict=True):
        alone = tiny_reranker.score([(QUERY, text) for text in texts])
        np.testing.assert_allclose(scores(answer), alone, atol=1e-5)
    sizes = [len(lengths) for lengths in gate.batches[first:]]
    assert len(sizes) < 24, "requests shared steps"
    assert max(sum(lengths) for lengths in gate.batches[first:]) <= 700
    assert sum(sizes) == sum(map(len, requests))


def test_a_full_queue_answers_429_with_retry_after_and_takes_nothing_of_the_request(start, stub, gate):
    server = start(stub, max_queue_tokens=100)
    queue, num_warm_up = server.service.models.default.queue, len(gate.batches)
    gate.opened.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.post, "/rerank", body(["Mars is red. " * 10]))
        wait_until(lambda: len(gate.batches) > num_warm_up)
        before = queue.num_tokens
        began = time.monotonic()
        refused = server.post("/rerank", body(["Mars"] * 50))
        assert time.monotonic() - began < 2, "at once"
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error_type"] == "overloaded"
        for path, status in (("/v1/rerank", 429), ("/v2/rerank", 429), ("/v1/ranking", 503), ("/score", 429)):
            keys = {"/v1/ranking": "passages"}
            other = server.post(path, {"query": "q", "queries": "q", keys.get(path, "documents"): ["Mars"] * 50})
            assert (other.status_code, "retry-after" in other.headers) == (status, True), path
        assert (queue.num_requests, queue.num_tokens) == (1, before)
        gate.opened.set()
        assert running.result().status_code == 200
    assert server.post("/rerank", body()).status_code == 200


def test_a_request_that_cannot_be_done_in_its_time_is_answered_504_and_leaves_the_queue(start, stub, gate):
    server = start(stub)
    gate.opened.clear()
    began = time.monotonic()
    late = server.post("/v1/rerank", {"query": "q", "documents": ["Mars"]}, x_request_timeout="0.3")
    assert late.status_code == 504
    assert 0.2 < time.monotonic() - began < 5
    assert server.service.models.default.queue.num_requests == 0


def test_a_body_that_does_not_come_is_not_waited_for(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"POST /rerank HTTP/1.1\r\nhost: x\r\nx-request-timeout: 0.3\r\ncontent-length: 100\r\n\r\n{")
        assert client.recv(100).startswith(b"HTTP/1.1 504")


def test_what_is_late_in_the_queue_is_never_computed(start, stub, gate):
    server = start(stub, max_batch_requests=1)
    gate.opened.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(server.post, "/rerank", body(["Mars"]))
        wait_until(lambda: gate.batches and gate.batches[-1] != gate.batches[0])
        late = pool.submit(server.post, "/rerank", body(["Paris"] * 7), x_request_timeout="0.3")
        assert late.result().status_code == 504
        gate.opened.set()
        assert first.result().status_code == 200
    assert server.post("/rerank", body(["Venus", "Mars"])).status_code == 200
    assert [len(lengths) for lengths in gate.batches[-2:]] == [1, 2], "the 7 documents are in no step"


@pytest.mark.parametrize("value", ["soon", "-1", "0", "nan"])
def test_a_deadline_must_be_seconds(server, value):
    answer = server.post("/rerank", body(), x_request_timeout=value)
    assert answer.status_code == 422
    assert "x-request-timeout" in answer.json()["message"]


def test_an_abandoned_request_is_dropped_before_it_is_computed(start, stub, gate):
    server = start(stub, max_batch_requests=1)
    queue = server.service.models.default.queue
    gate.opened.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.post, "/rerank", body(["Mars"]))
        wait_until(lambda: queue.num_requests == 1)
        content = b'{"query": "red", "texts": ["a", "b", "c", "d", "e", "f", "g"]}'
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            head = f"POST /rerank HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n".encode()
            client.sendall(head + content)
            wait_until(lambda: queue.num_requests == 2)
        wait_until(lambda: queue.num_requests == 1)
        gate.opened.set()
        assert first.result().status_code == 200
    assert server.post("/rerank", body(["Venus", "Mars"])).status_code == 200
    assert [len(lengths) for lengths in gate.batches[-2:]] == [1, 2], "the 7 texts are in no step"
    counted = 'crossrank_rejections_total{dialect="tei",reason="abandoned"} 1.0'
    wait_until(lambda: counted in server.get("/metrics").text)


def test_health_is_red_after_a_backend_failure_and_green_when_the_backend_works_again(start, stub, monkeypatch):
    monkeypatch.setattr(runtime, "_PROBE_INTERVAL_S", 0.3)
    server = start(stub)
    assert server.get("/health").status_code == server.get("/v1/health/ready").status_code == 200
    works = type(stub).compute.__get__(stub)

    def broken(encoded):
        raise RuntimeError("CUDA error: out of memory")

    stub.compute = broken
    failed = server.post("/rerank", body())
    assert failed.status_code == 424
    assert failed.json() == {"error": "the backend of model tiny failed", "error_type": "backend"}
    assert server.get("/health").status_code == 503
    assert server.get("/v1/health/ready").status_code == 503
    assert server.get("/.well-known/ready").status_code == 503
    refused = server.post("/rerank", body())
    assert (refused.status_code, refused.json()["error_type"]) == (503, "unhealthy")
    wait_until(lambda: server.get("/v1/health/live").status_code == 503)  # it fails again: only a restart may help
    stub.compute = works
    wait_until(lambda: server.get("/health").status_code == 200)
    assert server.get("/v1/health/live").status_code == 200
    assert server.post("/rerank", body()).status_code == 200


def test_a_score_that_is_not_a_number_fails_its_request_alone(start, stub, gate, tiny_reranker):
    server = start(stub)
    real = gate._compute

    def poisoned(encoded):
        logits = real(encoded).copy()
        logits[np.array([len(ids) for ids in encoded.input_ids]) == 11] = np.nan
        return logits

    gate._compute = poisoned
    length = next(n for n in range(1, 40) if tiny_reranker.prepare([("a", "b " * n)]).encoded.lengths[0] == 11)
    good = body(["b b"], query="a")
    bad = server.post("/rerank", body(["b b", "b " * length], query="a"))
    assert bad.status_code == 424
    assert "pair 1" in bad.json()["error"]
    assert server.post("/rerank", good).status_code == 200
    assert server.get("/health").status_code == 200


def test_priorities_and_long_requests_share_the_engine(start, stub, gate):
    server = start(stub, batch_tokens=200)
    queue = server.service.models.default.queue
    gate.opened.clear()
    with ThreadPoolExecutor(3) as pool:
        blocker = pool.submit(server.post, "/rerank", body(["Mars"]))
        wait_until(lambda: queue.num_requests == 1)
        long = pool.submit(server.post, "/v2/rerank", {"query": QUERY, "documents": ["Mars is red."] * 200})
        wait_until(lambda: queue.num_requests == 2)
        short = pool.submit(server.post, "/v2/rerank", {"query": QUERY, "documents": ["Paris"], "priority": 0})
        wait_until(lambda: queue.num_requests == 3)
        time.sleep(0.2)
        gate.opened.set()
        assert short.result().status_code == 200
        assert not long.done(), "the short one did not wait for the long one"
        assert long.result().status_code == blocker.result().status_code == 200


def test_limits_of_each_key(start):
    keys = {"alice": "sk-alice-1", "bob": "sk-bob-123"}
    server = start(api_keys=keys, requests_per_minute=2)
    alice, bob = ({"authorization": f"Bearer {key}"} for key in keys.values())
    assert [server.post("/rerank", body(), **alice).status_code for _ in range(3)] == [200, 200, 429]
    refused = server.post("/rerank", body(), **alice)
    assert int(refused.headers["retry-after"]) >= 1
    assert server.post("/rerank", body(), **bob).status_code == 200


def test_requests_at_a_time_of_one_key(start, stub, gate):
    server = start(stub, concurrent_requests=1)
    gate.opened.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.post, "/rerank", body())
        wait_until(lambda: server.service.models.default.queue.num_requests == 1)
        assert server.post("/rerank", body()).status_code == 429
        gate.opened.set()
        assert first.result().status_code == 200
    assert server.post("/rerank", body()).status_code == 200
