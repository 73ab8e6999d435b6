"""`crossrank bench`: the table that people choose a model by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from crossrank.cli.contestants import open_contestants
from crossrank.cli.evaluation_sources import DATA, SplitOption, find_sources, open_source, short_names
from crossrank.cli.first_stage import DEFAULT_DEPTH, DepthOption, FirstStageOption, FirstStageOptions, RunOption
from crossrank.cli.info import describe
from crossrank.cli.loading import LoadOptions, takes_load_options
from crossrank.cli.options import OnOverflow
from crossrank.cli.reports import RestartRunsOption, bar, print_report_table, report_folder
from crossrank.cli.terminal import note
from crossrank.errors import InputError

if TYPE_CHECKING:
    from crossrank.evaluation.bench_report import BenchRow
    from crossrank.evaluation.latency import Request
    from crossrank.models.checkpoint import Checkpoint

DEFAULT_NUM_QUERIES = 100
_MODELS_HELP = "Folders or hub names, one after another. The shipped model if left out."
_DATA_HELP = "Also measure nDCG@10 on these labelled queries, and time on their candidates."
_SHAPE_HELP = "Also time the shape of a published model with random weights, which needs no download; may be repeated."


@dataclass(frozen=True)
class Qualities:
    """What was found on labelled data: nDCG@10 by model, the name of the data, and its requests."""

    by_model: dict[str, float]
    dataset: str | None
    requests: list[Request]


@takes_load_options(without=("model", "revision", "label", "family"))
def bench(
    more_models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help=_MODELS_HELP)] = None,
    models: Annotated[list[str] | None, typer.Option("--models", "-m", help=_MODELS_HELP)] = None,
    shape: Annotated[list[str] | None, typer.Option(help=_SHAPE_HELP)] = None,
    documents: Annotated[int, typer.Option(min=1, help="Documents a request.")] = 20,
    requests: Annotated[int, typer.Option(min=1, help="Requests that are timed.")] = 30,
    data: Annotated[str | None, typer.Option("--data", "-d", help=_DATA_HELP, rich_help_panel=DATA)] = None,
    split: SplitOption = None,
    num_queries: Annotated[
        int, typer.Option(min=1, help="Labelled queries, always the same sample.", rich_help_panel=DATA)
    ] = DEFAULT_NUM_QUERIES,
    run: RunOption = None,
    first_stage: FirstStageOption = None,
    depth: DepthOption = DEFAULT_DEPTH,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder for bench.html, bench.md, bench.json and runs.")
    ] = None,
    restart: RestartRunsOption = False,
    *,
    loading: LoadOptions,
) -> None:
    """Measure models side by side: latency of a request, pairs a second, memory, parameters, and quality on a set.

    As in: crossrank bench --models A B C --documents 20 --data DIR
    """
    from crossrank.evaluation.bench_report import bench_table, write_bench_report
    from crossrank.models.checkpoint import DEFAULT_MODEL
    from crossrank.models.shapes import SHAPES

    unknown = next((name for name in shape or () if name not in SHAPES), None)
    if unknown:
        raise InputError(f"no shape {unknown!r}; known are {', '.join(SHAPES)}")
    names = [*(models or ()), *(more_models or ())] or ([] if shape else [DEFAULT_MODEL])
    candidates = FirstStageOptions(run, first_stage, depth)
    candidates.check()
    for name in names:  # a model that is missing is said before the first is measured
        replace(loading, model=name).open()
    with _folder(output) as folder:
        measured = Measurements(loading, candidates, folder, restart=restart)
        qualities = measured.qualities(names, data, split, num_queries, requests, documents)
        rows = [*measured.rows(names, qualities), *measured.random_rows(shape or (), qualities)]
        if output:
            write_bench_report(output, rows, dataset=qualities.dataset)
    print_report_table(bench_table(rows, dataset=qualities.dataset))
    if output:
        note(f"written: {output}/bench.html, bench.md, bench.json")


@contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    """Yield where runs are kept: in the output, or nowhere for long."""
    if output:
        with report_folder(output):
            yield output
        return
    with TemporaryDirectory() as temporary:
        yield Path(temporary)


@dataclass(frozen=True)
class Measurements:
    """How models are loaded, and where their runs are kept."""

    loading: LoadOptions
    candidates: FirstStageOptions
    folder: Path
    restart: bool

    def qualities(
        self, names: Sequence[str], data: str | None, split: str | None, num_queries: int, requests: int, documents: int
    ) -> Qualities:
        """Measure nDCG@10 of every model on labelled data, and take its requests; made-up ones without data."""
        from crossrank.evaluation.comparison import RERANKED
        from crossrank.evaluation.grid import Rules, find_baselines, run_cell
        from crossrank.evaluation.latency import made_up_requests
        from crossrank.evaluation.measures import parse_measures
        from crossrank.evaluation.store import RunStore

        if data is None:
            return Qualities({}, None, made_up_requests(requests, documents))
        rules = Rules(parse_measures("nDCG@10"), self.candidates.depth)
        store = RunStore(self.folder / "runs", restart=self.restart)
        (source,) = find_sources([data], None, split)
        by_model = {}
        with open_source(source, split=split) as whole:
            sample = whole.sample(num_queries)
            stage = self.candidates.open(sample, source.folder, num_sources=1)
            baselines = find_baselines(store, sample, stage, None, rules.depth)
            for contestant, _ in open_contestants(names, self.loading, OnOverflow.truncate) if names else ():
                cell, _ = run_cell(store, sample, baselines, contestant, rules, progress=bar)
                by_model[contestant.label] = cell.mean(RERANKED, "nDCG@10")
                note(f"{contestant.label}: nDCG@10 {by_model[contestant.label]:.4f}")
            real = [
                (sample.queries[query_id], [found for item in run[:documents] if (found := sample.corpus.get(item[0]))])
                for query_id, run in baselines.first_stage.items()
                if len(run) >= documents
            ]
        if not real:
            raise InputError(f"no query of {sample.name} has {documents} candidates: take fewer --documents")
        name = f"{sample.name}, {len(sample.qrels)} queries, {baselines.name} top {rules.depth}"
        return Qualities(by_model, name, [real[i % len(real)] for i in range(requests)])

    def rows(self, names: Sequence[str], qualities: Qualities) -> Iterator[BenchRow]:
        """Measure the models one after another, each in a process of its own."""
        for label, name in zip(short_names(names), names, strict=True):
            yield self._row(label, name, qualities, is_random=False)

    def random_rows(self, shapes: Sequence[str], qualities: Qualities) -> Iterator[BenchRow]:
        """Measure shapes of published models with random weights."""
        from crossrank.models.shapes import write_random_checkpoint

        for name in shapes:
            with TemporaryDirectory() as folder:
                path = write_random_checkpoint(name, Path(folder) / "checkpoint")
                yield self._row(f"{name} (random weights)", str(path), qualities, is_random=True)

    def _row(self, label: str, name: str, qualities: Qualities, *, is_random: bool) -> BenchRow:
        from crossrank.cli.bench_worker import measure_apart
        from crossrank.evaluation.bench_report import BenchRow

        loading = replace(self.loading, model=name)
        checkpoint = loading.open()
        found = measure_apart(loading, qualities.requests)
        note(f"{label}: p50 {found.latency.p50_ms:.1f} ms")
        return BenchRow(
            model=label,
            backbone=_backbone(checkpoint),
            engine=found.engine,
            parameters=_parameters(checkpoint),
            random_weights=is_random,
            latency=found.latency,
            load_seconds=found.load_seconds,
            peak_memory_bytes=found.peak_memory_bytes,
            quality=qualities.by_model.get(label),
        )


def _backbone(checkpoint: Checkpoint) -> str:
    sizes = describe(checkpoint)["sizes"]
    return f"{checkpoint.family.name} {sizes.get('num_layers', '?')}x{sizes.get('hidden_size', '?')}"


def _parameters(checkpoint: Checkpoint) -> int | None:
    from crossrank.models.shapes import count_parameters

    counted: int | None = describe(checkpoint)["weights"].get("num_parameters")
    return counted if counted is not None else count_parameters(checkpoint.config)
