"""`crossrank calibrate`: probabilities that can be believed, stored in the checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossrank.cli.contestants import open_contestants
from crossrank.cli.evaluation_sources import NumQueriesOption, SplitOption, find_sources, open_source
from crossrank.cli.first_stage import DEFAULT_DEPTH, DepthOption, FirstStageOption, FirstStageOptions, RunOption
from crossrank.cli.loading import LoadOptions, takes_load_options
from crossrank.cli.options import OnOverflow, OnOverflowOption
from crossrank.cli.reports import RestartRunsOption, bar, print_report_table, report_folder
from crossrank.cli.terminal import note
from crossrank.errors import InputError

if TYPE_CHECKING:
    from crossrank.data.evaluation_set import EvaluationSet
    from crossrank.evaluation.calibration_report import CalibrationResult
    from crossrank.evaluation.grid import Contestant, FirstStage
    from crossrank.evaluation.ordering import Run
    from crossrank.evaluation.store import RunStore
    from crossrank.models.checkpoint import Checkpoint

DEFAULT_PRECISIONS = (0.5, 0.8, 0.9, 0.95)


class Method(StrEnum):
    """Curves."""

    platt = "platt"
    temperature = "temperature"


@takes_load_options()
def calibrate(
    data: Annotated[str, typer.Option("--data", "-d", help="Labelled queries: a folder in BEIR layout.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for the report.", show_default=False)],
    model: Annotated[str | None, typer.Option("--model", "-m", help="A folder or a hub name.")] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write a calibrated copy of the checkpoint here, instead of into --model.")
    ] = None,
    method: Annotated[Method, typer.Option(help="platt: slope and intercept; temperature: slope.")] = Method.platt,
    precision: Annotated[
        list[float] | None, typer.Option(min=0, max=1, help="Show where to cut for it; may be repeated.")
    ] = None,
    split: SplitOption = None,
    num_queries: NumQueriesOption = None,
    run: RunOption = None,
    first_stage: FirstStageOption = None,
    depth: DepthOption = DEFAULT_DEPTH,
    on_overflow: OnOverflowOption = OnOverflow.truncate,
    restart: RestartRunsOption = False,
    *,
    loading: LoadOptions,
) -> None:
    """Fit how a score becomes a probability, on labelled candidates, and store it in crossrank.json.

    Half of the queries are fitted on, the other half shows what was gained. The order of documents never changes.
    """
    from crossrank.evaluation.calibration_report import calibration_tables, write_calibration_report
    from crossrank.evaluation.store import RunStore

    loading = replace(loading, model=model)
    checkpoint = loading.open()
    _check_target(checkpoint, model, save)
    candidates = FirstStageOptions(run, first_stage, depth)
    candidates.check()
    ((contestant, _),) = open_contestants([model or checkpoint.name], loading, on_overflow)
    (source,) = find_sources([data], None, split)
    with report_folder(output), open_source(source, split=split) as whole:
        sample = whole.sample(num_queries) if num_queries else whole
        stage = candidates.open(sample, source.folder, num_sources=1)
        scores = _score(RunStore(output / "runs", restart=restart), sample, stage, contestant, depth)
        result = _fit(scores, sample, checkpoint, method, precision or DEFAULT_PRECISIONS)
        write_calibration_report(output, result)
    for table in calibration_tables(result):
        print_report_table(table)
    path = _store(result, checkpoint, save)
    note(f"written: {output}/calibration.html, calibration.md, calibration.json; stored: {path}")


def _score(store: RunStore, data: EvaluationSet, stage: FirstStage, contestant: Contestant, depth: int) -> Run:
    from crossrank.evaluation.grid import find_baselines, score_candidates

    baselines = find_baselines(store, data, stage, None, depth)
    return score_candidates(store, data, contestant, baselines.first_stage, progress=bar).run


def _fit(
    scores: Run, data: EvaluationSet, checkpoint: Checkpoint, method: Method, precisions: Sequence[float]
) -> CalibrationResult:
    from crossrank.evaluation.calibration import UNCALIBRATED, Scaling, fit, judge, split_by_query, thresholds
    from crossrank.evaluation.calibration_report import CalibrationResult

    to_fit, held_out = split_by_query(scores, data.qrels)
    scaling = fit(to_fit, method.value)
    stated = checkpoint.settings.calibration
    before = Scaling(stated.slope, stated.intercept) if stated else UNCALIBRATED
    after = scaling.probabilities(held_out.scores)
    return CalibrationResult(
        model=checkpoint.name,
        dataset=f"{data.name} ({data.split})",
        method=method.value,
        scaling=scaling,
        fitted_on=to_fit,
        held_out=held_out,
        before=judge(before.probabilities(held_out.scores), held_out.relevant),
        after=judge(after, held_out.relevant),
        thresholds=thresholds(
            scaling.probabilities(to_fit.scores), to_fit.relevant, after, held_out.relevant, precisions
        ),
    )


def _store(result: CalibrationResult, checkpoint: Checkpoint, save: Path | None) -> Path:
    """Write the calibration into crossrank.json of the checkpoint, or of a copy."""
    from crossrank.models.settings import Calibration, write_settings

    slope, intercept = result.scaling
    calibration = Calibration(method=result.method, slope=slope, intercept=intercept)
    settings = checkpoint.settings.model_copy(update={"calibration": calibration})
    if save is None:
        return write_settings(checkpoint.folder, settings)
    save.parent.mkdir(parents=True, exist_ok=True)
    fresh = save.with_name(f".{save.name}.part")
    try:
        shutil.copytree(checkpoint.folder, fresh)
        write_settings(fresh, settings)
        fresh.replace(save)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return save / "crossrank.json"


def _check_target(checkpoint: Checkpoint, model: str | None, save: Path | None) -> None:
    if save is None and (model is None or not Path(model).is_dir()):
        raise InputError(
            f"{checkpoint.name} is not a folder of yours to write into: --save FOLDER makes a calibrated copy"
        )
    if save is not None and save.exists() and (not save.is_dir() or any(save.iterdir())):
        raise InputError(f"{save} exists and is not an empty folder: give another place to --save")
