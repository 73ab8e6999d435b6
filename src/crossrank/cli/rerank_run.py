"""`crossrank rerank --run`: a whole first-stage run, query by query, so that it can be interrupted and continued."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from crossrank import __version__
from crossrank.cli.exits import INTERRUPTED
from crossrank.cli.loading import LoadOptions
from crossrank.cli.options import RankOptions
from crossrank.cli.terminal import note, note_skipped, progress
from crossrank.cli.then import Stages, Then, note_stages
from crossrank.errors import DataError, InputError

if TYPE_CHECKING:
    from crossrank.data.first_stage import RerankingTask
    from crossrank.data.trec import Candidate
    from crossrank.llm.reranker import LLMReranker
    from crossrank.reranker import Reranker
    from crossrank.types import Ranking, Stage


@dataclass(frozen=True)
class RunFiles:
    """The files of a whole run."""

    queries: Path
    corpus: Path
    run: Path
    output: Path


def whole_run(
    queries: Path | None,
    corpus: Path | None,
    run: Path | None,
    output: Path | None,
    *,
    restart: bool,
    unfit: Mapping[str, Any],
) -> RunFiles | None:
    """Return the files of a whole run, or None where no option asks for one.

    Raises:
        InputError: If some of the four options are missing, or one of `unfit` is given beside them.
    """
    options = {"--queries": queries, "--corpus": corpus, "--run": run, "-o": output}
    if not any(options.values()) and not restart:
        return None
    if queries is None or corpus is None or run is None or output is None:
        missing = ", ".join(name for name, value in options.items() if value is None)
        raise InputError(f"a whole run takes {', '.join(options)}; {missing} is missing")
    misplaced = ", ".join(name for name, value in unfit.items() if value)
    if misplaced:
        raise InputError(f"{misplaced} does not go with a whole run, which takes its queries and documents from files")
    pipe = next((path for path in (queries, corpus, run) if not path.is_file()), None)
    if pipe:
        raise InputError(f"{pipe} is a pipe, but the files of a whole run are read more than once: save it to a file")
    if output.exists() and any(output.samefile(path) for path in (queries, corpus, run)):
        raise InputError(f"-o {output} is one of the files that are read: give another name")
    return RunFiles(queries, corpus, run, output)


def rerank_run(
    files: RunFiles, options: RankOptions, loading: LoadOptions, then: Then | None = None, *, restart: bool
) -> None:
    """Rerank a whole run into a file.

    Everything is checked before the first query is scored. Documents are read from the corpus when their query is due.
    With a language model at the end several queries are under way at a time, and where its server gives no answer the
    run stops, to be continued: a run that is silently the first model's in places would be worth nothing.

    Raises:
        RerankError: If a file or the model cannot be used.
        Exit: With code 130, if interrupted.
    """
    from crossrank.data.beir import open_corpus, read_queries
    from crossrank.data.first_stage import read_tasks
    from crossrank.data.pages import attach_images
    from crossrank.data.run_writer import open_run_writer
    from crossrank.data.text import SkippedLines, display_name, skip_or_raise

    llm = then.open(on_failure="raise") if then else None
    reranker = loading.load()
    skipped = SkippedLines() if options.skip_bad else None
    settings = _settings(files, options, loading, reranker) | (then.settings() if then else {})
    stages = Stages(reranker, options, llm, then.keep if then else 0)
    done: list[Stage] = []
    with (
        open_run_writer(files.output, settings=settings, restart=restart) as writer,
        open_corpus(files.corpus, skipped=skipped) as records,
    ):
        corpus = attach_images(records, files.corpus.parent)
        queries = read_queries(files.queries, skipped=skipped)
        total = sum(1 for _ in read_tasks(files.run, queries, corpus, skipped=skipped))
        if skipped:
            note_skipped(skipped)
        if writer.finished:
            note(f"{len(writer.finished)} of {total} queries are already in {files.output}.part")
        uncounted, unusable = (SkippedLines() if options.skip_bad else None for _ in range(2))
        try:
            with progress("queries", total=total, completed=len(writer.finished)) as advance:
                tasks = read_tasks(files.run, queries, corpus, skipped=uncounted)
                left = (task for task in tasks if task.query_id not in writer.finished)
                for query_id, ranking in _rank_all(stages, left, llm):
                    if isinstance(ranking, InputError):
                        problem = DataError(f"query {query_id!r}: {ranking}", path=display_name(files.queries))
                        skip_or_raise(problem, unusable)
                        continue
                    writer.write(query_id, _candidates(ranking))
                    done += ranking.stages
                    advance()
        except KeyboardInterrupt:
            note(
                f"interrupted after {len(writer.finished)} of {total} queries, which are kept in {files.output}.part: "
                "give the same command again to go on"
            )
            raise typer.Exit(INTERRUPTED) from None
    note_stages(_summed(done))
    if unusable:
        note_skipped(unusable)
    note(f"{total - (unusable.count if unusable else 0)} queries reranked: {files.output}")


def _rank_all(
    stages: Stages, tasks: Iterable[RerankingTask], llm: LLMReranker | None
) -> Iterator[tuple[str, Ranking | InputError]]:
    """Yield every query's ranking, or why it has none, in order; with a language model several are ranked at a time."""

    def rank(task: RerankingTask) -> tuple[str, Ranking | InputError]:
        scores = task.first_stage_scores
        try:
            ranking = stages.rank(task.query, task.documents, first_stage_scores=scores, show_progress=False)
        except InputError as error:
            return task.query_id, error
        return task.query_id, ranking

    return llm.client.map(rank, tasks) if llm else map(rank, tasks)


def _candidates(ranking: Ranking) -> list[Candidate]:
    from crossrank.data.trec import Candidate

    return [Candidate(str(hit.document.id), hit.score) for hit in ranking]


def _summed(stages: Iterable[Stage]) -> list[Stage]:
    """Return one report for each ranker of the stages of many queries."""
    from crossrank.types import Stage, Usage

    by_model: dict[str, list[Stage]] = {}
    for stage in stages:
        by_model.setdefault(stage.model, []).append(stage)
    return [
        Stage(
            model,
            sum(each.documents for each in listed),
            sum((each.usage for each in listed), Usage()),
            dict(sum((Counter(each.repairs) for each in listed), Counter())),
            tuple(failure for each in listed for failure in each.failures),
        )
        for model, listed in by_model.items()
    ]


def _settings(files: RunFiles, options: RankOptions, loading: LoadOptions, reranker: Reranker) -> dict[str, Any]:
    """Everything that the lines of the output depend on."""
    from crossrank.models.locating import checkpoint_files

    engine, folder = reranker.engine, reranker.checkpoint.folder
    model = {key: value for key, value in asdict(loading).items() if key != "num_threads"}
    return {
        "crossrank": __version__,
        **model,
        "checkpoint": fingerprint_files(checkpoint_files(folder)),
        "engine": f"{engine.name} on {engine.device} in {engine.precision}",
        **asdict(options),
        "queries": fingerprint_files([files.queries]),
        "corpus": fingerprint_files([files.corpus]),
        "run": fingerprint_files([files.run]),
    }


def fingerprint_files(paths: Iterable[Path]) -> str:
    """Describe files by their names, sizes and times, which change when their content does."""
    found = {path: path.stat() for path in sorted(paths)}
    size = sum(status.st_size for status in found.values())
    newest = max((status.st_mtime_ns for status in found.values()), default=0)
    changed = datetime.fromtimestamp(newest / 1e9, UTC).isoformat()
    names = next(iter(found)).name if len(found) == 1 else f"{len(found)} files"
    return f"{names}, {size} bytes, of {changed}"
