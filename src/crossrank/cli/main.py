"""The command line's front door: every command by its name."""

from __future__ import annotations

from typing import Annotated

import typer

from crossrank import __version__
from crossrank.cli.bench import bench
from crossrank.cli.calibrate import calibrate
from crossrank.cli.compare import compare
from crossrank.cli.data import data
from crossrank.cli.evaluate import evaluate
from crossrank.cli.exits import CommandGroup
from crossrank.cli.export import export
from crossrank.cli.far_relevant import far_relevant
from crossrank.cli.info import info
from crossrank.cli.label import label
from crossrank.cli.mine import mine
from crossrank.cli.models import models
from crossrank.cli.rerank import rerank
from crossrank.cli.serve import serve
from crossrank.cli.train import train

app = typer.Typer(
    cls=CommandGroup, no_args_is_help=True, pretty_exceptions_enable=False, context_settings={"max_content_width": 100}
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"crossrank {__version__}")
        raise typer.Exit


@app.callback()
def crossrank(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Score and rank documents for a query with a cross-encoder."""


app.command()(rerank)
app.command()(evaluate)
app.command()(bench)
app.command()(calibrate)
app.command()(compare)
app.command()(far_relevant)
app.command()(models)
app.command()(info)
app.command()(export)
app.command()(train)
app.add_typer(data, name="data")
app.add_typer(label, name="label")
app.command()(serve)
app.add_typer(mine, name="mine")
