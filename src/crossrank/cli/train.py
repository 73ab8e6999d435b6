"""`crossrank train`: a recipe to a reranker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossrank.cli.terminal import note, print_facts
from crossrank.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from crossrank.training.config import Recipe
    from crossrank.training.development import Measure


def train(
    recipe: Annotated[Path | None, typer.Argument(metavar="RECIPE", help="A YAML file.", show_default=False)] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As in training.learning_rate=3e-6.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder to write.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of the output.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="The recipe's one-minute form.")] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print every setting and stop.")] = False,
) -> None:
    """Train a reranker from a recipe; the best checkpoint becomes OUTPUT/model.

    With several processes: torchrun --nproc-per-node N -m crossrank train RECIPE.
    """
    loaded = _load(recipe, [*(overrides or []), *([f"output={output}"] if output else [])], smoke, print_config)
    if print_config:
        from crossrank.training.config import recipe_to_yaml

        sys.stdout.write(recipe_to_yaml(loaded))
        return
    try:
        import peft  # noqa: F401
        import transformers
    except ImportError:
        raise MissingExtra("training", extra="train") from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    from crossrank.inference.export import restore_transformers
    from crossrank.training.progress import Progress
    from crossrank.training.run import train as run

    report = run(
        loaded,
        measure=_measure(loaded.evaluation.measure),
        resume=resume,
        restore=restore_transformers,
        first_stage=_bm25,
        callbacks=[Progress(note)],
    )
    if report.interrupted is not None:
        if _is_first_process():
            note(f"stopped by {report.interrupted.name} at step {report.step}, and saved: continue with --resume")
        raise typer.Exit(128 + report.interrupted)
    if _is_first_process():
        print_facts(str(report.model), {"steps": report.step, "best step": report.best_step} | report.metrics)


def _load(recipe: Path | None, overrides: list[str], smoke: bool, print_config: bool) -> Recipe:
    try:
        from crossrank.training.config import load_recipe, parse_recipe
    except ImportError:
        raise MissingExtra("training", extra="train") from None
    if recipe is not None:
        return load_recipe(recipe, overrides=overrides, smoke=smoke)
    if not print_config:
        raise InputError("give a recipe, such as recipes/minilm_l6.yaml; --print-config shows every setting")
    return parse_recipe({"output": "OUTPUT", "model": {"name": "MODEL"}, "data": {"train": ["TRAIN"]}}, overrides)


def _measure(name: str) -> Measure:
    """Return what judges a run on a dev set: a measure as `crossrank evaluate` knows it."""
    from crossrank.evaluation.measures import parse_measures

    try:
        (measure,) = (found.object for found in parse_measures(name))
    except MissingExtra:
        raise MissingExtra("ranking dev sets", extra="train") from None
    except InputError as error:
        raise InputError(f"evaluation.measure: {error}") from None
    except ValueError:
        raise InputError(f"evaluation.measure {name!r}: give one measure") from None
    import ir_measures

    return lambda qrels, run: float(ir_measures.calc_aggregate([measure], qrels, run)[measure])


def _bm25() -> Any:
    from crossrank.retrieval.bm25 import BM25

    return BM25()


def _is_first_process() -> bool:
    import os

    return os.environ.get("RANK", "0") == "0"
