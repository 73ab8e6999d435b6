"""What the commands print: notes on standard error, rankings and JSON on standard output."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from crossrank.data.text import SkippedLines
    from crossrank.types import Hit, Ranking

# Columns of a table that is not drawn on a terminal.
WIDTH_ELSEWHERE = 120


def note(message: str) -> None:
    """Print a line on standard error."""
    typer.echo(message, err=True)


def note_skipped(skipped: SkippedLines) -> None:
    """Print how many lines were skipped, and the first of them."""
    if not skipped.count:
        return
    for error in skipped.errors:
        note(f"skipped {error}")
    hidden = skipped.count - len(skipped.errors)
    note(f"{skipped.count} bad line(s) skipped" + (f", the last {hidden} not shown" if hidden else ""))


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal; a closed or missing one is none."""
    return stream is not None and not stream.closed and stream.isatty()


def prepare_stdout() -> None:
    """Let standard output take every text: as UTF-8, or on a terminal of another encoding with marks instead."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        if is_terminal(sys.stdout):
            sys.stdout.reconfigure(errors="replace")
        else:
            sys.stdout.reconfigure(encoding="utf-8")


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    prepare_stdout()
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_json_lines(values: Iterable[Any]) -> None:
    """Print each value as JSON on a line of its own."""
    prepare_stdout()
    for value in values:
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def print_drawn(drawable: Any, *, width_elsewhere: int = WIDTH_ELSEWHERE) -> None:
    """Print something that rich can draw, as wide as the terminal."""
    from rich.console import Console

    prepare_stdout()
    Console(file=sys.stdout, width=None if is_terminal(sys.stdout) else width_elsewhere).print(drawable)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, show_header: bool = True) -> None:
    """Print a table."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", show_header=show_header)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    print_drawn(table)


def print_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Print named values as a table; those that are None or empty are left out."""
    rows = [(name, _cell(value)) for name, value in facts.items() if value not in (None, "", {}, [], ())]
    print_table(title, ("name", "value"), rows, show_header=False)


def format_size(size_bytes: int) -> str:
    """Return a size of a file for people."""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 100_000 else f"{size_bytes / 1e3:.1f} kB"


def print_ranking(ranking: Ranking) -> None:
    """Print a table on a terminal, elsewhere a line a hit: rank, score, id, title, text, separated by tabs."""
    if is_terminal(sys.stdout):
        print_drawn(ranking)
        return
    prepare_stdout()
    for rank, hit in enumerate(ranking, start=1):
        sys.stdout.write("\t".join((str(rank), f"{hit.score:.6g}", *_columns(hit))) + "\n")


def _columns(hit: Hit) -> tuple[str, str, str]:
    document = hit.document
    start, end = hit.span or (0, len(document.text))
    return (_one_line(document.id), _one_line(document.title), _one_line(document.text[start:end]))


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {_plain(item)}" for key, item in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else _plain(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


@contextmanager
def progress(description: str, *, total: int | None, completed: int = 0) -> Iterator[Callable[..., None]]:
    """Yield a function that counts steps (one, unless told); draws a bar on standard error where that is a terminal.

    Args:
        description: What is counted.
        total: All steps; None where nobody knows.
        completed: Steps that are done already.
    """
    if not is_terminal(sys.stderr):
        yield lambda steps=1: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, completed=completed)
        yield lambda steps=1: bar.advance(task, steps)
