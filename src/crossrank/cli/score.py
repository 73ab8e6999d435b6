"""`crossrank score`: a file of pairs to a folder of scores, so that it can be interrupted and continued."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossrank import __version__
from crossrank.cli.exits import INTERRUPTED
from crossrank.cli.loading import LoadOptions, takes_load_options
from crossrank.cli.options import Engine, InstructionOption, SkipBadOption
from crossrank.cli.rerank_run import fingerprint_files
from crossrank.cli.terminal import note, note_skipped, progress
from crossrank.errors import InputError

if TYPE_CHECKING:
    from crossrank.data.pair_files import PairShard
    from crossrank.data.score_folder import ScoreFolder, ShardRecord
    from crossrank.inference.bulk import BulkJob


_RAY = "On a Ray cluster"


@takes_load_options()
def score(
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS",
            help="JSONL (also .gz) or Parquet: query, document or text, title, image, ids.",
            exists=True,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    instruction: InstructionOption = None,
    skip_bad: SkipBadOption = False,
    restart: Annotated[bool, typer.Option("--restart", help="Drop what an interrupted job has left.")] = False,
    engine: Annotated[
        Engine, typer.Option(help="This process, or a Ray cluster: that of RAY_ADDRESS, else this machine.")
    ] = Engine.local,
    actors: Annotated[
        int | None,
        typer.Option(min=1, help="Models to load; one a GPU, else one a node, if left out.", rich_help_panel=_RAY),
    ] = None,
    *,
    loading: LoadOptions,
) -> None:
    """Score every pair of a file into Parquet shards: raw logits, higher is more relevant.

    The same command goes on with an interrupted job.
    """
    from crossrank.data.pair_files import plan_shards
    from crossrank.data.score_folder import open_score_folder
    from crossrank.data.text import SkippedLines
    from crossrank.inference.bulk import BulkJob

    if not pairs.is_file():
        raise InputError(f"{pairs} is no plain file, and pairs are read more than once: save them to a file")
    if actors is not None and engine is Engine.local:
        raise InputError("--actors needs --engine ray")
    skipped = SkippedLines() if skip_bad else None
    settings = _settings(pairs, loading, instruction=instruction, skip_bad=skip_bad)
    with open_score_folder(output, settings=settings, restart=restart) as scores:
        shards = list(plan_shards(pairs, skipped=skipped))
        if skipped:
            note_skipped(skipped)
        job = BulkJob(pairs.absolute(), scores.folder.absolute(), instruction, skip_bad)
        start = partial(_score_on_ray, num_actors=actors) if engine is Engine.ray else _score_here
        _run(partial(start, job, loading), shards, scores)
    _report(output, scores.records.values())


def _run(
    start: Callable[[list[PairShard]], Iterable[ShardRecord]], shards: list[PairShard], scores: ScoreFolder
) -> None:
    """Score the shards that are not finished."""
    total = sum(shard.num_pairs for shard in shards)
    missing = [shard for shard in shards if shard.index not in scores.records]
    done = total - sum(shard.num_pairs for shard in missing)
    if done:
        note(f"{done} of {total} pairs are already in {scores.folder}")
    try:
        with progress("pairs", total=total, completed=done) as advance:
            for record in start(missing):
                scores.add(record)
                done += shards[record.index].num_pairs
                advance(shards[record.index].num_pairs)
    except KeyboardInterrupt:
        kept = f", which are kept in {scores.folder}" if done else ""
        note(f"interrupted after {done} of {total} pairs{kept}: give the same command again to go on")
        raise typer.Exit(INTERRUPTED) from None


def _score_here(job: BulkJob, loading: LoadOptions, shards: list[PairShard]) -> Iterable[ShardRecord]:
    from crossrank.inference.bulk import run_here

    reranker = loading.load()
    reranker.score([], instruction=job.instruction)  # refuses what no pair could be scored with
    return run_here(job, reranker, shards)


def _score_on_ray(
    job: BulkJob, loading: LoadOptions, shards: list[PairShard], *, num_actors: int | None
) -> Iterable[ShardRecord]:
    from crossrank.inference.ray_bulk import run_on_ray

    return run_on_ray(
        job,
        lambda num_threads: replace(loading, num_threads=num_threads).load(),
        shards,
        num_actors=num_actors,
        num_threads=loading.num_threads,
        use_gpu=None if loading.device == "auto" else loading.device.startswith("cuda"),
    )


def _settings(pairs: Path, loading: LoadOptions, **options: Any) -> dict[str, Any]:
    """Everything that the scores depend on."""
    from crossrank.models.locating import checkpoint_files

    folder = loading.open().folder
    return {
        "crossrank": __version__,
        **{key: value for key, value in asdict(loading).items() if key != "num_threads"},
        "checkpoint": fingerprint_files(checkpoint_files(folder)),
        **options,
        "pairs": fingerprint_files([pairs]),
    }


def _report(output: Path, records: Collection[ShardRecord]) -> None:
    rows, truncated, skipped = (sum(getattr(r, key) for r in records) for key in ("rows", "truncated", "skipped"))
    if skipped:
        note(f"{skipped} pair(s) skipped that the model cannot read")
    note(f"{rows} pairs scored, {truncated} with a truncated document: {output}")
