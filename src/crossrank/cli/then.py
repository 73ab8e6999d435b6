"""`crossrank rerank --then`: a language model has the last word over the best documents."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossrank.cli.chat_options import ChatOptions, describe_usage
from crossrank.cli.options import RankOptions
from crossrank.cli.terminal import note
from crossrank.errors import InputError

if TYPE_CHECKING:
    from crossrank.llm.reranker import LLMReranker, OnFailure
    from crossrank.reranker import Reranker
    from crossrank.types import Document, DocumentLike, Ranking, Stage

_THEN = "Language model"
_KIND = "llm:"


class LLMMethod(StrEnum):
    """How a language model is asked for an order."""

    window = "window"
    single = "single"
    setwise = "setwise"
    pointwise = "pointwise"


ThenOption = Annotated[
    str | None,
    typer.Option(
        "--then",
        metavar="llm:PROVIDER/MODEL",
        help="Let a language model rank the best again, as in llm:openai/MODEL.",
        rich_help_panel=_THEN,
    ),
]
KeepOption = Annotated[
    int, typer.Option(min=1, help="How many of the best it ranks; the others are left out.", rich_help_panel=_THEN)
]
LLMMethodOption = Annotated[
    LLMMethod,
    typer.Option(
        help="window: lists of 20, from the back. single: all in one call. setwise: a heap. pointwise: grades.",
        rich_help_panel=_THEN,
    ),
]


@dataclass(frozen=True)
class Then:
    """The language model behind the reranker."""

    model: str
    keep: int
    method: LLMMethod
    base_url: str | None
    price: str | None

    def open(self, *, on_failure: OnFailure) -> LLMReranker:
        """Return the language model; nothing is sent yet.

        Raises:
            RerankError: If it cannot be asked.
        """
        from crossrank.llm.reranker import LLMReranker

        chat = ChatOptions(self.model, self.base_url, self.price)
        return LLMReranker(chat.open(), method=self.method.value, on_failure=on_failure)

    def settings(self) -> dict[str, Any]:
        """Return what a ranking depends on, without credentials."""
        from crossrank.llm.opening import open_chat

        address = open_chat(self.model, base_url=self.base_url).address
        return {"then": {key: value for key, value in asdict(self).items() if key != "price"} | {"base_url": address}}


def read_then(
    name: str | None, *, keep: int, method: LLMMethod, base_url: str | None, price: str | None
) -> Then | None:
    """Return what `--then` says, or None without it.

    Raises:
        InputError: If it names no language model.
    """
    if name is None:
        return None
    if not name.startswith(_KIND):
        raise InputError(f"--then takes a language model, as in llm:openai/MODEL, not {name!r}")
    return Then(name.removeprefix(_KIND), keep, method, base_url, price)


class Stages:
    """The reranker with the options of the command, and maybe a language model behind it; for many threads."""

    def __init__(self, reranker: Reranker, options: RankOptions, llm: LLMReranker | None, keep: int) -> None:
        self._reranker = reranker
        self._options = options
        self._llm = llm
        self._keep = keep
        self._lock = threading.Lock()

    def rank(
        self, query: str, documents: Sequence[Document], *, first_stage_scores: Sequence[float], show_progress: bool
    ) -> Ranking:
        """Rank the documents of one query."""
        if self._llm is None:
            return self._first(query, documents, self._options.top_k, first_stage_scores, show_progress=show_progress)
        from crossrank.cascade import Cascade

        keep, stages = self._keep, self

        class First:
            def rank(self, query: str, documents: Sequence[DocumentLike], *, top_k: int | None = None) -> Ranking:
                # One query at a time computes; the others wait for the language model meanwhile.
                with stages._lock:
                    return stages._first(query, documents, top_k, first_stage_scores, show_progress=show_progress)

        last = min(self._options.top_k or keep, keep)
        return Cascade([First(), self._llm], keep=[keep, last]).rank(query, documents)

    def _first(
        self,
        query: str,
        documents: Sequence[DocumentLike],
        top_k: int | None,
        first_stage_scores: Sequence[float],
        *,
        show_progress: bool,
    ) -> Ranking:
        options = self._options
        return self._reranker.rank(
            query,
            documents,
            top_k=top_k,
            score_type=options.score_type.value,
            on_overflow=options.on_overflow.value,
            first_stage_scores=first_stage_scores if options.fuse else None,
            instruction=options.instruction,
            show_progress=show_progress,
        )


def note_stages(stages: Sequence[Stage]) -> None:
    """Say what the language model took, and where it left the order as it was."""
    for stage in stages:
        if not (stage.usage.calls or stage.usage.cached_calls or stage.failures):
            continue
        note(f"{stage.model}: {describe_usage(stage.usage)}")
        if stage.repairs:
            note("repaired answers: " + ", ".join(f"{times} {kind}" for kind, times in stage.repairs.items()))
        if stage.failures:
            note(f"the order that came in was kept {len(stage.failures)} time(s), first because: {stage.failures[0]}")
