"""The server under open-loop load on loopback: continuous batching against one request at a time, and overload.

    python benchmarks/serve.py --json figures.json

Two servers of the same model run side by side, and each rate is driven at both in turns; the one that waits takes no
core. Overload then sends three times the rate that the server was measured to hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from open_loop import Load, drive
from workload import STOP_WORDS, make

Rows = dict[str, list[dict[str, Any]]]

PATH = "/v1/rerank"
CONTENDERS = {"continuous": [], "one at a time": ["--max-batch-requests", "1"]}
REQUESTS = {
    "short": "1 query of 5 words, 3 documents of 8 to 16 words",
    "passages": "1 query of 9 words, 10 passages of 90 words on average",
}


def make_bodies(kind: str, count: int = 200) -> list[bytes]:
    """Make the bodies of requests; the same every time."""
    if kind == "passages":
        return [encode(query, passages) for query, passages in make(count, 10, seed=11)]
    rng = random.Random(11)
    words = [word for _, passages in make(4, 4, seed=12) for text in passages for word in text.split()] + STOP_WORDS
    return [
        encode(
            " ".join(rng.choices(words, k=5)), [" ".join(rng.choices(words, k=rng.randint(8, 16))) for _ in range(3)]
        )
        for _ in range(count)
    ]


def encode(query: str, documents: list[str]) -> bytes:
    return json.dumps({"query": query, "documents": documents, "return_documents": False}).encode()


class Server:
    """A server in a process of its own, on a free port."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-c", "from crossrank.cli.main import app; app()", "serve", "--port", "0"]
        self.process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
        self.port = 0
        assert self.process.stderr
        for line in self.process.stderr:
            entry = json.loads(line)
            if entry["message"] == "serving":
                self.port = int(entry["url"].rsplit(":", 1)[1])
                break
        if not self.port:
            raise SystemExit("the server did not start: run `crossrank serve` to see why")
        # The pipe is emptied, or the server would block on its log.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    @property
    def resident_megabytes(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def figures(load: Load) -> dict[str, Any]:
    """Return what a load gave, in milliseconds and requests a second."""
    return {
        "rate": round(load.rate, 1),
        "throughput": round(load.throughput, 1),
        "p50": round(load.percentile(0.50), 1),
        "p95": round(load.percentile(0.95), 1),
        "p99": round(load.percentile(0.99), 1),
        "sent": load.num_sent,
        "rejected": len(load.latencies.get(429, [])),
        "failed": sum(len(times) for status, times in load.latencies.items() if status not in (200, 429)),
    }


def sweep(servers: dict[str, Server], bodies: list[bytes], options: argparse.Namespace) -> Rows:
    """Drive growing rates at every server in turns until all are too slow; of the rounds the median by p95 counts."""
    rows: Rows = {name: [] for name in servers}
    rate = options.first_rate
    while any(not found or is_held(found[-1], max(options.p95)) for found in rows.values()):
        loads: dict[str, list[Load]] = {name: [] for name in servers}
        for turn in range(options.rounds):
            for name, server in servers.items():
                run = drive(server.port, PATH, bodies, rate=rate, seconds=options.seconds, seed=turn)
                loads[name].append(asyncio.run(run))
        for name, rounds in loads.items():
            middle = sorted(rounds, key=lambda load: load.percentile(0.95))[len(rounds) // 2]
            rows[name].append(figures(middle))
            print(f"{name:14} {row_text(rows[name][-1])}", flush=True)
        rate *= options.growth
    return rows


def is_held(row: dict[str, Any], p95: float) -> bool:
    return row["p95"] <= p95 and not row["rejected"] and not row["failed"]


def row_text(row: dict[str, Any]) -> str:
    return "  ".join(f"{name} {value:>7}" for name, value in row.items())


def held_throughput(rows: list[dict[str, Any]], p95: float) -> float:
    """Return the largest throughput at which p95 stays within a limit and nothing is rejected or fails.

    Between the last rate that holds and the first that does not, it is read off the straight line through both.
    """
    held = 0.0
    for before, row in zip([None, *rows], rows, strict=False):
        if is_held(row, p95):
            held = max(held, row["throughput"])
        elif before and before["p95"] <= p95 < row["p95"] and not row["failed"]:
            share = (p95 - before["p95"]) / (row["p95"] - before["p95"])
            return max(held, before["throughput"] + share * max(0.0, row["throughput"] - before["throughput"]))
        else:
            return held
    return held


def compare(rows: Rows, limits: list[float]) -> list[dict[str, Any]]:
    """Return what each server holds at the same p95, for those limits that both keep at the lowest rate."""
    found = []
    for limit in limits:
        held = {name: round(held_throughput(measured, limit), 1) for name, measured in rows.items()}
        if all(held.values()):
            ratio = held["continuous"] / held["one at a time"]
            found.append({"p95": limit, **held, "ratio": round(ratio, 2)})
    return found


def overload(
    server: Server, bodies: list[bytes], *, capacity: float, seconds: float, deadline_s: float
) -> dict[str, Any]:
    """Send three times what the server holds; every request states a deadline."""
    warm = asyncio.run(drive(server.port, PATH, bodies, rate=capacity, seconds=3, seed=1))
    before, resident, stop = server.resident_megabytes, [], threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            resident.append(server.resident_megabytes)

    watcher = threading.Thread(target=watch)
    watcher.start()
    header = f"x-request-timeout: {deadline_s}\r\n"
    load = asyncio.run(drive(server.port, PATH, bodies, rate=3 * capacity, seconds=seconds, seed=2, headers=header))
    stop.set()
    watcher.join()
    accepted = load.latencies.get(200, [])
    half = len(resident) // 2
    return figures(load) | {
        "warm_up_p95": round(warm.percentile(0.95), 1),
        "deadline_s": deadline_s,
        "accepted_within_deadline": sum(seconds <= deadline_s for seconds in accepted) / max(1, len(accepted)),
        "timed_out": len(load.latencies.get(504, [])),
        "rejection_p50": round(load.percentile(0.50, 429), 1),
        "rejection_p99": round(load.percentile(0.99, 429), 1),
        "resident_megabytes_before": round(before),
        "resident_megabytes_first_half": round(max(resident[:half])),
        "resident_megabytes_second_half": round(max(resident[half:])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", choices=REQUESTS, default="short")
    parser.add_argument("--first-rate", type=float, default=20.0)
    parser.add_argument("--growth", type=float, default=1.25, help="from one rate to the next")
    parser.add_argument("--seconds", type=float, default=6.0, help="of one rate at one server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--p95", type=float, nargs="+", default=[100, 200, 400, 800], help="milliseconds to compare at")
    parser.add_argument("--overload-seconds", type=float, default=20.0)
    parser.add_argument("--deadline", type=float, default=2.0, help="seconds, of the requests of the overload")
    parser.add_argument("--model", default="crossrank-mini-en-v1")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    bodies = make_bodies(options.requests)
    servers = {name: Server("--model", options.model, *extra) for name, extra in CONTENDERS.items()}
    try:
        for server in servers.values():
            asyncio.run(drive(server.port, PATH, bodies, rate=options.first_rate, seconds=2, seed=0))
        rows = sweep(servers, bodies, options)
        held = compare(rows, options.p95)
        for found in held:
            print("throughput at equal p95:", found, flush=True)
        fastest = max(row["throughput"] for row in rows["continuous"])
        # More than it can do, with nobody in a hurry: what comes out is what it can do.
        flood = drive(servers["continuous"].port, PATH, bodies, rate=3 * fastest, seconds=4, seed=3)
        capacity = asyncio.run(flood).throughput
        print(f"capacity {capacity:.1f} requests/s", flush=True)
        heavy = overload(
            servers["continuous"],
            bodies,
            capacity=capacity,
            seconds=options.overload_seconds,
            deadline_s=options.deadline,
        )
        print("overload at 3x:", json.dumps(heavy, indent=1))
    finally:
        for server in servers.values():
            server.stop()
    if options.json:
        report = {
            "requests": REQUESTS[options.requests],
            "cores": os.cpu_count(),
            "time": time.strftime("%Y-%m-%d %H:%M"),
            "rates": rows,
            "throughput_at_equal_p95": held,
            "overload": heavy,
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
