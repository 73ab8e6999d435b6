"""`crossrank evaluate`: base against reranked, models times data sets."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from crossrank.cli.contestants import open_contestants
from crossrank.cli.evaluation_sources import (
    DATA,
    NumQueriesOption,
    Source,
    SplitOption,
    check_sources,
    find_sources,
    open_source,
    views_of,
)
from crossrank.cli.first_stage import CANDIDATES, DEFAULT_DEPTH, FirstStageOption, FirstStageOptions, RunOption
from crossrank.cli.loading import LoadOptions, takes_load_options
from crossrank.cli.options import OnOverflow, OnOverflowOption
from crossrank.cli.reports import RestartRunsOption, bar, print_report_table, report_folder
from crossrank.cli.terminal import note
from crossrank.errors import InputError

if TYPE_CHECKING:
    from crossrank.data.evaluation_set import EvaluationSet, Modality
    from crossrank.evaluation.comparison import Cell
    from crossrank.evaluation.grid import Contestant, Rules
    from crossrank.evaluation.store import RunStore, StoredRun
    from crossrank.evaluation.suites import Suite
    from crossrank.evaluation.tables import Table

DATA_HELP = (
    "A folder in BEIR layout, or a published set as LAYOUT:SOURCE[:CONFIG], as in mteb:mteb/MIRACLReranking:de, with a "
    "hub name or a local copy; may be repeated."
)
DataOption = Annotated[list[str] | None, typer.Option("--data", "-d", help=DATA_HELP, rich_help_panel=DATA)]
SUITE_HELP = (
    "nvidia-text, nvidia-visual, beir, nanobeir or vidore-v3: its sets, measure and depth, beside published rows."
)
SuiteOption = Annotated[str | None, typer.Option(help=SUITE_HELP, rich_help_panel=DATA)]


class ModalityChoice(StrEnum):
    """What of a page is looked at."""

    text = "text"
    image = "image"
    both = "image+text"


ModalityOption = Annotated[
    list[ModalityChoice] | None,
    typer.Option(help="Of pages: one or more; the text, where there is any, if left out.", rich_help_panel=DATA),
]
FirstStageModalityOption = Annotated[
    ModalityChoice | None,
    typer.Option(
        help="What of pages the first stage searches; the most that it reads, if left out.", rich_help_panel=CANDIDATES
    ),
]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="A folder or a hub name; may be repeated. The shipped model if left out."),
]
DEPTH_HELP = "Candidates a query; 100, or what the suite says, if left out."
DepthOption = Annotated[int | None, typer.Option(min=1, help=DEPTH_HELP, rich_help_panel=CANDIDATES)]
OUTPUT_HELP = "The folder to write; the same command goes on with an interrupted one."


@dataclass(frozen=True)
class EvaluateOptions:
    """What is evaluated on, and where the results go."""

    sources: Sequence[Source]
    suite: Suite | None
    split: str | None
    modalities: Sequence[Modality]
    num_queries: int | None
    candidates: FirstStageOptions
    output: Path


class Evaluated(NamedTuple):
    """A finished cell: its numbers, its run, where its data comes from and what of it was looked at."""

    cell: Cell
    stored: StoredRun
    source: Source
    modality: Modality


@takes_load_options()
def evaluate(
    output: Annotated[Path, typer.Option("--output", "-o", help=OUTPUT_HELP, show_default=False)],
    data: DataOption = None,
    suite: SuiteOption = None,
    model: ModelsOption = None,
    split: SplitOption = None,
    modality: ModalityOption = None,
    num_queries: NumQueriesOption = None,
    run: RunOption = None,
    first_stage: FirstStageOption = None,
    first_stage_modality: FirstStageModalityOption = None,
    depth: DepthOption = None,
    measures: Annotated[str, typer.Option(help="The first one is the main one.")] = "nDCG@10,RR@10,R@5,AP@100",
    fuse: Annotated[
        list[str] | None,
        typer.Option(help="Also fuse with the first stage: METHOD:WEIGHT, as in zscore:0.5, or checkpoint."),
    ] = None,
    oracle_positives: Annotated[
        bool, typer.Option("--oracle-positives", help="Also the optimistic figure, with missed positives added.")
    ] = False,
    on_overflow: OnOverflowOption = OnOverflow.truncate,
    restart: RestartRunsOption = False,
    *,
    loading: LoadOptions,
) -> None:
    """Rerank the candidates of labelled queries, and compare with the first stage and with BM25.

    Writes report.md, report.html, results.json, per_query.jsonl and the runs. Several models and data sets make a grid.
    """
    from crossrank.evaluation.grid import Rules, parse_fusion
    from crossrank.evaluation.measures import parse_measures
    from crossrank.evaluation.store import RunStore
    from crossrank.evaluation.suites import find_suite

    found = find_suite(suite) if suite else None
    depth = depth or (found.depth if found else DEFAULT_DEPTH)
    asked = parse_measures(f"{found.measure},{measures}" if found else measures)
    rules = Rules(asked, depth, tuple(dict.fromkeys(fuse or ())), oracle_positives)
    candidates = FirstStageOptions(
        run, first_stage, depth, first_stage_modality.value if first_stage_modality else None
    )
    candidates.check()
    sources = find_sources(data or (), found, split)
    check_sources(sources, candidates, split)
    looked_at: list[Modality] = [choice.value for choice in modality or ()]
    options = EvaluateOptions(sources, found, split, looked_at, num_queries, candidates, output)
    contestants = open_contestants(_names(model), loading, on_overflow)
    for contestant, facts in contestants:
        _check_reads(contestant.label, facts, looked_at)
        for fusion in rules.fusions:
            parse_fusion(fusion, contestant)
    with report_folder(output):
        store = RunStore(output / "runs", restart=restart)
        evaluated = _evaluate(options, [contestant for contestant, _ in contestants], rules, store)
        _report(evaluated, {contestant.label: facts for contestant, facts in contestants}, options)


def _check_reads(label: str, facts: Mapping[str, Any], looked_at: Sequence[Modality]) -> None:
    """Check that a model reads what it is shown: of a page with a text, a model of texts would read the text alone."""
    unread = [modality for modality in looked_at if modality != "text"]
    if unread and "images" not in facts:
        raise InputError(f"{label} reads text alone, and --modality {unread[0]} needs a model that reads images")


def _names(models: Sequence[str] | None) -> list[str]:
    from crossrank.models.checkpoint import DEFAULT_MODEL

    return list(models or [DEFAULT_MODEL])


def _evaluate(
    options: EvaluateOptions, contestants: Sequence[Contestant], rules: Rules, store: RunStore
) -> list[Evaluated]:
    """Go through the grid model by model: one is in memory at a time."""
    evaluated: list[Evaluated] = []
    for contestant in contestants:
        for source in options.sources:
            with open_source(source, split=options.split) as whole:
                evaluated += _evaluate_source(source, whole, options, contestant, rules, store)
    if not evaluated:
        raise InputError(f"none of the data sets has {' or '.join(options.modalities)} to look at")
    return evaluated


def _evaluate_source(
    source: Source,
    whole: EvaluationSet,
    options: EvaluateOptions,
    contestant: Contestant,
    rules: Rules,
    store: RunStore,
) -> Iterator[Evaluated]:
    """Evaluate one model on one data set, once for each part of its pages that is looked at, on the same candidates."""
    from crossrank.evaluation.grid import find_baselines, run_cell

    data = whole.sample(options.num_queries) if options.num_queries else whole
    views = views_of(data, options.modalities)
    if not views:
        note(f"{source.name}: left out, its documents are {data.modality} alone")
        return
    (searched,) = views_of(data, ())
    first_stage = options.candidates.open(data, source.folder, num_sources=len(options.sources))
    baselines = find_baselines(store, searched, first_stage, options.candidates.bm25(data), rules.depth)
    for view in views:
        cell, stored = run_cell(
            store,
            view,
            baselines,
            contestant,
            rules,
            num_queries_of_set=len(whole.qrels),
            progress=bar,
        )
        note(f"{contestant.label}, {view.name}: {_headline(cell)}")
        yield Evaluated(cell, stored, source, view.modality)


def _headline(cell: Cell) -> str:
    from crossrank.evaluation.comparison import FIRST_STAGE, RERANKED

    measure = cell.measures[0]
    before, after = cell.mean(FIRST_STAGE, measure), cell.mean(RERANKED, measure)
    return f"{measure} {before:.4f} to {after:.4f}, {cell.pairs} pairs in {cell.seconds:.1f} s"


def _report(evaluated: Sequence[Evaluated], models: dict[str, dict[str, Any]], options: EvaluateOptions) -> None:
    from crossrank.evaluation.comparison import correct_over_datasets
    from crossrank.evaluation.report import by_model, write_report
    from crossrank.evaluation.tables import conditions_table, fusion_table, grid_table, main_table, oracle_table

    output = options.output
    cells = correct_over_datasets([each.cell for each in evaluated])
    summaries = _summaries(cells, evaluated, options.suite)
    write_report(output, cells, models, more_tables=summaries, command=shlex.join(["crossrank", *sys.argv[1:]]))
    whole = output / "run.trec.gz"
    if len(evaluated) == 1:
        part = whole.with_name(f".{whole.name}.part")
        copyfile(evaluated[0].stored.path, part)
        part.replace(whole)
    else:
        whole.unlink(missing_ok=True)  # of an earlier evaluation in this folder
    for group in by_model(cells).values():
        for table in (main_table(group), fusion_table(group), oracle_table(group), conditions_table(group)):
            if table:
                print_report_table(table)
    for table in ([grid_table(cells)] if len(models) > 1 else []) + summaries:
        print_report_table(table)
    note(f"written: {output}/report.html, report.md, results.json, per_query.jsonl, and the runs")


def _summaries(cells: Sequence[Cell], evaluated: Sequence[Evaluated], suite: Suite | None) -> list[Table]:
    """Return the tables by language and by what of a page is looked at, and the suite's beside the published rows."""
    from crossrank.evaluation.languages import language_tables
    from crossrank.evaluation.suite_tables import View, modality_table, suite_table

    families = {
        each.cell.dataset: f"{each.source.published.family}{'' if each.modality == 'text' else f', {each.modality}'}"
        for each in evaluated
        if each.source.published and each.source.published.family
    }
    views = {each.cell.dataset: View(each.source.name, each.modality) for each in evaluated}
    pages = modality_table(cells, views)
    tables = language_tables(cells, families) + ([pages] if pages else [])
    if suite:
        titles = {part.data.title for part in suite.parts}
        tables.append(suite_table(suite, [cell for cell in cells if views[cell.dataset].title in titles], views))
    return tables
