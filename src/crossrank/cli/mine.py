"""`crossrank mine`: hard negatives for training, and an audit of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossrank import __version__
from crossrank.cli.exits import INTERRUPTED
from crossrank.cli.loading import Backend, Dtype, LoadOptions
from crossrank.cli.mine_audit import audit
from crossrank.cli.options import JsonOption
from crossrank.cli.rerank_run import fingerprint_files
from crossrank.cli.terminal import note, print_facts, print_json, progress
from crossrank.errors import InputError

if TYPE_CHECKING:
    from crossrank.data.mined_groups import GroupWriter
    from crossrank.data.questions import MinableCorpus, QuestionSet
    from crossrank.mining.negatives import Plan
    from crossrank.retrieval.retriever import Retriever
    from crossrank.types import Scorer

mine = typer.Typer(invoke_without_command=True)
mine.command()(audit)

_INPUT, _RULES, _CHOICE, _TEACHER = "Input", "Rules", "Choice", "Teacher"


class Sampling(StrEnum):
    """How negatives are chosen among the candidates that the rules leave."""

    top = "top"
    random = "random"
    stratified = "stratified"


def _file(help: str, *names: str) -> Any:
    return typer.Option(*names, exists=True, dir_okay=False, help=help, rich_help_panel=_INPUT, show_default=False)


@dataclass(frozen=True)
class Inputs:
    """The files that questions are read from."""

    queries: Path | None
    corpus: tuple[Path, ...]
    qrels: Path | None
    data: Path | None

    def __post_init__(self) -> None:
        beir = {"--queries": self.queries, "--corpus": self.corpus, "--qrels": self.qrels}
        given = [name for name, value in beir.items() if value]
        if self.data and given:
            raise InputError(f"--data names its own corpora: leave out {', '.join(given)}")
        if not self.data and len(given) < len(beir):
            missing = ", ".join(name for name in beir if name not in given)
            raise InputError(f"mining needs {', '.join(beir)}, or --data; {missing} is missing")


@mine.callback()
def mine_groups(
    ctx: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The groups: .jsonl with texts, or .json with ids (needs --data)."),
    ] = None,
    queries: Annotated[Path | None, _file("Queries: JSONL as in BEIR.")] = None,
    corpus: Annotated[list[Path] | None, _file("Documents: JSONL as in BEIR; may be given several times.")] = None,
    qrels: Annotated[Path | None, _file("Judgements; a grade above 0 is a positive.")] = None,
    data: Annotated[Path | None, _file("Instead of these: corpus-ID JSON of NeMo AutoModel.")] = None,
    retriever: Annotated[
        list[str] | None,
        typer.Option(
            help="bm25 (the default), dense:MODEL or run:FILE; may be given several times.", rich_help_panel=_INPUT
        ),
    ] = None,
    language: Annotated[str, typer.Option(help="Of the corpus, for BM25.", rich_help_panel=_INPUT)] = "english",
    depth: Annotated[
        int, typer.Option(min=1, help="Candidates searched for the positive's score.", rich_help_panel=_INPUT)
    ] = 1000,
    ranks: Annotated[
        str, typer.Option(metavar="FIRST-LAST", help="Best ranks a negative may have.", rich_help_panel=_RULES)
    ] = "1-100",
    percent: Annotated[
        float, typer.Option(help="Highest share of the positive's score; 0 turns it off.", rich_help_panel=_RULES)
    ] = 0.95,
    margin: Annotated[
        float | None, typer.Option(help="Least distance below the positive's score.", rich_help_panel=_RULES)
    ] = None,
    max_score: Annotated[float | None, typer.Option(help="Highest score.", rich_help_panel=_RULES)] = None,
    near_duplicate: Annotated[
        float,
        typer.Option(help="Refuse texts at least so similar to a positive; 0 turns it off.", rich_help_panel=_RULES),
    ] = 0.9,
    same_document: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="Refuse passages of a positive's document: a field, title, or id:SEPARATOR.",
            rich_help_panel=_RULES,
        ),
    ] = None,
    negatives: Annotated[
        int, typer.Option("--negatives", "-n", min=1, help="Most a query.", rich_help_panel=_CHOICE)
    ] = 8,
    sampling: Annotated[Sampling, typer.Option(help="Among the candidates.", rich_help_panel=_CHOICE)] = Sampling.top,
    random_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share drawn from the whole corpus.", rich_help_panel=_CHOICE)
    ] = 0.0,
    keep_given: Annotated[
        bool, typer.Option("--keep-given", help="Keep known negatives, in front.", rich_help_panel=_CHOICE)
    ] = False,
    unroll: Annotated[
        bool, typer.Option("--unroll", help="A row for each positive, the others behind it.", rich_help_panel=_CHOICE)
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides what is random.", rich_help_panel=_CHOICE)] = 0,
    teacher: Annotated[
        str | None,
        typer.Option(help="A reranker whose scores replace the retrievers', and are kept.", rich_help_panel=_TEACHER),
    ] = None,
    backend: Annotated[Backend, typer.Option(help="The runtime.", rich_help_panel=_TEACHER)] = Backend.auto,
    device: Annotated[str, typer.Option(help="As in cpu or cuda:0.", rich_help_panel=_TEACHER)] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Precision.", rich_help_panel=_TEACHER)] = Dtype.auto,
    restart: Annotated[bool, typer.Option("--restart", help="Drop what an interrupted run has left.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Mine hard negatives for training, or audit them.

    The same command goes on with an interrupted one.
    """
    if ctx.invoked_subcommand:
        return
    from crossrank.mining.negative_filters import Rules
    from crossrank.mining.negatives import Plan

    inputs = Inputs(queries, tuple(corpus or ()), qrels, data)
    if output is None or output.suffix not in (".jsonl", ".json") or (output.suffix == ".json" and data is None):
        raise InputError("-o names the file to write: .jsonl, or with --data also .json")
    first, last = _window(ranks)
    rules = Rules(first, last, percent or None, margin, max_score, near_duplicate or None, same_document)
    plan = Plan(rules, negatives, sampling.value, random_share, keep_given, max(depth, last), seed)
    names = list(dict.fromkeys(retriever or ["bm25"]))
    loading = LoadOptions(teacher, backend=backend, device=device, dtype=dtype) if teacher else None
    with _open(inputs) as questions:
        job = _Job(questions, names, language, plan, loading, output, unroll)
        counts = job.run(restart=restart)
    report = {"output": str(output), "retrievers": names, "teacher": teacher} | counts
    print_json(report) if as_json else print_facts("Hard negatives", report)


@contextmanager
def _open(inputs: Inputs) -> Iterator[QuestionSet]:
    from crossrank.data.questions import open_beir_questions, open_corpus_id_questions

    if inputs.data:
        with open_corpus_id_questions(inputs.data) as questions:
            yield questions
    else:
        assert inputs.queries and inputs.qrels
        with open_beir_questions(inputs.queries, inputs.corpus, inputs.qrels) as questions:
            yield questions


def _window(ranks: str) -> tuple[int, int]:
    first, dash, last = ranks.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal()):
        raise InputError(f"--ranks is FIRST-LAST, as in 10-100, not {ranks!r}")
    return int(first), int(last)


@dataclass(frozen=True)
class _Job:
    questions: QuestionSet
    retrievers: Sequence[str]
    language: str
    plan: Plan
    teacher: LoadOptions | None
    output: Path
    unroll: bool

    def run(self, *, restart: bool) -> dict[str, int]:
        """Write the groups, and return what was counted.

        Raises:
            RerankError: If a file, a retriever or the teacher cannot be used.
            Exit: With code 130, if interrupted.
        """
        from crossrank.data.mined_groups import open_group_writer

        settings = self._settings()
        head = self._head(settings) if self.output.suffix == ".json" else None
        total = self.questions.num_questions
        with open_group_writer(
            self.output, settings=settings, head=head, unroll=self.unroll, restart=restart
        ) as writer:
            if writer.finished:
                note(f"{writer.finished} of {total} queries are already in {self.output}.part")
            try:
                if writer.finished < total:
                    self._mine(writer, total)
            except KeyboardInterrupt:
                note(
                    f"interrupted after {writer.finished} of {total} queries, which are kept in {self.output}.part: "
                    "give the same command again to go on"
                )
                raise typer.Exit(INTERRUPTED) from None
        return {"queries without a positive": self.questions.num_without_positives, **writer.counts}

    def _mine(self, writer: GroupWriter, total: int) -> None:
        from crossrank.mining.negative_rows import counts_of, row_with_ids, row_with_texts
        from crossrank.mining.negatives import mine_negatives, repeated_questions
        from crossrank.retrieval.selection import open_retriever

        scorer: Scorer | None = self.teacher.load() if self.teacher else None
        corpora = self.questions.corpora
        retrievers = {name: open_retriever(name, language=self.language) for name in self.retrievers}
        indexed = {corpus_id: _indexed(corpus, retrievers) for corpus_id, corpus in corpora.items()}
        excluded = repeated_questions(self.questions.read())
        left = islice(self.questions.read(), writer.finished, None)
        to_row = row_with_ids if self.output.suffix == ".json" else row_with_texts
        with progress("queries", total=total, completed=writer.finished) as advance:
            for mined in mine_negatives(left, corpora, indexed, self.plan, teacher=scorer, excluded=excluded):
                writer.write(to_row(mined), counts_of(mined, wanted=self.plan.num))
                advance()

    def _settings(self) -> dict[str, Any]:
        """Everything that the rows depend on."""
        runs = [Path(name.removeprefix("run:")) for name in self.retrievers if name.startswith("run:")]
        files = [*self.questions.files, *(path for path in runs if path.is_file())]
        teacher = _describe_teacher(self.teacher) if self.teacher else None
        plan = asdict(self.plan)
        return {
            "crossrank": __version__,
            "files": [fingerprint_files([path]) for path in files],
            "retrievers": [_describe_retriever(name) for name in self.retrievers],
            "language": self.language,
            "teacher": teacher,
            **plan.pop("rules"),
            **plan,
            "unroll": self.unroll,
        }

    def _head(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        folder = self.output.parent.resolve()
        corpora = [{"path": os.path.relpath(path, folder)} for path in self.questions.corpus_paths]
        return {"corpus": corpora[0] if len(corpora) == 1 else corpora, "mining": {"args": settings}}


def _indexed(corpus: MinableCorpus, retrievers: Mapping[str, Retriever]) -> dict[str, Retriever]:
    """Return retrievers that hold the corpus; a copy has an index of its own, and shares the model."""
    found = {name: copy(retriever) for name, retriever in retrievers.items()}
    for name, retriever in found.items():
        with progress(f"{name}: documents", total=len(corpus)) as advance:
            retriever.index(corpus, on_progress=advance)
    return found


def _describe_retriever(name: str) -> str:
    folder = Path(name.partition(":")[2])
    if not name.startswith("dense:") or not folder.is_dir():
        return name
    return f"{name}, {fingerprint_files(path for path in folder.rglob('*') if path.is_file())}"


def _describe_teacher(teacher: LoadOptions) -> dict[str, Any]:
    from crossrank.models.locating import checkpoint_files

    files = fingerprint_files(checkpoint_files(teacher.open().folder))
    return asdict(teacher) | {"checkpoint": files}
