"""What every command on labelled queries shares: data, candidates, models that are loaded late, work that resumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from crossrank.cli.exits import INTERRUPTED
from crossrank.cli.info import describe, images_of
from crossrank.cli.loading import LoadOptions
from crossrank.cli.options import OnOverflow
from crossrank.cli.rerank_run import fingerprint_files
from crossrank.cli.terminal import note, print_drawn, progress
from crossrank.errors import DataError, InputError

if TYPE_CHECKING:
    from crossrank.data.evaluation_set import EvaluationSet, Modality
    from crossrank.evaluation.grid import Contestant, FirstStage, Step
    from crossrank.evaluation.tables import Table
    from crossrank.models.checkpoint import Checkpoint
    from crossrank.reranker import Reranker
    from crossrank.types import Document, Ranker, Ranking, Scorer

DATA = "Data"
CANDIDATES = "Candidates"
DEFAULT_DEPTH = 100
_DENSE = "dense:"
_PAGE_MODEL = "nvidia/llama-nemotron-embed-vl-1b-v2"
# Columns of a report table that is not drawn on a terminal.
REPORT_WIDTH = 160

SplitOption = Annotated[
    str | None, typer.Option(help="Of the judgements; test, else dev, if left out.", rich_help_panel=DATA)
]
NumQueriesOption = Annotated[
    int | None, typer.Option(min=1, help="Take a sample of the queries, always the same.", rich_help_panel=DATA)
]
RunOption = Annotated[
    str | None,
    typer.Option(
        help="A TREC run, the name of one in each data folder, or a folder with one for each data set, NAME.trec[.gz].",
        rich_help_panel=CANDIDATES,
    ),
]
FirstStageOption = Annotated[
    str | None, typer.Option(help="bm25 or dense:MODEL; bm25 if left out.", rich_help_panel=CANDIDATES)
]
DepthOption = Annotated[int, typer.Option(min=1, help="Candidates a query.", rich_help_panel=CANDIDATES)]
RestartRunsOption = Annotated[bool, typer.Option("--restart", help="Drop the runs that the folder has.")]


@contextmanager
def report_folder(folder: Path) -> Iterator[None]:
    """Work in the folder of a report, which is made where it is not there yet, and gone again if it stays empty.

    On Ctrl-C say that nothing is lost.

    Raises:
        DataError: If it cannot be made.
        Exit: With code 130 on Ctrl-C.
    """
    made = _make_folder(folder)
    try:
        yield
    except KeyboardInterrupt:
        note(
            f"interrupted: what is scored is kept in {folder}; give the same command again, without --restart, to go on"
        )
        raise typer.Exit(INTERRUPTED) from None
    finally:
        with suppress(OSError):  # it is not empty
            for place in made:
                place.rmdir()


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder, and return what was not there before, from the inside out."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        taken = folder.exists()
        problem = "is a file" if taken else f"cannot be made ({error.strerror})"
        raise DataError(f"{problem}: give a folder to write the report into", path=folder) from error
    return missing


def bar(description: str, total: int, done: int) -> AbstractContextManager[Step]:
    """Draw a progress bar, as an evaluation asks for it."""
    return progress(description, total=total, completed=done)


def print_report_table(table: Table) -> None:
    """Print a table of a report, numbers to the right, and its note."""
    from rich import box
    from rich.table import Table as Drawn
    from rich.text import Text

    drawn = Drawn(
        title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for i, column in enumerate(table.columns):
        is_numeric = table.is_numeric(i)
        justify: Literal["left", "right"] = "right" if is_numeric else "left"
        drawn.add_column(Text(column), justify=justify, overflow="fold", no_wrap=is_numeric)
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    print_drawn(drawn, width_elsewhere=REPORT_WIDTH)
    if table.note:
        print_drawn(Text(table.note + "\n"))


@contextmanager
def open_data(source: str, *, split: str | None, name: str) -> Iterator[EvaluationSet]:
    """Open what `--data` names.

    Raises:
        DataError: If it cannot be read.
    """
    from crossrank.data.beir import open_beir

    with open_beir(source, split=split, name=name) as data:
        yield data


def short_names(sources: Sequence[str]) -> list[str]:
    """Return the last part of each path, with as many parts before it as make the names unique.

    Raises:
        InputError: If a path is there twice.
    """
    parts = [Path(source).resolve().parts if Path(source).exists() else (source,) for source in sources]
    if len(set(parts)) < len(parts):
        raise InputError(f"given twice: {next(s for i, s in enumerate(sources) if parts[i] in parts[:i])}")
    length = 1
    while len({path[-length:] for path in parts}) < len(parts):
        length += 1
    return ["/".join(path[-length:]) for path in parts]


def run_of(run: str, source: str, *, name: str, num_sources: int) -> Path:
    """Return the file that `--run` means for a data set.

    It is a path, the name of a file in every data folder, or a folder with a run named after each data set.

    Raises:
        InputError: If there is no such file, or one run is given for several data sets.
    """
    inside = Path(source) / run
    if Path(run).is_dir():
        files = [Path(run) / f"{name}{ending}" for ending in (".trec", ".trec.gz")]
        if found := next((file for file in files if file.is_file()), None):
            return found
        raise InputError(f"no run {files[0]} and no {files[1].name} beside it")
    if num_sources == 1 and Path(run).is_file():
        return Path(run)
    if inside.is_file():
        return inside
    if Path(run).is_file():
        raise InputError(f"{run} is the run of one data set: for several, give the name of a file that each folder has")
    raise InputError(f"no run {run}, and no file of this name in {source}")


@dataclass(frozen=True)
class FirstStageOptions:
    """Where candidates come from.

    Attributes:
        run: A file or a folder of runs.
        first_stage: A retriever.
        depth: Candidates a query.
        modality: What of pages the retriever searches; None is the most that it reads.
    """

    run: str | None
    first_stage: str | None
    depth: int
    modality: Modality | None = None

    def check(self) -> None:
        """Check what can be checked before data is read.

        Raises:
            InputError: If both a run and a retriever are named, the retriever is unknown, or it does not search what
                it is told to.
            MissingExtra: If what it needs is not installed.
        """
        from crossrank.retrieval.selection import open_retriever

        if self.run and self.first_stage:
            raise InputError("--run and --first-stage exclude each other: the candidates come from one of them")
        if self.first_stage and self.first_stage.startswith("run:"):
            raise InputError(f"an existing run is given as --run {self.first_stage.removeprefix('run:')}")
        if self.first_stage and not self.first_stage.startswith(_DENSE):
            open_retriever(self.first_stage)
        if self.modality not in (None, "text") and not self._reads_pages():
            raise InputError(
                f"--first-stage-modality {self.modality}: {self.first_stage or self.run or 'bm25'} searches no images; "
                f"--first-stage {_DENSE}MODEL does, with a bi-encoder of pages such as {_PAGE_MODEL}"
            )

    def open(self, data: EvaluationSet, source: str, *, num_sources: int) -> FirstStage:
        """Return what gives the candidates of a data set.

        Raises:
            InputError: If nothing can.
        """
        from crossrank.evaluation.candidates import everything, given, read_candidates
        from crossrank.evaluation.grid import FirstStage

        if self.run:
            path = run_of(self.run, source, name=data.name, num_sources=num_sources)
            settings = {"run": fingerprint_files([path])}
            return FirstStage(f"run:{path.name}", lambda data: read_candidates(path, data, depth=self.depth), settings)
        if self.first_stage:
            return self._retrieved(self.first_stage, data)
        if data.candidates is not None:
            name = "given ranking" if data.candidates_are_ranked else "given (no order)"
            return FirstStage(
                name,
                lambda data: {query_id: given(data, query_id) for query_id in data.qrels},
                {},
                is_ranked=data.candidates_are_ranked,
            )
        if data.modality == "image" and len(data.corpus) <= self.depth:
            return FirstStage("all documents (no order)", everything, {}, is_ranked=False)
        if data.modality == "image":
            raise InputError(
                f"{data.name} has no text for BM25 to search: give candidates with --run, or search the images with "
                f"--first-stage {_DENSE}MODEL and a bi-encoder of pages such as {_PAGE_MODEL}"
            )
        return self._retrieved("bm25", data)

    def bm25(self, data: EvaluationSet) -> FirstStage | None:
        """Return the BM25 baseline, or None for documents without text."""
        return None if data.modality == "image" else self._retrieved("bm25", data)

    def _reads_pages(self) -> bool:
        from crossrank.retrieval.embedders import reads_pages

        return bool(self.first_stage and self.first_stage.startswith(_DENSE)) and reads_pages(
            str(self.first_stage).removeprefix(_DENSE)
        )

    def _searched(self, name: str, data: EvaluationSet) -> EvaluationSet:
        """Return what a retriever looks at: the most that it reads, unless the user says otherwise."""
        from crossrank.data.pages import in_modality, modalities

        if name == self.first_stage and self.modality:
            return in_modality(data, self.modality)
        reads_pages = name == self.first_stage and self._reads_pages()
        return data if reads_pages or "text" not in modalities(data) else in_modality(data, "text")

    def _retrieved(self, name: str, data: EvaluationSet) -> FirstStage:
        from crossrank.evaluation.candidates import retrieve
        from crossrank.evaluation.grid import FirstStage
        from crossrank.evaluation.ordering import Run
        from crossrank.retrieval.selection import open_retriever

        searched = self._searched(name, data)
        shown, settings = known_retriever(name)

        def find(_: EvaluationSet) -> Run:
            # Of two languages, as in "de-en", the second is that of the documents.
            language = (searched.language or "english").rpartition("-")[2]
            retriever = open_retriever(name, language=language)
            with progress(f"{shown}, {searched.name}: documents", total=len(searched.corpus)) as advance:
                return retrieve(searched, retriever, depth=self.depth, on_progress=advance)

        if searched.modality == "text":
            return FirstStage(shown, find, settings)
        return FirstStage(f"{shown} ({searched.modality})", find, {**settings, "searched": searched.modality})


def known_retriever(name: str) -> tuple[str, dict[str, Any]]:
    """Return what tables and file names call a retriever, and what its candidates depend on.

    A bi-encoder in a folder is called after the folder's last part, and known by its files.
    """
    kind, _, model = name.partition(":")
    folder = Path(model).expanduser()
    if kind != "dense" or not folder.is_dir():
        return name, {"retriever": name}
    files = fingerprint_files(path for path in folder.rglob("*") if path.is_file())
    shown = f"dense:{folder.name or folder.resolve().name}"
    return shown, {"retriever": shown, "model_files": files}


class WithOverflow:
    """A ranker that does with long documents what it was told."""

    def __init__(self, reranker: Reranker, on_overflow: OnOverflow) -> None:
        self._reranker = reranker
        self._on_overflow = on_overflow

    def rank(
        self, query: str, documents: Sequence[str | Document | Mapping[str, Any]], *, top_k: int | None = None
    ) -> Ranking:
        """Return the documents by their best windows, or refuse one that is too long."""
        return self._reranker.rank(query, documents, top_k=top_k, on_overflow=self._on_overflow.value)


class LastModel:
    """Keeps the model that was asked for last, so that one of a grid is in memory at a time."""

    def __init__(self) -> None:
        self._loading: LoadOptions | None = None
        self._reranker: Reranker | None = None

    def load(self, loading: LoadOptions) -> Reranker:
        """Return the model, and let the one before go."""
        if self._reranker is None or self._loading != loading:
            self._reranker = None
            self._reranker = loading.load()
            self._loading = loading
        return self._reranker


def open_contestants(
    names: Sequence[str], loading: LoadOptions, on_overflow: OnOverflow, *, memory: LastModel | None = None
) -> list[tuple[Contestant, dict[str, Any]]]:
    """Return the models of a grid, none of them loaded yet, each with what is known of it.

    Args:
        names: Folders, hub names.
        loading: How they are loaded.
        on_overflow: What they do with long documents.
        memory: Shared with other contestants where they are the same models.

    Raises:
        RerankError: If one of them cannot be found or is broken.
    """
    memory = memory or LastModel()
    return [
        _contestant(label, replace(loading, model=name), on_overflow, memory)
        for label, name in zip(short_names(names), names, strict=True)
    ]


def _contestant(
    label: str, loading: LoadOptions, on_overflow: OnOverflow, memory: LastModel
) -> tuple[Contestant, dict[str, Any]]:
    from crossrank.evaluation.grid import Contestant
    from crossrank.inference.selection import choose_engine, resolve
    from crossrank.models.locating import checkpoint_files
    from crossrank.models.settings import SETTINGS_FILE

    checkpoint = loading.open()
    engine = choose_engine(checkpoint, backend=loading.backend.value, device=loading.device)
    device, precision = resolve(engine, device=loading.device, dtype=loading.dtype.value)
    options = {
        "backend": engine.backend,
        "device": device,
        "precision": precision,
        "max_length": checkpoint.max_length,
        "label": loading.label,
        "family": checkpoint.family.name,
        "on_overflow": on_overflow.value,
        **({"images": images_of(checkpoint)} if checkpoint.visual else {}),
    }
    # Of crossrank.json only what a raw score depends on: a new calibration or fusion leaves the scores as they are.
    files = fingerprint_files(path for path in checkpoint_files(checkpoint.folder) if path.name != SETTINGS_FILE)
    stated = checkpoint.settings.model_dump(mode="json", exclude={"calibration", "fusion", "activation", "provenance"})

    def load() -> Scorer | Ranker:
        reranker = memory.load(loading)
        return reranker if on_overflow is OnOverflow.truncate else WithOverflow(reranker, on_overflow)

    fusion = checkpoint.settings.fusion
    contestant = Contestant(
        label,
        options | {"checkpoint": files, "settings": stated},
        load,
        (fusion.method, fusion.weight) if fusion else None,
    )
    return contestant, _facts(checkpoint) | options


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    known = describe(checkpoint)
    parameters = known["weights"].get("num_parameters")
    return {
        "checkpoint": checkpoint.name,
        **({"parameters": parameters} if parameters else {}),
        **{key: known["sizes"][key] for key in ("hidden_size", "num_layers") if key in known["sizes"]},
    }
