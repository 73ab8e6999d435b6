"""The report of an evaluation: every file of its folder."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossrank.evaluation.comparison import RERANKED, Cell
from crossrank.evaluation.pages import html_page, html_plot, html_table, markdown_table
from crossrank.evaluation.plots import forest, sorted_differences
from crossrank.evaluation.results import per_query_lines, results
from crossrank.evaluation.store import write_text
from crossrank.evaluation.tables import (
    Table,
    conditions_table,
    fusion_table,
    grid_table,
    main_table,
    oracle_table,
)

TITLE = "Base against reranked"


def write_report(
    folder: Path,
    cells: Sequence[Cell],
    models: Mapping[str, Mapping[str, Any]],
    *,
    more_tables: Sequence[Table] = (),
    command: str = "",
) -> None:
    """Write `report.md`, `report.html`, `results.json` and `per_query.jsonl`.

    Args:
        folder: Where to.
        cells: Of every model on every data set, with corrected p-values.
        models: What is known of each model, by its label.
        more_tables: Put before the others.
        command: What made it, for the reader.
    """
    facts = results(cells, models)
    tables = [*more_tables, *report_tables(cells)]
    write_text(folder / "results.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "per_query.jsonl", "".join(per_query_lines(cells)))
    details = _details(models, facts["versions"])
    code = f"    {command}\n\n" if command else ""
    markdown = f"# {TITLE}\n\n{code}" + "\n".join(markdown_table(table) for table in (*tables, details))
    write_text(folder / "report.md", markdown)
    head = [f"<p><code>{html.escape(command)}</code></p>"] if command else []
    pages = [html_table(table) for table in tables]
    write_text(folder / "report.html", html_page(TITLE, [*head, *pages, *_plots(cells), html_table(details)]))


def report_tables(cells: Sequence[Cell]) -> list[Table]:
    """Return the tables of the report: the grid where there is one, then those of each model."""
    grouped = by_model(cells)
    tables: list[Table | None] = [grid_table(cells)] if len(cells) > 1 else []
    for group in grouped.values():
        tables += [main_table(group), fusion_table(group), oracle_table(group), conditions_table(group)]
    return [table for table in tables if table is not None]


def by_model(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return the cells of each model."""
    grouped: dict[str, list[Cell]] = {}
    for cell in cells:
        grouped.setdefault(cell.model, []).append(cell)
    return grouped


def _plots(cells: Sequence[Cell]) -> list[str]:
    measure = cells[0].measures[0]
    several = len({cell.model for cell in cells}) > 1
    names = {id(cell): f"{cell.model}, {cell.dataset}" if several else cell.dataset for cell in cells}
    rows = [
        (names[id(cell)], cell.differences[RERANKED][measure].delta, cell.differences[RERANKED][measure].ci95)
        for cell in cells
    ]
    label = f"difference in {measure}"
    plots = [html_plot("Difference to the first stage, with its 95% interval", forest(rows, label=label))]
    for cell in cells:
        svg = sorted_differences(cell.per_query_differences(RERANKED, measure), label=label)
        plots.append(html_plot(f"Queries of {names[id(cell)]}", svg))
    return plots


def _details(models: Mapping[str, Mapping[str, Any]], versions: Mapping[str, str]) -> Table:
    rows = [(name, ", ".join(f"{key} {value}" for key, value in known.items())) for name, known in models.items()]
    rows.append(("versions", ", ".join(f"{package} {number}" for package, number in versions.items())))
    return Table("Models and versions", ("name", "facts"), tuple(rows))
