"""`crossrank export`: a checkpoint to the form that is fast on CPUs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from crossrank.cli.loading import RevisionOption
from crossrank.cli.options import JsonOption, ModelArgument, Weights
from crossrank.cli.terminal import print_facts, print_json
from crossrank.errors import InputError, MissingExtra


def export(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    weights: Annotated[Weights, typer.Option(help="The form of the weights.")] = Weights.float32,
    merge: Annotated[
        bool,
        typer.Option("--merge", help="Write a LoRA adapter and the model below it as one whole checkpoint instead."),
    ] = False,
    revision: RevisionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint in the form that is fast on CPUs, and compare its scores with the original's."""
    if merge:
        _export_merged(model, output, weights, revision, as_json=as_json)
        return
    from crossrank.inference.export import export_checkpoint

    report = asdict(export_checkpoint(model, output, weights=weights.value, revision=revision))
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in report.items()}
    if as_json:
        print_json(plain)
        return
    print_facts(f"{model} in {output}", plain)


def _export_merged(model: str, output: Path, weights: Weights, revision: str | None, *, as_json: bool) -> None:
    if weights is not Weights.float32:
        raise InputError("--merge writes float32 weights: export the merged checkpoint with --weights int8 afterwards")
    try:
        from crossrank.models.adapters import export_merged
    except ImportError:
        raise MissingExtra("merging a LoRA adapter", extra="lora") from None
    facts = {"folder": str(export_merged(model, output, revision=revision))}
    if as_json:
        print_json(facts)
    else:
        print_facts(f"{model} in {output}", facts)
