"""`crossrank evaluate`: base against reranked, models times data sets."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossrank.cli.data_sets import FirstStageOptions, open_contestants, open_data, short_names
from crossrank.cli.exits import INTERRUPTED
from crossrank.cli.options import (
    Backend,
    BackendOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    FamilyOption,
    LabelOption,
    LoadOptions,
    MaxLengthOption,
    NumThreadsOption,
    OnOverflow,
    OnOverflowOption,
    RevisionOption,
)
from crossrank.cli.terminal import note, print_drawn, progress

if TYPE_CHECKING:
    from crossrank.evaluation.comparison import Cell
    from crossrank.evaluation.grid import Contestant, Rules
    from crossrank.evaluation.store import RunStore, StoredRun
    from crossrank.evaluation.tables import Table

_DATA = "Data"
_CANDIDATES = "Candidates"

DataOption = Annotated[
    list[str],
    typer.Option("--data", "-d", help="A folder in BEIR layout; may be repeated.", rich_help_panel=_DATA),
]
SplitOption = Annotated[
    str | None, typer.Option(help="Of the judgements; test, else dev, if left out.", rich_help_panel=_DATA)
]
NumQueriesOption = Annotated[
    int | None, typer.Option(min=1, help="Take a sample of the queries, always the same.", rich_help_panel=_DATA)
]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="A folder or a hub name; may be repeated. The shipped model if left out."),
]
RunOption = Annotated[
    str | None,
    typer.Option(help="A TREC run, or the name of one in each data folder.", rich_help_panel=_CANDIDATES),
]
FirstStageOption = Annotated[
    str | None, typer.Option(help="bm25 or dense:MODEL; bm25 if left out.", rich_help_panel=_CANDIDATES)
]
DepthOption = Annotated[int, typer.Option(min=1, help="Candidates a query.", rich_help_panel=_CANDIDATES)]
OUTPUT_HELP = "The folder to write; the same command goes on with an interrupted one."


@dataclass(frozen=True)
class EvaluateOptions:
    """What is evaluated on, and where the results go."""

    data: Sequence[str]
    split: str | None
    num_queries: int | None
    candidates: FirstStageOptions
    output: Path


def evaluate(
    data: DataOption,
    output: Annotated[Path, typer.Option("--output", "-o", help=OUTPUT_HELP, show_default=False)],
    model: ModelsOption = None,
    split: SplitOption = None,
    num_queries: NumQueriesOption = None,
    run: RunOption = None,
    first_stage: FirstStageOption = None,
    depth: DepthOption = 100,
    measures: Annotated[str, typer.Option(help="The first one is the main one.")] = "nDCG@10,RR@10,R@5,AP@100",
    fuse: Annotated[
        list[str] | None,
        typer.Option(help="Also fuse with the first stage: METHOD:WEIGHT, as in zscore:0.5, or checkpoint."),
    ] = None,
    oracle_positives: Annotated[
        bool, typer.Option("--oracle-positives", help="Also the optimistic figure, with missed positives added.")
    ] = False,
    on_overflow: OnOverflowOption = OnOverflow.truncate,
    restart: Annotated[bool, typer.Option("--restart", help="Drop the runs that the folder has.")] = False,
    revision: RevisionOption = None,
    backend: BackendOption = Backend.auto,
    device: DeviceOption = "auto",
    dtype: DtypeOption = Dtype.auto,
    max_length: MaxLengthOption = None,
    num_threads: NumThreadsOption = None,
    label: LabelOption = None,
    family: FamilyOption = None,
) -> None:
    """Rerank the candidates of labelled queries, and compare with the first stage and with BM25.

    Writes report.md, report.html, results.json, per_query.jsonl and the runs. Several models and data sets make a grid.
    """
    from crossrank.evaluation.grid import Rules, parse_fusion
    from crossrank.evaluation.measures import parse_measures
    from crossrank.evaluation.store import RunStore

    rules = Rules(parse_measures(measures), depth, tuple(dict.fromkeys(fuse or ())), oracle_positives)
    candidates = FirstStageOptions(run, first_stage, depth)
    candidates.check()
    options = EvaluateOptions(data, split, num_queries, candidates, output)
    loading = LoadOptions(None, revision, backend, device, dtype, max_length, num_threads, label, family)
    contestants = open_contestants(_names(model), loading, on_overflow)
    for contestant, _ in contestants:
        for fusion in rules.fusions:
            parse_fusion(fusion, contestant)
    output.mkdir(parents=True, exist_ok=True)
    store = RunStore(output / "runs", restart=restart)
    try:
        evaluated = _evaluate(options, [contestant for contestant, _ in contestants], rules, store)
    except KeyboardInterrupt:
        note(
            f"interrupted: what is scored is kept in {output}; give the same command again, without --restart, to go on"
        )
        raise typer.Exit(INTERRUPTED) from None
    _report(evaluated, {contestant.label: facts for contestant, facts in contestants}, output)


def _names(models: Sequence[str] | None) -> list[str]:
    from crossrank.models.checkpoint import DEFAULT_MODEL

    return list(models or [DEFAULT_MODEL])


def _evaluate(
    options: EvaluateOptions, contestants: Sequence[Contestant], rules: Rules, store: RunStore
) -> list[tuple[Cell, StoredRun]]:
    """Go through the grid model by model: one is in memory at a time."""
    from crossrank.evaluation.grid import find_baselines, run_cell

    names = short_names(options.data)
    evaluated = []
    for contestant in contestants:
        for source, name in zip(options.data, names, strict=True):
            with open_data(source, split=options.split, name=name) as whole:
                data = whole.sample(options.num_queries) if options.num_queries else whole
                first_stage = options.candidates.open(data, source, num_sources=len(names))
                bm25 = options.candidates.bm25(data)
                baselines = find_baselines(store, data, first_stage, bm25, rules.depth)
                cell, stored = run_cell(
                    store,
                    data,
                    baselines,
                    contestant,
                    rules,
                    num_queries_of_set=len(whole.qrels),
                    progress=lambda description, total, done: progress(description, total=total, completed=done),
                )
            note(f"{contestant.label}, {name}: {_headline(cell)}")
            evaluated.append((cell, stored))
    return evaluated


def _headline(cell: Cell) -> str:
    from crossrank.evaluation.comparison import FIRST_STAGE, RERANKED

    measure = cell.measures[0]
    before, after = cell.mean(FIRST_STAGE, measure), cell.mean(RERANKED, measure)
    return f"{measure} {before:.4f} to {after:.4f}, {cell.pairs} pairs in {cell.seconds:.1f} s"


def _report(evaluated: Sequence[tuple[Cell, StoredRun]], models: dict[str, dict[str, Any]], output: Path) -> None:
    from crossrank.evaluation.comparison import correct_over_datasets
    from crossrank.evaluation.report import by_model, write_report
    from crossrank.evaluation.tables import conditions_table, fusion_table, grid_table, main_table, oracle_table

    cells = correct_over_datasets([cell for cell, _ in evaluated])
    write_report(output, cells, models, command=shlex.join(["crossrank", *sys.argv[1:]]))
    if len(evaluated) == 1:
        copyfile(evaluated[0][1].path, output / "run.trec.gz")
    for group in by_model(cells).values():
        for table in (main_table(group), fusion_table(group), oracle_table(group), conditions_table(group)):
            if table:
                print_report_table(table)
    if len(models) > 1:
        print_report_table(grid_table(cells))
    note(f"written: {output}/report.html, report.md, results.json, per_query.jsonl, and the runs")


def print_report_table(table: Table) -> None:
    """Print a table of a report, numbers to the right, and its note."""
    from rich import box
    from rich.table import Table as Drawn
    from rich.text import Text

    drawn = Drawn(
        title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD, caption=table.note, caption_justify="left",
        pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for i, column in enumerate(table.columns):
        drawn.add_column(column, justify="right" if table.is_numeric(i) else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    print_drawn(drawn)
