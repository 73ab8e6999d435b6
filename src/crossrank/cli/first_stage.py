"""Where candidates come from: the options of every command on labelled queries, and what they mean for a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossrank.cli.rerank_run import fingerprint_files
from crossrank.cli.terminal import progress
from crossrank.errors import InputError

if TYPE_CHECKING:
    from crossrank.data.evaluation_set import EvaluationSet, Modality
    from crossrank.evaluation.grid import FirstStage

CANDIDATES = "Candidates"
DEFAULT_DEPTH = 100
_DENSE = "dense:"
_PAGE_MODEL = "nvidia/llama-nemotron-embed-vl-1b-v2"

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
