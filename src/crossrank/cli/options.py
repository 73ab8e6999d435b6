"""The options of the commands: what they are called, what they say, and what they become."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_RUN = "A whole run"
_OUTPUT = "Output"


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


@dataclass(frozen=True)
class RankOptions:
    """How documents are ranked for a query."""

    top_k: int | None
    on_overflow: OnOverflow
    score_type: ScoreType
    fuse: bool
    instruction: str | None
    skip_bad: bool
