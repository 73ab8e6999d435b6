"""The load generator and the comparison of `benchmarks/serve.py`, on hand-made numbers and a server of ten lines."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import open_loop
    import serve

    yield open_loop, serve
    for name in ("open_loop", "serve", "workload"):
        sys.modules.pop(name, None)


def row(throughput, p95, rejected=0, failed=0):
    return {"throughput": throughput, "p95": p95, "rejected": rejected, "failed": failed}


def test_what_is_held_is_read_between_the_rates(modules):
    _, serve = modules
    rows = [row(10, 50), row(20, 100), row(30, 300)]
    assert serve.held_throughput(rows, 300) == 30
    assert serve.held_throughput(rows, 200) == pytest.approx(25)
    assert serve.held_throughput(rows, 49) == 0
    assert serve.held_throughput([row(10, 50), row(20, 60, rejected=1)], 100) == 10
    found = serve.compare({"continuous": rows, "one at a time": [row(10, 100), row(12, 400)]}, [20, 100])
    assert found == [{"p95": 100, "continuous": 20, "one at a time": 10, "ratio": 2.0}]


def test_latency_counts_from_the_planned_moment(modules):
    open_loop, _ = modules

    async def measure():
        busy = asyncio.Lock()

        async def answer(reader, writer):
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(2)
                async with busy:
                    await asyncio.sleep(0.05)  # 20 a second at most
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        load = await open_loop.drive(port, "/", [b"{}"], rate=60, seconds=0.5, seed=1)
        server.close()
        return load

    load = asyncio.run(measure())
    assert load.num_sent > 20, "three times what the server answers was sent all the same"
    assert set(load.latencies) == {200}
    assert load.throughput < 21
    assert load.percentile(0.95) > 400, "the backlog shows in the latency"
    assert load.percentile(0.95, 429) == float("inf")


def test_requests_are_the_same_every_time(modules):
    _, serve = modules
    assert serve.make_bodies("short", 5) == serve.make_bodies("short", 5)
