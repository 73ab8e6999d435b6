"""The numbers as files: `results.json` and `per_query.jsonl`."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from crossrank.evaluation.comparison import BM25, CEILING, FIRST_STAGE, ORACLE, RERANKED, Cell, mean_difference

_PACKAGES = (
    "crossrank", "numpy", "scipy", "ir-measures", "pytrec-eval-terrier", "bm25s", "openvino", "torch", "transformers",
    "sentence-transformers",
)  # fmt: skip


def results(cells: Sequence[Cell], models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the content of `results.json`.

    One model: `{"datasets": {name: ...}, "mean": ..., "model": ..., "versions": ...}`. Several: the same below
    `"models"`, by the label of each.

    Args:
        cells: Of all models.
        models: What is known of each model, by its label.
    """
    versions = installed_versions()
    by_model = {
        model: {
            "datasets": {cell.dataset: _dataset(cell) for cell in cells if cell.model == model},
            "mean": _mean([cell for cell in cells if cell.model == model]),
            "model": {"name": model, **facts},
            "versions": versions,
        }
        for model, facts in models.items()
    }
    return next(iter(by_model.values())) if len(by_model) == 1 else {"models": by_model, "versions": versions}


def _dataset(cell: Cell) -> dict[str, Any]:
    difference = cell.differences[RERANKED]
    plain = {
        "queries": len(cell.queries),
        "depth": cell.depth,
        "first_stage": _means(cell, FIRST_STAGE),
        "reranked": _means(cell, RERANKED),
        "delta": {measure: item.delta for measure, item in difference.items()},
        "ci95": {measure: list(item.ci95) for measure, item in difference.items()},
        "p_value": {measure: item.p_value for measure, item in difference.items()},
        "pairs": cell.pairs,
        "seconds": cell.seconds,
        "pairs_per_second": cell.pairs_per_second,
        "p_value_uncorrected": {measure: item.p_value_uncorrected for measure, item in difference.items()},
        "queries_won_lost_tied": {measure: list(item.outcome) for measure, item in difference.items()},
        "ceiling_of_candidates": _means(cell, CEILING),
        "judged": {"measure": cell.judged_measure, **cell.judged},
        "first_stage_name": cell.first_stage,
        "split": cell.split,
        "language": cell.language,
        "queries_of_set": cell.num_queries_of_set,
    }
    if BM25 in cell.values:
        plain["bm25"] = _means(cell, BM25)
    fused = [system for system in cell.rerankings if system != RERANKED]
    if fused:
        plain["fused"] = {system.removeprefix("fused "): _fused(cell, system) for system in fused}
    if ORACLE in cell.values:
        plain["oracle_positives"] = {"note": "optimistic: relevant documents were added", **_means(cell, ORACLE)}
    return plain


def _fused(cell: Cell, system: str) -> dict[str, Any]:
    difference = cell.differences[system]
    return {
        "measures": _means(cell, system),
        "delta": {measure: item.delta for measure, item in difference.items()},
        "ci95": {measure: list(item.ci95) for measure, item in difference.items()},
        "p_value": {measure: item.p_value for measure, item in difference.items()},
    }


def _means(cell: Cell, system: str) -> dict[str, float]:
    return {measure: cell.mean(system, measure) for measure in cell.measures}


def _mean(cells: Sequence[Cell]) -> dict[str, Any]:
    """Means over data sets that count the same."""
    measures = cells[0].measures
    differences = {measure: mean_difference(cells, RERANKED, measure) for measure in measures}
    return {
        "datasets": len(cells),
        **{system: mean_over_datasets(cells, system) for system in (FIRST_STAGE, RERANKED)},
        "delta": {measure: delta for measure, (delta, _) in differences.items()},
        "ci95": {measure: list(interval) for measure, (_, interval) in differences.items()},
    }


def mean_over_datasets(cells: Sequence[Cell], system: str) -> dict[str, float]:
    """Return the mean of a system by measure, each data set counting the same."""
    return {measure: float(np.mean([c.mean(system, measure) for c in cells])) for measure in cells[0].measures}


def per_query_lines(cells: Iterable[Cell]) -> Iterator[str]:
    """Yield a line of `per_query.jsonl` for each query of each cell."""
    for cell in cells:
        for query_id, text in cell.queries.items():
            values = {
                system: {measure: by_query[query_id] for measure, by_query in by_measure.items()}
                for system, by_measure in cell.values.items()
            }
            line = {"model": cell.model, "dataset": cell.dataset, "query_id": query_id, "query": text} | values
            yield json.dumps(line, ensure_ascii=False) + "\n"


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of every package that has a part in the numbers."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
