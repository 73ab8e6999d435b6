import json

from crossrank.evaluation.bench_report import BenchRow, bench_table, write_bench_report
from crossrank.evaluation.latency import Latency


def row(model, p50, *, quality=None, random_weights=False):
    latency = Latency(p50, 2 * p50, 1000 / p50, documents=20, requests=30)
    return BenchRow(model, "bert 6x384", "torch cpu", 22_713_601, random_weights, latency, 1.5, 250_000_000, quality)


ROWS = [row("slow", 50, quality=0.7), row("fast", 10, quality=0.6), row("shape", 5, random_weights=True)]


def test_the_fastest_stands_first_and_random_weights_are_marked():
    table = bench_table(ROWS, dataset="words")
    print(table)
    assert [cells[0] for cells in table.rows] == ["shape", "fast", "slow"]
    assert table.rows[1][3:] == ("22.7M", "10.0", "20.0", "100", "1.5", "250", "0.6000")
    assert table.rows[0][-1] == "random weights: latency only"
    assert "20 documents, 30 requests" in table.note
    assert bench_table(ROWS, dataset=None).columns[-1] == "peak MB"


def test_files(tmp_path):
    write_bench_report(tmp_path, ROWS, dataset="words")
    facts = json.loads((tmp_path / "bench.json").read_text())
    assert [model["random_weights"] for model in facts["models"]] == [False, False, True]
    assert facts["models"][0]["latency"]["p95_ms"] == 100
    page = (tmp_path / "bench.html").read_text()
    assert page.count("<svg") == 1
    plot = page[page.index("<svg") :]
    assert ">slow<" in plot
    assert ">shape<" not in plot
    write_bench_report(tmp_path, ROWS, dataset=None)
    write_bench_report(tmp_path, [ROWS[2]], dataset=None)
    assert "<svg" not in (tmp_path / "bench.html").read_text()
