"""The tables of an evaluation, as text cells; the terminal, Markdown and HTML draw the same ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crossrank.evaluation.comparison import BM25, CEILING, FIRST_STAGE, ORACLE, RERANKED, Cell, mean_difference
from crossrank.evaluation.results import mean_over_datasets
from crossrank.evaluation.significance import Interval

MEAN = "mean"
NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes:
        title: Above it.
        columns: Heads.
        rows: As many cells each as there are columns.
        note: What a reader must know to read it, or "".
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def is_numeric(self, column: int) -> bool:
        """Return whether a column holds numbers, which stand to the right."""
        cells = [row[column] for row in self.rows if row[column] not in ("", NOTHING)]
        return bool(cells) and all(re.match(r"[-+\[<]?[+-]?\d", cell) for cell in cells)


def main_table(cells: Sequence[Cell]) -> Table:
    """Base against reranked for one model: a row a data set and measure, and their means."""
    first = cells[0]
    baselines = _baselines(cells)
    rows = [row for cell in cells for row in _rows_of_cell(cell, baselines)]
    if len(cells) > 1:
        rows += _mean_rows(cells, baselines)
    heads = [_system_name(system, first) for system in (*baselines, RERANKED)]
    columns = ("data set", "measure", *heads, "difference", "95% interval", "p", "won/lost/tied", "pairs/s", "seconds")
    return Table(f"{first.model}: reranked against the first stage", columns, tuple(rows), _note(cells))


def _note(cells: Sequence[Cell]) -> str:
    samples = [cell for cell in cells if len(cell.queries) < cell.num_queries_of_set]
    sampled = f"{len(samples)} of {len(cells)} data sets are samples of their queries. " if samples else ""
    if len(cells) == 1 and samples:
        sampled = f"A sample of {len(cells[0].queries)} of {cells[0].num_queries_of_set} queries. "
    holm = ", corrected over the data sets (Holm)" if len(cells) > 1 else ""
    stages = ", ".join(dict.fromkeys(cell.first_stage for cell in cells))
    without = ", ".join(cell.dataset for cell in cells if BM25 not in cell.values)
    textless = f"No BM25 for {without}: the documents have no text. " if without else ""
    return (
        f"First stage, not reranked: {stages}. {textless}{sampled}Every judged query counts, one without candidates as "
        "0; relevant documents that the first stage did not find are misses. Interval: bootstrap over queries. p: "
        f"paired randomisation test{holm}."
    )


def _baselines(cells: Sequence[Cell]) -> list[str]:
    """BM25 and the first stage; one column where they are the same."""
    differs = any(BM25 in cell.values and cell.first_stage != BM25 for cell in cells)
    return [BM25, FIRST_STAGE] if differs else [FIRST_STAGE]


def system_columns(cells: Sequence[Cell]) -> list[tuple[str, str, list[Cell]]]:
    """Return the baselines and the models: a name for each, its system in the cells, and the cells that show it."""
    models = list(dict.fromkeys(cell.model for cell in cells))
    first = [cell for cell in cells if cell.model == models[0]]
    columns = [(_system_name(system, first[0]), system, first) for system in _baselines(first)]
    return columns + [(model, RERANKED, [cell for cell in cells if cell.model == model]) for model in models]


def _system_name(system: str, cell: Cell) -> str:
    names = {
        BM25: "BM25",
        FIRST_STAGE: "BM25 (no reranking)" if cell.first_stage == BM25 else "no reranking",
        RERANKED: "reranked",
        CEILING: "ceiling",
        ORACLE: "positives added (optimistic)",
    }
    return names.get(system, system)


def _rows_of_cell(cell: Cell, baselines: Sequence[str]) -> Iterable[tuple[str, ...]]:
    for measure, difference in cell.differences[RERANKED].items():
        is_first = measure == cell.measures[0]
        yield (
            cell.dataset if is_first else "",
            measure,
            *(_value(cell, system, measure) for system in (*baselines, RERANKED)),
            f"{difference.delta:+.4f}",
            interval(difference.ci95),
            p_value(difference.p_value),
            "/".join(map(str, difference.outcome)),
            rate(cell.pairs_per_second) if is_first else "",
            f"{cell.seconds:.1f}" if is_first else "",
        )


def _mean_rows(cells: Sequence[Cell], baselines: Sequence[str]) -> Iterable[tuple[str, ...]]:
    seconds = sum(cell.seconds for cell in cells)
    for measure in cells[0].measures:
        is_first = measure == cells[0].measures[0]
        delta, ci95 = mean_difference(cells, RERANKED, measure)
        yield (
            f"{MEAN} of {len(cells)}" if is_first else "",
            measure,
            *(_mean(cells, system, measure) for system in (*baselines, RERANKED)),
            f"{delta:+.4f}",
            interval(ci95),
            "",
            "",
            "",
            f"{seconds:.1f}" if is_first else "",
        )


def _value(cell: Cell, system: str, measure: str) -> str:
    return f"{cell.mean(system, measure):.4f}" if system in cell.values else NOTHING


def _mean(cells: Sequence[Cell], system: str, measure: str) -> str:
    if any(system not in cell.values for cell in cells):
        return NOTHING
    return f"{mean_over_datasets(cells, system)[measure]:.4f}"


def interval(ends: Interval) -> str:
    """Return an interval of differences as text."""
    return f"[{ends.low:+.3f}, {ends.high:+.3f}]"


def rate(value: float) -> str:
    """Return a number of pairs a second as text; pages on a CPU take seconds each."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"


def p_value(value: float) -> str:
    """Return a p-value as text."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def grid_table(cells: Sequence[Cell]) -> Table:
    """The main measure of every model on every data set, with means."""
    measure, models = cells[0].measures[0], list(dict.fromkeys(cell.model for cell in cells))
    by_place = {(cell.dataset, cell.model): cell for cell in cells}
    datasets = list(dict.fromkeys(cell.dataset for cell in cells))
    baselines = _baselines(cells)
    rows = []
    for dataset in datasets:
        here = [by_place[dataset, model] for model in models]
        base = [_value(here[0], system, measure) for system in baselines]
        rows.append((dataset, *base, *(_value(cell, RERANKED, measure) for cell in here)))
    columns = [[by_place[dataset, model] for dataset in datasets] for model in models]
    base = [_mean(columns[0], system, measure) for system in baselines]
    rows.append((f"{MEAN} of {len(datasets)}", *base, *(_mean(column, RERANKED, measure) for column in columns)))
    heads = [_system_name(system, cells[0]) for system in baselines]
    return Table(f"{measure} of every model", ("data set", *heads, *models), tuple(rows))


def fusion_table(cells: Sequence[Cell]) -> Table | None:
    """Fusions of the model with the first stage, or None where none was asked for."""
    rows = [
        (
            cell.dataset,
            system.removeprefix("fused "),
            measure,
            _value(cell, FIRST_STAGE, measure),
            _value(cell, RERANKED, measure),
            _value(cell, system, measure),
            f"{difference.delta:+.4f}",
            interval(difference.ci95),
            p_value(difference.p_value),
            "/".join(map(str, difference.outcome)),
        )
        for cell in cells
        for system in cell.rerankings
        if system != RERANKED
        for measure, difference in cell.differences[system].items()
    ]
    heads = ("first stage", "reranked", "fused", "fused - first stage", "95% interval", "p", "won/lost/tied")
    return Table(f"{cells[0].model}: fused", ("data set", "fusion", "measure", *heads), tuple(rows)) if rows else None


def oracle_table(cells: Sequence[Cell]) -> Table | None:
    """The optimistic figures with relevant documents added, or None where nobody asked for them."""
    rows = [
        (cell.dataset, measure, _value(cell, RERANKED, measure), _value(cell, ORACLE, measure))
        for cell in cells
        if ORACLE in cell.values
        for measure in cell.measures
    ]
    note = (
        "Optimistic: every relevant document that the first stage missed was put among the candidates. No system that "
        "anybody can run reaches these figures; they are here to be compared with tables that were made this way."
    )
    columns = ("data set", "measure", "reranked", "reranked, positives added")
    return (
        Table(f"{cells[0].model}: with the positives added (optimistic)", columns, tuple(rows), note) if rows else None
    )


def conditions_table(cells: Sequence[Cell]) -> Table:
    """What the figures rest on: queries, candidates, judgements, the ceiling, time."""
    measure = cells[0].measures[0]
    rows = tuple(
        (
            cell.dataset,
            cell.split,
            f"{len(cell.queries)} of {cell.num_queries_of_set}",
            cell.first_stage,
            str(cell.depth),
            _value(cell, CEILING, measure),
            *(f"{cell.judged[system]:.3f}" for system in (FIRST_STAGE, RERANKED)),
            str(cell.pairs),
            f"{cell.seconds:.1f}",
            rate(cell.pairs_per_second),
        )
        for cell in cells
    )
    columns = ("data set", "split", "queries", "first stage", "depth", f"ceiling {measure}",
               f"{cells[0].judged_measure} before", "and after", "pairs", "seconds", "pairs/s")  # fmt: skip
    note = (
        "Ceiling: the candidates in the best order there is. Judged: the share of the best documents that anybody has "
        "judged; an unjudged one counts as not relevant: where the share is low, a better ranking may look no better."
    )
    return Table(f"{cells[0].model}: what the figures rest on", columns, rows, note)
