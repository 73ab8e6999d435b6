"""The options of the commands: what they are called, what they say, and what they become."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from crossrank.models.checkpoint import Checkpoint
    from crossrank.reranker import Reranker

_MODEL = "Model"
_RUN = "A whole run"
_OUTPUT = "Output"


class Backend(StrEnum):
    """Runtimes."""

    auto = "auto"
    openvino = "openvino"
    torch = "torch"


class Dtype(StrEnum):
    """Precisions of the arithmetic."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Engine(StrEnum):
    """Where a command computes."""

    local = "local"
    ray = "ray"


class OnOverflow(StrEnum):
    """What happens to a document that is too long for the model."""

    truncate = "truncate"
    chunk = "chunk"
    fewer_tiles = "fewer_tiles"
    error = "error"


class ScoreType(StrEnum):
    """Scales of a score."""

    logit = "logit"
    probability = "probability"


class PageModality(StrEnum):
    """What of a page is read."""

    text = "text"
    image = "image"
    both = "both"


class Weights(StrEnum):
    """Forms of the exported weights."""

    float32 = "float32"
    int8 = "int8"


QueryArgument = Annotated[str | None, typer.Argument(metavar="QUERY", help="What to rank for.", show_default=False)]
FilesArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FILE",
        help="JSONL, CSV, TSV, Parquet, Markdown, plain text (also .gz), PDF, images, or folders of them; standard "
        "input if left out.",
        show_default=False,
    ),
]
TopKOption = Annotated[int | None, typer.Option("--top-k", "-k", min=1, help="Keep the best K; all if left out.")]
OnOverflowOption = Annotated[OnOverflow, typer.Option(help="What to do with a document too long for the model.")]
ScoreTypeOption = Annotated[ScoreType, typer.Option(help="The scale of the scores.")]
FuseOption = Annotated[bool, typer.Option("--fuse", help="Combine with the first-stage score of each record.")]
InstructionOption = Annotated[
    str | None, typer.Option(help="What counts as relevant, for models whose prompt has a place for it.")
]
TextColumnOption = Annotated[str | None, typer.Option(help="The field that holds the text; `text` if left out.")]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out bad lines and pages; count and report them.")
]
PageModalityOption = Annotated[
    PageModality | None,
    typer.Option("--modality", help="What of PDF pages and images is read; all that the model can if left out."),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=_OUTPUT)]
JsonLinesOption = Annotated[bool, typer.Option("--jsonl", help="Print a JSON object a hit.", rich_help_panel=_OUTPUT)]
HtmlOption = Annotated[
    Path | None,
    typer.Option("--html", dir_okay=False, help="Also write a page with thumbnails.", rich_help_panel=_OUTPUT),
]

QueriesOption = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="Queries: JSONL as in BEIR.", rich_help_panel=_RUN)
]
CorpusOption = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="Documents: JSONL as in BEIR.", rich_help_panel=_RUN)
]
RunOption = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="The first stage: a TREC run.", rich_help_panel=_RUN)
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="The reranked TREC run to write.", rich_help_panel=_RUN)
]
RestartOption = Annotated[
    bool, typer.Option("--restart", help="Drop what an interrupted run has left.", rich_help_panel=_RUN)
]

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A folder, a hub name, or the shipped model's name.")
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="A folder or a hub name; the shipped model if left out.", rich_help_panel=_MODEL
    ),
]
RevisionOption = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a hub model.", rich_help_panel=_MODEL)
]
BackendOption = Annotated[Backend, typer.Option(help="The runtime.", rich_help_panel=_MODEL)]
DeviceOption = Annotated[str, typer.Option(help="As in cpu or cuda:0.", rich_help_panel=_MODEL)]
DtypeOption = Annotated[Dtype, typer.Option(help="Precision of the arithmetic.", rich_help_panel=_MODEL)]
MaxLengthOption = Annotated[
    int | None, typer.Option(min=1, help="Most tokens of a pair, below the model's limit.", rich_help_panel=_MODEL)
]
NumThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads; all if left out.", rich_help_panel=_MODEL)
]
LabelOption = Annotated[
    str | None,
    typer.Option(help="Which output is the score of a model with several: name or index.", rich_help_panel=_MODEL),
]
FamilyOption = Annotated[
    str | None,
    typer.Option(
        help="The model's family, where its files do not say it; see `crossrank models`.", rich_help_panel=_MODEL
    ),
]


@dataclass(frozen=True)
class LoadOptions:
    """What `Reranker.load` is told."""

    model: str | None
    revision: str | None
    backend: Backend
    device: str
    dtype: Dtype
    max_length: int | None
    num_threads: int | None
    label: str | None
    family: str | None = None

    def open(self) -> Checkpoint:
        """Open the checkpoint; its weights are not loaded.

        Raises:
            RerankError: If it cannot be found, or is broken.
        """
        from crossrank.models.checkpoint import open_checkpoint

        return open_checkpoint(
            self.model,
            revision=self.revision,
            max_length=self.max_length,
            label=self._label_or_index(),
            family=self.family,
        )

    def load(self) -> Reranker:
        """Load the reranker.

        Raises:
            RerankError: If the model cannot be loaded.
        """
        from crossrank import Reranker  # brings the tokenizer and the runtime

        return Reranker.load(
            self.model,
            revision=self.revision,
            backend=self.backend.value,
            device=self.device,
            dtype=self.dtype.value,
            max_length=self.max_length,
            num_threads=self.num_threads,
            label=self._label_or_index(),
            family=self.family,
        )

    def _label_or_index(self) -> int | str | None:
        return int(self.label) if self.label is not None and self.label.isdecimal() else self.label


@dataclass(frozen=True)
class RankOptions:
    """How documents are ranked for a query."""

    top_k: int | None
    on_overflow: OnOverflow
    score_type: ScoreType
    fuse: bool
    instruction: str | None
    skip_bad: bool
