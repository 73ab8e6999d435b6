"""`crossrank export`: a checkpoint to the form that is fast on CPUs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from crossrank.cli.options import JsonOption, ModelArgument, RevisionOption, Weights
from crossrank.cli.terminal import print_facts, print_json


def export(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    weights: Annotated[Weights, typer.Option(help="The form of the weights.")] = Weights.float32,
    revision: RevisionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint in the form that is fast on CPUs, and compare its scores with the original's."""
    from crossrank.inference.export import export_checkpoint

    report = asdict(export_checkpoint(model, output, weights=weights.value, revision=revision))
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in report.items()}
    if as_json:
        print_json(plain)
        return
    print_facts(f"{model} in {output}", plain)
