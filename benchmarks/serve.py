"""The server under open-loop load on loopback: continuous batching against one request at a time, and overload.

    python benchmarks/serve.py --json figures.json

Two servers of the same model run side by side; the one that waits takes no core. What each can do at most is measured
first, then both are driven at the same shares of that in turns. Overload then sends three times of it. The figures to
quote come last, as Markdown; all of them take about 5 minutes.
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

from open_loop import Load, drive, saturate
from workload import STOP_WORDS, make

Rows = dict[str, list[dict[str, Any]]]

PATH = "/v1/rerank"
# Of the most that a server can do: sparse where it is idle, dense where the wait begins to grow.
SHARES = (0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.15)
CLIENTS = 64
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


def sweep(servers: dict[str, Server], bodies: list[bytes], capacities: dict[str, float], options: Any) -> Rows:
    """Drive every server at shares of its capacity, in turns; of the rounds the median by p95 counts."""
    loads: dict[tuple[str, float], list[Load]] = {}
    for turn in range(options.rounds):
        for share in SHARES:
            for name, server in servers.items():
                rate = share * capacities[name]
                run = drive(server.port, PATH, bodies, rate=rate, seconds=options.seconds, seed=turn)
                loads.setdefault((name, share), []).append(asyncio.run(run))
                print(f"{name:14} {row_text(figures(loads[name, share][-1]))}", flush=True)
    rows: Rows = {name: [] for name in servers}
    for (name, _), rounds in loads.items():
        rows[name].append(figures(sorted(rounds, key=lambda load: load.percentile(0.95))[len(rounds) // 2]))
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
        while True:
            resident.append(server.resident_megabytes)
            if stop.wait(0.2):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    header = f"x-request-timeout: {deadline_s}\r\n"
    load = asyncio.run(drive(server.port, PATH, bodies, rate=3 * capacity, seconds=seconds, seed=2, headers=header))
    stop.set()
    watcher.join()
    accepted = load.latencies.get(200, [])
    half = (len(resident) + 1) // 2
    return figures(load) | {
        "warm_up_p95": round(warm.percentile(0.95), 1),
        "deadline_s": deadline_s,
        "accepted_within_deadline": sum(seconds <= deadline_s for seconds in accepted) / max(1, len(accepted)),
        "timed_out": len(load.latencies.get(504, [])),
        "rejection_p50": round(load.percentile(0.50, 429), 1),
        "rejection_p99": round(load.percentile(0.99, 429), 1),
        "resident_megabytes_before": round(before),
        "resident_megabytes_first_half": round(max(resident[:half])),
        "resident_megabytes_second_half": round(max(resident[half - 1 :])),
    }


def quotable(report: dict[str, Any]) -> str:
    """Return the figures as the Markdown of docs/log.md."""
    lines = [
        f"{report['requests']}; {report['cores']} cores, load average {report['load_average_before']} before; at most "
        + ", ".join(f"{name} {rate:.0f} requests/s" for name, rate in report["capacities"].items()),
        "",
        "| server | requests/s sent | answered/s | p50 / p95 / p99 ms | rejected | failed |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, rows in report["rates"].items():
        lines += [
            f"| {name} | {row['rate']:.0f} | {row['throughput']:.0f} | {row['p50']:.0f} / {row['p95']:.0f} / "
            f"{row['p99']:.0f} | {row['rejected']} | {row['failed']} |"
            for row in rows
        ]
    lines += ["", "| p95 at most, ms | continuous | one at a time | ratio |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {found['p95']:g} | {found['continuous']:.0f} | {found['one at a time']:.0f} | {found['ratio']:.2f} |"
        for found in report["throughput_at_equal_p95"]
    ]
    heavy = report["overload"]
    within, failed = 100 * heavy["accepted_within_deadline"], heavy["failed"] - heavy["timed_out"]
    lines += [
        "",
        f"Overload, {heavy['rate']:.0f} requests/s with a deadline of {heavy['deadline_s']:g} s: "
        f"{heavy['throughput']:.0f} answered a second, p50 / p95 / p99 {heavy['p50']:.0f} / {heavy['p95']:.0f} / "
        f"{heavy['p99']:.0f} ms, {within:.1f} % of them within the deadline, {heavy['timed_out']} timed out, {failed} "
        f"failed; {heavy['rejected']} of {heavy['sent']} got 429, p50 / p99 {heavy['rejection_p50']:.0f} / "
        f"{heavy['rejection_p99']:.0f} ms; resident {heavy['resident_megabytes_before']} MB before, at most "
        f"{heavy['resident_megabytes_first_half']} in the first half and "
        f"{heavy['resident_megabytes_second_half']} in the second.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", choices=REQUESTS, default="short")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one rate at one server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--p95", type=float, nargs="+", default=[50, 100, 200, 400], help="milliseconds to compare at")
    parser.add_argument("--overload-seconds", type=float, default=20.0)
    parser.add_argument("--deadline", type=float, default=2.0, help="seconds, of the requests of the overload")
    parser.add_argument("--model", default="crossrank-mini-en-v1")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    bodies = make_bodies(options.requests)
    report: dict[str, Any] = {
        "requests": REQUESTS[options.requests],
        "cores": os.cpu_count(),
        "load_average_before": round(os.getloadavg()[0], 1),
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }
    servers = {name: Server("--model", options.model, *extra) for name, extra in CONTENDERS.items()}
    try:
        capacities: dict[str, float] = {}
        for name, server in servers.items():
            asyncio.run(saturate(server.port, PATH, bodies, clients=CLIENTS, seconds=2))  # the shapes become known
            flood = saturate(server.port, PATH, bodies, clients=CLIENTS, seconds=options.seconds)
            capacities[name] = round(asyncio.run(flood), 1)
            print(f"{name:14} at most {capacities[name]} requests/s", flush=True)
        report["capacities"] = capacities
        report["rates"] = sweep(servers, bodies, capacities, options)
        report["throughput_at_equal_p95"] = compare(report["rates"], options.p95)
        report["overload"] = overload(
            servers["continuous"],
            bodies,
            capacity=capacities["continuous"],
            seconds=options.overload_seconds,
            deadline_s=options.deadline,
        )
    finally:
        for server in servers.values():
            server.stop()
    print(f"\n{quotable(report)}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
