"""crossrank and sentence-transformers on this CPU, side by side: speed, agreement, latency, cold start, memory.

Every engine is a process of its own with the same weights (the shipped model); they take turns, and medians count. See
README.md for the peer's environment.

    python benchmarks/cpu.py [--peer-python PEER/bin/python] [--rounds 3] [--workload FILE] [--json OUT] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from crossrank.encoding.pairs import PairEncoder
from crossrank.inference.export import kendall_tau, restore_transformers
from crossrank.models.checkpoint import load_tokenizer, open_checkpoint
from workload import Workload, load_workloads

HERE = Path(__file__).parent
PASSAGES = HERE.parent / "examples" / "passages.jsonl"
PEER = "sentence-transformers"
REFERENCE = "ST torch fp32, batch 32 (its default)"

CONTENDERS: dict[str, dict[str, Any]] = {
    "crossrank (default)": {"library": "crossrank"},
    "crossrank float32": {"library": "crossrank", "dtype": "float32"},
    "crossrank torch float32": {"library": "crossrank", "backend": "torch", "dtype": "float32"},
    REFERENCE: {"library": PEER},
    "ST torch fp32, batch 8": {"library": PEER, "batch_size": 8},
    "ST onnx, batch 32": {"library": PEER, "backend": "onnx"},
    "ST onnx, batch 8": {"library": PEER, "backend": "onnx", "batch_size": 8},
    "ST openvino, batch 32": {"library": PEER, "backend": "openvino"},
    "ST openvino, batch 8": {"library": PEER, "backend": "openvino", "batch_size": 8},
    "ST openvino f32, batch 8": {"library": PEER, "backend": "openvino", "batch_size": 8, "precision": "f32"},
}


@dataclass
class Worker:
    """A running engine and what it has measured."""

    name: str
    process: subprocess.Popen[str]
    error: str = ""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)

    def ask(self, pairs: list[tuple[str, str]]) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(pairs) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def median(self, key: str) -> float:
        return statistics.median(self.seconds[key])


def start(name: str, contender: dict[str, Any], model: Path, args: argparse.Namespace) -> Worker:
    python = args.peer_python if contender["library"] == PEER else sys.executable
    process = subprocess.Popen(
        [python, str(HERE / "worker.py"), json.dumps(contender), str(model), str(args.threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1"},
    )
    assert process.stdout
    answer = json.loads(process.stdout.readline() or '{"error": "the process ended without a word"}')
    return Worker(name, process, error=answer.get("error", ""))


def pairs_of(workload: Workload) -> list[tuple[str, str]]:
    return [(query, passage) for query, passages in workload for passage in passages]


def measure_throughput(workers: list[Worker], workloads: dict[str, list[tuple[str, str]]], rounds: int) -> None:
    """Time each workload in turns; the second and longer one has fewer rounds."""
    for key, pairs in workloads.items():
        for _ in range(rounds if key == "W" else max(1, rounds // 3)):
            for worker in workers:
                answer = worker.ask(pairs)
                worker.seconds.setdefault(key, []).append(answer["seconds"])
                worker.scores[key] = answer["scores"]


def measure_latency(workers: list[Worker], workload: Workload, requests: int) -> None:
    """Time requests of one query with 20 documents, in turns."""
    for query, passages in workload[:requests]:
        for worker in workers:
            answer = worker.ask([(query, passage) for passage in passages[:20]])
            worker.seconds.setdefault("latency", []).append(answer["seconds"])


def measure_cold_start(model: Path, args: argparse.Namespace) -> dict[str, float]:
    """Time whole processes on 20 passages, in turns; median wall seconds."""
    crossrank = [str(Path(sys.executable).with_name("crossrank")), "rerank", "Why is Mars red?", str(PASSAGES)]
    commands = {
        "crossrank rerank": [*crossrank, "--top-k", "3"],
        "ST script": [args.peer_python, str(HERE / "cold_start_peer.py"), str(model), str(PASSAGES)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(args.rounds + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            done = subprocess.run(command, capture_output=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
            if done.returncode:
                raise SystemExit(f"{name} failed: {done.stderr.decode()[-400:]}")
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first fills the file cache


def measure_memory(model: Path, args: argparse.Namespace) -> float:
    """Return the most resident megabytes of a process that scores many pairs of all lengths with the shipped model."""
    worker = start("memory", CONTENDERS["crossrank (default)"], model, args)
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(2.6, 0.7, args.memory_pairs), 3, 400).astype(int)
    pairs = [("planets of the sun", "mars is red " * (int(n) // 3 + 1)) for n in lengths]
    megabytes = 0.0
    for begin in range(0, len(pairs), 20_000):
        megabytes = worker.ask(pairs[begin : begin + 20_000])["megabytes"]
    stop(worker)
    return megabytes


def stop(worker: Worker) -> None:
    assert worker.process.stdin
    worker.process.stdin.close()
    worker.process.wait(timeout=60)


def measure_floor(model: Path, pairs: list[tuple[str, str]], args: argparse.Namespace) -> dict[str, float]:
    """Return the pairs a second that this machine's matrix products allow, by precision.

    The linear layers of MiniLM-L6 with the last one for [CLS] alone; attention and everything else come on top.
    """
    command = [sys.executable, str(HERE / "worker.py"), json.dumps({"library": "gemm"}), str(model), str(args.threads)]
    rates = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)["rates"]
    checkpoint = open_checkpoint(model)
    encoder = PairEncoder(load_tokenizer(checkpoint), max_length=checkpoint.max_length)
    num_tokens = int(encoder.encode(pairs).lengths.sum())
    per_token = 2 * (4 * 384**2 + 2 * 384 * 1536) * 6 * 0.861
    return {dtype: len(pairs) * rate * 1e9 / (num_tokens * per_token) for dtype, rate in rates.items()}


def agreement(worker: Worker, reference: Worker, key: str, group: int) -> dict[str, float]:
    """Compare scores with the reference's: largest difference, Kendall tau in a query, common share of the top 10."""
    own, other = (np.array(w.scores[key], np.float32).reshape(-1, group) for w in (worker, reference))
    taus = [kendall_tau(a, b) for a, b in zip(own, other, strict=True)]
    top = [len(set(np.argsort(-a)[:10]) & set(np.argsort(-b)[:10])) / 10 for a, b in zip(own, other, strict=True)]
    return {"max_abs": float(np.abs(own - other).max()), "tau": float(np.mean(taus)), "top10": float(np.mean(top))}


def report(workers: list[Worker], sizes: dict[str, tuple[int, int]]) -> list[dict[str, Any]]:
    reference = next((w for w in workers if w.name == REFERENCE and not w.error), None)
    rows = []
    for worker in workers:
        if worker.error:
            rows.append({"engine": worker.name, "error": worker.error})
            continue
        row: dict[str, Any] = {"engine": worker.name}
        for key, (num_pairs, group) in sizes.items():
            row[f"{key}_pairs_per_s"] = num_pairs / worker.median(key)
            if reference:
                row[f"{key}_ratio"] = reference.median(key) / worker.median(key)
                row |= {f"{key}_{k}": v for k, v in agreement(worker, reference, key, group).items()}
        latencies = sorted(worker.seconds["latency"])
        row["latency_p50_ms"] = 1000 * statistics.median(latencies)
        row["latency_p95_ms"] = 1000 * latencies[min(len(latencies) - 1, int(0.95 * len(latencies)))]
        rows.append(row)
    return rows


def print_report(rows: list[dict[str, Any]], facts: dict[str, Any], console: Console) -> None:
    columns = [key for key in max(rows, key=len) if key != "error"]
    table = Table(title="Same weights, same run; ratios against the peer's default")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="left" if column == "engine" else "right")
    for row in rows:
        cells = [row.get(c, "") for c in columns]
        table.add_row(*(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells))
        if "error" in row:
            console.print(f"{row['engine']}: not measured: {row['error']}", style="yellow")
    console.print(table)
    console.print_json(json.dumps(facts))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has sentence-transformers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--memory-pairs", type=int, default=100_000)
    parser.add_argument("--workload", type=Path, help="a Python file with W() and W2() instead of workload.py")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="crossrank alone, a few pairs: does it run at all?")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.requests, args.memory_pairs = 1, 2, 200
    return args


def main() -> None:
    args = parse_arguments()
    console = Console(width=200 if not sys.stdout.isatty() else None)
    workloads = load_workloads(args.workload)
    if args.quick:
        workloads = {"W": [(q, p[:10]) for q, p in workloads["W"]], "W2": workloads["W2"][:2]}
    contenders = {n: c for n, c in CONTENDERS.items() if not args.quick or c == {"library": "crossrank"}}
    with tempfile.TemporaryDirectory() as temporary:
        model = restore_transformers(None, Path(temporary) / "model")
        workers = [start(name, contender, model, args) for name, contender in contenders.items()]
        running = [worker for worker in workers if not worker.error]
        pairs = {key: pairs_of(workload) for key, workload in workloads.items()}
        measure_throughput(running, pairs, args.rounds)
        measure_latency(running, workloads["W2"], args.requests)
        for worker in running:
            stop(worker)
        sizes = {key: (len(pairs[key]), len(workloads[key][0][1])) for key in pairs}
        floor = measure_floor(model, pairs["W"], args)
        facts: dict[str, Any] = {"threads": args.threads, "rounds": args.rounds, "W_floor_pairs_per_s": floor}
        if not args.quick:
            facts["cold_start_s"] = measure_cold_start(model, args)
        facts["resident_mb"] = {"pairs": args.memory_pairs, "largest": measure_memory(model, args)}
    rows = report(workers, sizes)
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, "facts": facts}, indent=2) + "\n", encoding="utf-8")
    print_report(rows, facts, console)


if __name__ == "__main__":
    main()
