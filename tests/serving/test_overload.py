"""More than the server can do: refused before a body is read, in the dialect of the path; connections live on."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from running_server import wait_until

from crossrank.serving.dialects.choice import DIALECTS
from crossrank.serving.loop_lag import LoopLag

BODY = {"query": "q", "documents": ["Mars"]}
HEAD = b"POST /v1/rerank HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"


@contextmanager
def full_queue(server, gate):
    """Hold a queue full with one large request that is not computed."""
    num_steps = len(gate.batches)
    gate.opened.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.post, "/rerank", {"query": "q", "texts": ["Mars is red. " * 10] * 10})
        wait_until(lambda: len(gate.batches) > num_steps)
        yield
        gate.opened.set()
        assert running.result().status_code == 200


def test_a_body_is_not_waited_for_when_there_is_no_room_and_its_connection_lives_on(start, stub, gate):
    server = start(stub, max_queue_tokens=100)
    with full_queue(server, gate), socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(HEAD)
        refused = client.recv(65536)
        assert refused.startswith(b"HTTP/1.1 429")
        assert b"\r\nretry-after: " in refused
        assert b"\r\nx-request-id: " in refused
        client.sendall(b"x" * 1000)  # what a client goes on sending is no request of its own
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    counted = 'crossrank_rejections_total{dialect="shared",reason="overloaded"} 1.0'
    assert counted in server.get("/metrics").text


def test_a_client_that_sends_a_large_body_first_still_reads_the_refusal(start, stub, gate):
    server = start(stub, max_queue_tokens=100)
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with full_queue(server, gate):
        for body in (b"x" * 20_000_000, [b"y" * 100_000] * 100):  # the second one in chunks
            client.request("POST", "/v2/rerank", body, {"content-type": "application/json"})
            refused = client.getresponse()
            assert refused.status == 429
            assert "no room" in json.loads(refused.read())["message"]
    client.request("POST", "/v2/rerank", json.dumps(BODY))
    assert client.getresponse().status == 200
    client.close()


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: f"{dialect.name}{dialect.paths[0]}")
def test_the_refusal_speaks_the_dialect_of_its_path(start, stub, gate, dialect):
    server = start(stub, max_queue_tokens=100)
    with full_queue(server, gate):
        for path in dialect.paths:
            refused = server.client.post(f"/{dialect.name}{path.replace('{model}', 'm')}", content=b"not read")
            assert refused.status_code == (503 if dialect.name == "nim" else 429)
            assert int(refused.headers["retry-after"]) >= 1
            assert "no room" in refused.text


def test_on_the_path_that_most_apis_share_each_finds_its_message(start, stub, gate):
    server = start(stub, max_queue_tokens=100)
    with full_queue(server, gate):
        said = server.post("/rerank", BODY).json()
        assert said["error"] == said["message"] == said["detail"]
        assert said["error_type"] == "overloaded"
        said = server.post("/v1/rerank", BODY).json()
        assert said["error"]["message"] == said["message"] == said["detail"]


def test_who_may_not_call_is_told_so_also_when_there_is_no_room(start, stub, gate):
    server = start(stub, max_queue_tokens=100, api_keys={"alice": "sk-alice-1"})
    server.client.headers["authorization"] = "Bearer sk-alice-1"
    with full_queue(server, gate):
        assert server.post("/v1/rerank", BODY).status_code == 429
        assert server.post("/v1/rerank", BODY, authorization="Bearer sk-nobody").status_code == 401


def test_a_model_with_room_is_asked_while_another_one_is_full(start, stub, gate, tiny_reranker):
    server = start(stub, max_queue_tokens=100)
    server.service.models.add("other", tiny_reranker)
    with full_queue(server, gate):
        assert server.post("/v1/rerank", BODY | {"model": "other"}).status_code == 200
        assert server.post("/v1/rerank", BODY).status_code == 429


def test_what_comes_to_a_loop_that_lags_is_refused_unread(start):
    server = start()
    server.service.loop_lag.seconds = 0.5
    server.service.loop_lag.stop()
    assert server.post("/v1/rerank", BODY).status_code == 200, "a sixth of a minute is more than that"
    refused = server.client.post("/v1/rerank", content=b"not read", headers={"x-request-timeout": "2"})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert "0.5 s" in refused.json()["message"]
    server.service.loop_lag.seconds = 1.5
    assert server.post("/v1/rerank", BODY).status_code == 429, "nobody waits that long"


def test_a_loop_lags_when_it_is_late_again_and_again():
    async def measure() -> tuple[float, float, float]:
        lag = LoopLag()
        lag.start()
        await asyncio.sleep(0.3)
        time.sleep(0.5)
        await asyncio.sleep(0.15)
        after_a_pause = lag.seconds
        for _ in range(10):
            time.sleep(0.2)
            await asyncio.sleep(0)
        while_busy = lag.seconds
        await asyncio.sleep(0.35)
        lag.stop()
        return after_a_pause, while_busy, lag.seconds

    after_a_pause, while_busy, at_rest = asyncio.run(measure())
    assert after_a_pause < 0.1, "one pause is no overload"
    assert while_busy > 0.1
    assert at_rest < 0.1


def test_many_more_clients_than_there_is_room_for_are_all_answered(start, stub, gate):
    server = start(stub, max_queue_tokens=400)
    slow = threading.Event()
    compute = gate._compute

    def slowly(encoded):
        slow.wait(0.02)
        return compute(encoded)

    gate._compute = slowly
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: server.post("/v1/rerank", BODY | {"documents": ["Mars"] * 8}), range(300)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    assert server.service.num_running == server.service.models.default.queue.num_requests == 0
