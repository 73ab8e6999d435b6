"""The table that people choose a model by: quality beside cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from crossrank.evaluation.latency import Latency, pareto_frontier
from crossrank.evaluation.pages import html_page, html_plot, html_table, markdown_table
from crossrank.evaluation.plots import scatter
from crossrank.evaluation.results import installed_versions
from crossrank.evaluation.store import write_text
from crossrank.evaluation.tables import NOTHING, Table, rate

TITLE = "Quality beside cost"
RANDOM_WEIGHTS = "random weights: latency only"


@dataclass(frozen=True)
class BenchRow:
    """One model.

    Attributes:
        model: Its label.
        backbone: Its family and size.
        engine: What ran it, where and how precisely.
        parameters: Of the network, or None where they cannot be counted.
        random_weights: Whether only the shape is that of a published model: it has no quality.
        latency: Measured.
        load_seconds: Until the first request can be answered.
        peak_memory_bytes: Of the whole process; on a GPU that of its memory.
        quality: nDCG@10, or None where it was not measured.
    """

    model: str
    backbone: str
    engine: str
    parameters: int | None
    random_weights: bool
    latency: Latency
    load_seconds: float
    peak_memory_bytes: int
    quality: float | None


def bench_table(rows: Sequence[BenchRow], *, dataset: str | None) -> Table:
    """Return the table, the fastest model first.

    Args:
        rows: Of the models.
        dataset: What quality was measured on, or None.
    """
    ordered = sorted(rows, key=lambda row: row.latency.p50_ms)
    documents = rows[0].latency.documents
    quality = (f"nDCG@10 {dataset}",) if dataset else ()
    return Table(
        TITLE,
        ("model", "backbone", "engine", "parameters", "p50 ms", "p95 ms", "pairs/s", "load s", "peak MB", *quality),
        tuple(
            (
                row.model,
                row.backbone,
                row.engine,
                NOTHING if row.parameters is None else f"{row.parameters / 1e6:.1f}M",
                f"{row.latency.p50_ms:.1f}",
                f"{row.latency.p95_ms:.1f}",
                rate(row.latency.pairs_per_second),
                f"{row.load_seconds:.1f}",
                f"{row.peak_memory_bytes / 1e6:.0f}",
                *((_quality(row),) if dataset else ()),
            )
            for row in ordered
        ),
        f"p50 and p95: one request of {documents} documents, {rows[0].latency.requests} requests, each model in a "
        "process of its own. pairs/s: all of them in one call. Peak memory: of the whole process, or of the GPU.",
    )


def _quality(row: BenchRow) -> str:
    if row.random_weights:
        return RANDOM_WEIGHTS
    return NOTHING if row.quality is None else f"{row.quality:.4f}"


def write_bench_report(folder: Path, rows: Sequence[BenchRow], *, dataset: str | None) -> None:
    """Write `bench.json`, `bench.md` and `bench.html`; the page has the Pareto plot where quality was measured."""
    table = bench_table(rows, dataset=dataset)
    facts = {"dataset": dataset, "models": [asdict(row) for row in rows], "versions": installed_versions()}
    write_text(folder / "bench.json", json.dumps(facts, indent=2) + "\n")
    write_text(folder / "bench.md", f"# {TITLE}\n\n{markdown_table(table)}")
    points = [(row.model, row.latency.p50_ms, row.quality) for row in rows if row.quality is not None]
    sections = [html_table(table)]
    if points:
        label = f"milliseconds for {rows[0].latency.documents} documents (p50)"
        svg = scatter(points, pareto_frontier(points), x_label=label, y_label=f"nDCG@10 on {dataset}")
        sections.append(html_plot("Pareto: no other model is both faster and better than those on the line", svg))
    write_text(folder / "bench.html", html_page(TITLE, sections))
