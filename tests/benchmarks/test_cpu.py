"""The benchmark runs, and its workload is what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_quick_form_measures_crossrank(tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(BENCHMARKS / "cpu.py"), "--quick", "--threads", "1", "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    row = json.loads(figures.read_text())["rows"][0]
    assert row["engine"] == "crossrank (default)"
    assert row["W_pairs_per_s"] > 1
    assert 0 < row["latency_p50_ms"] <= row["latency_p95_ms"]


def test_the_workload_is_seeded_and_has_the_stated_shape(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from workload import load_workloads

    first, second = load_workloads(None), load_workloads(None)
    assert first == second
    assert [len(passages) for _, passages in first["W"]] == [100]
    assert [len(passages) for _, passages in first["W2"]] == [20] * 64
    words = sum(len(passage.split()) for _, passages in first["W2"] for passage in passages) / 1280
    assert 80 < words < 125
