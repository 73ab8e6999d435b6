"""The data sets of an evaluation: what `--data` and `--suite` name, and what of their pages is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossrank.cli.first_stage import FirstStageOptions, run_of
from crossrank.cli.terminal import note, progress
from crossrank.errors import InputError

if TYPE_CHECKING:
    from crossrank.data.evaluation_set import EvaluationSet, Modality
    from crossrank.data.published import PublishedSet
    from crossrank.evaluation.suites import Suite

DATA = "Data"

SplitOption = Annotated[
    str | None, typer.Option(help="Of the judgements; test, else dev, if left out.", rich_help_panel=DATA)
]
NumQueriesOption = Annotated[
    int | None, typer.Option(min=1, help="Take a sample of the queries, always the same.", rich_help_panel=DATA)
]


@dataclass(frozen=True)
class Source:
    """A data set that is not open yet.

    Attributes:
        name: For tables; unique.
        folder: What `--run` may be a file of.
        published: Where it is a published set, which one; otherwise it is a folder in BEIR layout.
    """

    name: str
    folder: str
    published: PublishedSet | None = None


def find_sources(data: Sequence[str], suite: Suite | None, split: str | None) -> list[Source]:
    """Return the sources in the order given, those of a suite first.

    Raises:
        InputError: If there is none, two have one name, or a split is named for a suite, which has its own.
    """
    from crossrank.data.published import parse_published

    if suite and split:
        raise InputError(f"--split does not go with --suite: the sets of {suite.name} have their splits")
    named = {text: parse_published(text, split=split) for text in data}
    folders = [text for text in data if not named[text]]
    plain = dict(zip(folders, short_names(folders), strict=True))
    published = [part.data for part in suite.parts] if suite else []
    sources = [Source(each.title, each.source, each) for each in published]
    for text in data:
        sources += [Source(each.title, each.source, each) for each in named[text]] or [Source(plain[text], text)]
    if not sources:
        raise InputError("nothing to evaluate on: name data (--data) or a suite (--suite)")
    names = [source.name for source in sources]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice:
        raise InputError(f"two data sets are called {twice!r}: evaluate them apart")
    return sources


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


def check_sources(sources: Sequence[Source], candidates: FirstStageOptions, split: str | None) -> None:
    """Look for every folder, split and run before the first pair is scored.

    Raises:
        RerankError: If one is not there.
    """
    from crossrank.data.beir import find_beir

    for source in sources:
        if source.published is None:
            find_beir(source.folder, split=split)
        if candidates.run:
            run_of(candidates.run, source.folder, name=source.name, num_sources=len(sources))


@contextmanager
def open_source(source: Source, *, split: str | None) -> Iterator[EvaluationSet]:
    """Open a data set.

    Raises:
        RerankError: If it cannot be found or read.
    """
    from crossrank.data.beir import open_beir
    from crossrank.data.published import open_published

    if source.published is None:
        with open_beir(source.folder, split=split, name=source.name) as data:
            yield data
        return

    with ExitStack() as while_reading:
        steps: list[Callable[[], None]] = []

        def count(_: int) -> None:
            if not steps:
                note(f"{source.name}: reading it for the first time")
                steps.append(while_reading.enter_context(progress("documents", total=None)))
            steps[0]()

        with open_published(source.published, on_progress=count) as data:
            while_reading.close()
            yield replace(data, name=source.name)


def views_of(data: EvaluationSet, wanted: Sequence[Modality]) -> list[EvaluationSet]:
    """Return the data set as each of the wanted kinds of documents that it has.

    Where nothing is wanted in particular, it is the text, or the images of a set without text.
    """
    from crossrank.data.pages import in_modality, modalities

    there = modalities(data)
    if not wanted:
        return [in_modality(data, "text") if "text" in there else data]
    views = [in_modality(data, modality) for modality in dict.fromkeys(wanted) if modality in there]
    return views if len(there) == 1 else [replace(view, name=f"{data.name}-{view.modality}") for view in views]
