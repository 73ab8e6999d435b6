"""`crossrank far-relevant`: up to where a model reads a long document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossrank.cli.contestants import LastModel, open_contestants
from crossrank.cli.evaluation_sources import SplitOption, find_sources, open_source
from crossrank.cli.first_stage import FirstStageOption, FirstStageOptions, RunOption
from crossrank.cli.loading import LoadOptions, takes_load_options
from crossrank.cli.options import OnOverflow
from crossrank.cli.reports import RestartRunsOption, bar, print_report_table, report_folder
from crossrank.cli.terminal import note
from crossrank.errors import InputError

if TYPE_CHECKING:
    from crossrank.data.evaluation_set import EvaluationSet
    from crossrank.evaluation.grid import Contestant
    from crossrank.evaluation.long_documents import PositionCurve
    from crossrank.evaluation.ordering import Run
    from crossrank.evaluation.store import RunStore

CHANCE = "no reranking (chance)"


@takes_load_options()
def far_relevant(
    data: Annotated[str, typer.Option("--data", "-d", help="Labelled queries over paragraphs, in BEIR layout.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    model: Annotated[str | None, typer.Option("--model", "-m", help="The shipped model if left out.")] = None,
    positions: Annotated[str, typer.Option(help="0 is the beginning, 1 the end.")] = "0,0.25,0.5,0.75,1",
    words: Annotated[int, typer.Option(min=1, help="The least length of a document.")] = 1500,
    candidates: Annotated[int, typer.Option(min=2, help="Documents a query.")] = 20,
    num_queries: Annotated[int, typer.Option(min=1, help="A sample of the queries, always the same.")] = 50,
    split: SplitOption = None,
    run: RunOption = None,
    first_stage: FirstStageOption = None,
    restart: RestartRunsOption = False,
    *,
    loading: LoadOptions,
) -> None:
    """Hide the answer at a chosen depth of long documents, and rank them truncated and in chunks.

    The long documents are made from the paragraphs of the data set: one candidate paragraph each, among others.
    """
    from crossrank.evaluation.grid import find_baselines
    from crossrank.evaluation.long_documents import far_relevant_sets, position_table, write_position_report
    from crossrank.evaluation.store import RunStore

    places = _parse_positions(positions)
    stage_options = FirstStageOptions(run, first_stage, candidates)
    stage_options.check()
    memory = LastModel()
    contestants = {
        mode: open_contestants([model or _default_model()], loading, mode, memory=memory)[0][0]
        for mode in (OnOverflow.truncate, OnOverflow.chunk)
    }
    (source,) = find_sources([data], None, split)
    with report_folder(output), open_source(source, split=split) as whole:
        store = RunStore(output / "runs", restart=restart)
        sample = whole.sample(num_queries)
        stage = stage_options.open(sample, source.folder, num_sources=1)
        found = find_baselines(store, sample, stage, None, candidates).first_stage
        sets = far_relevant_sets(sample, found, positions=places, words=words)
        curves = _curves(store, sets, contestants)
        num_kept = len(sets[places[0]].qrels)
        name = contestants[OnOverflow.truncate].label
        title = f"{name} on {whole.name}: nDCG@10 by the position of the answer"
        explained = (
            f"{num_kept} of {len(sample.qrels)} queries, those with a relevant paragraph among the {candidates} "
            f"candidates of {stage.name}; every document has at least {words} words."
        )
        facts = {"model": name, "dataset": whole.name, "queries": num_kept, "words": words, "candidates": candidates}
        write_position_report(output, curves, facts, title=title, note=explained)
    print_report_table(position_table(curves, title=title, note=explained))
    note(f"written: {output}/far_relevant.html, far_relevant.md, far_relevant.json, and the runs")


def _default_model() -> str:
    from crossrank.models.checkpoint import DEFAULT_MODEL

    return DEFAULT_MODEL


def _parse_positions(text: str) -> list[float]:
    try:
        return sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise InputError(f"--positions are numbers with commas, as in 0,0.5,1, not {text!r}") from None


def _curves(
    store: RunStore, sets: Mapping[float, EvaluationSet], contestants: Mapping[OnOverflow, Contestant]
) -> list[PositionCurve]:
    """Score every set once for each way to read long documents, and return nDCG@10 by position."""
    from crossrank.evaluation.candidates import given
    from crossrank.evaluation.grid import score_candidates
    from crossrank.evaluation.long_documents import PositionCurve

    points: dict[str, list[tuple[float, float]]] = {CHANCE: [], **{mode.value: [] for mode in contestants}}
    for position, data in sets.items():
        candidates = {query_id: given(data, query_id) for query_id in data.qrels}
        points[CHANCE].append((position, _mean_ndcg(candidates, data)))
        for mode, contestant in contestants.items():
            named = replace(contestant, label=f"{contestant.label}, {mode.value}")
            scored = score_candidates(store, data, named, candidates, progress=bar)
            points[mode.value].append((position, _mean_ndcg(scored.run, data)))
            note(
                f"{named.label}, position {position:g}: nDCG@10 {points[mode.value][-1][1]:.4f}, {scored.seconds:.0f} s"
            )
    return [PositionCurve(name, tuple(found)) for name, found in points.items()]


def _mean_ndcg(run: Run, data: EvaluationSet) -> float:
    from crossrank.evaluation.measures import parse_measures, per_query

    values = per_query(run, data.qrels, parse_measures("nDCG@10"))["nDCG@10"]
    return sum(values.values()) / len(values)
