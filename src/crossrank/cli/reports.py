"""What commands that write a report share: its folder, its progress bars, and its tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from crossrank.cli.exits import INTERRUPTED
from crossrank.cli.terminal import note, print_drawn, progress
from crossrank.errors import DataError

if TYPE_CHECKING:
    from crossrank.evaluation.grid import Step
    from crossrank.evaluation.tables import Table

# Columns of a report table that is not drawn on a terminal.
REPORT_WIDTH = 160

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
