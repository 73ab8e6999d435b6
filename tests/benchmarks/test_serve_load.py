"""The load generator and the comparison of `benchmarks/serve.py`, on hand-made numbers and a server of ten lines."""

from __future__ import annotations

import asyncio
import sys
import time
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


def test_what_a_server_can_do_at_most_is_found_by_clients_that_wait(modules):
    open_loop, _ = modules
    waiting = [0, 0]  # now, and at most
    answered = []

    async def measure():
        busy = asyncio.Lock()

        async def answer(reader, writer):
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(2)
                waiting[:] = waiting[0] + 1, max(waiting[1], waiting[0] + 1)
                async with busy:
                    await asyncio.sleep(0.02)  # 50 a second at most, whoever asks
                waiting[0] -= 1
                answered.append(time.perf_counter())
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        began = time.perf_counter()
        rate = await open_loop.saturate(server.sockets[0].getsockname()[1], "/", [b"{}"], clients=4, seconds=0.5)
        seconds = time.perf_counter() - began
        server.close()
        return rate, seconds

    rate, seconds = asyncio.run(measure())
    assert rate <= 50 and rate * seconds == pytest.approx(len(answered), rel=0.1), "every answer counts"
    assert waiting == [0, 4], "each client sends one at a time, all of them at once"


def test_the_figures_to_quote_have_every_rate_and_limit(modules):
    _, serve = modules
    rates = {
        name: [row(10 * n, 20 * n) | {"rate": 10 * n, "p50": n, "p99": 30 * n} for n in (1, 2)]
        for name in serve.CONTENDERS
    }
    heavy = rates["continuous"][0] | {
        "sent": 60, "rejected": 40, "failed": 3, "timed_out": 1, "deadline_s": 2.0, "accepted_within_deadline": 0.995,
        "rejection_p50": 1.0, "rejection_p99": 9.0, "resident_megabytes_before": 300,
        "resident_megabytes_first_half": 301, "resident_megabytes_second_half": 302,
    }  # fmt: skip
    text = serve.quotable({
        "requests": "short ones", "cores": 2, "load_average_before": 0.1, "capacities": {"continuous": 20.0},
        "rates": rates, "throughput_at_equal_p95": [{"p95": 50, "continuous": 20, "one at a time": 10, "ratio": 2.0}],
        "overload": heavy,
    })  # fmt: skip
    for name in serve.CONTENDERS:
        assert f"| {name} | 10 | 10 | 1 / 20 / 30 | 0 | 0 |" in text and f"| {name} | 20 | 20 | 2 / 40 / 60 |" in text
    assert "| 50 | 20 | 10 | 2.00 |" in text
    assert "99.5 % of them within the deadline, 1 timed out, 2 failed; 40 of 60 got 429" in text
