"""`crossrank data check`: whether training data can be trained on, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossrank.cli.exits import BAD_INPUT
from crossrank.cli.options import JsonOption
from crossrank.cli.terminal import note, print_json, print_table, progress
from crossrank.errors import DataError, InputError, MissingExtra

if TYPE_CHECKING:
    from crossrank.data.groups.build import CheckedData
    from crossrank.data.groups.config import DataConfig

data = typer.Typer(no_args_is_help=True)

_RECIPES = (".yaml", ".yml")


@data.callback()
def _data() -> None:
    """Look at training data."""


@data.command()
def check(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Training data of any format (files, BEIR folders, hf://...), or a recipe (.yaml).",
            show_default=False,
        ),
    ],
    dev: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="Dev data, to find leakage; repeatable.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of the folders and hub datasets among PATH.")] = "train",
    dev_split: Annotated[str, typer.Option(help="Of the folders and hub datasets among --dev.")] = "dev",
    num_negatives: Annotated[
        int | None, typer.Option(min=1, help="Report the groups that have fewer.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check training data: bad rows and images, missing and duplicate ids, positives among negatives, leakage.

    Ends with 2 where the data is broken; with 0 where there are warnings alone.
    """
    from crossrank.data.groups.build import check_data
    from crossrank.encoding.images import check_image
    from crossrank.retrieval.bm25 import BM25

    if any(path.endswith(_RECIPES) for path in paths):
        if len(paths) > 1 or dev or num_negatives:
            raise InputError("a recipe is checked alone: it names its own data")
        config = read_recipe_data(Path(paths[0]))
    else:
        config = _config(_sources(paths, split), _sources(dev or [], dev_split), num_negatives)
    with progress("documents", total=None) as advance:
        checked = check_data(config, first_stage=BM25, check_image=check_image, on_progress=advance)
    report = describe(config, checked)
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    if report["broken"]:
        raise typer.Exit(BAD_INPUT)


def read_recipe_data(path: Path) -> DataConfig:
    """Return the `data` section of a recipe.

    Raises:
        DataError: If the file cannot be read, or has no such section.
        InputError: If a key is unknown or a value is wrong.
        MissingExtra: If pyyaml is not installed.
    """
    from crossrank.data.groups.config import parse_data_config
    from crossrank.data.text import display_name, reading

    try:
        import yaml
    except ImportError as error:
        raise MissingExtra("recipes", extra="train") from error
    with reading(display_name(path)):
        text = path.read_text(encoding="utf-8")
    try:
        recipe = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"malformed YAML: {error}", path=path) from error
    if not isinstance(recipe, dict) or "data" not in recipe:
        raise DataError("a recipe without a 'data' section", path=path)
    return parse_data_config(recipe["data"])


def _sources(paths: list[str], split: str) -> list[dict[str, Any]]:
    has_splits = [path.startswith("hf://") or Path(path).is_dir() for path in paths]
    return [{"path": path} | ({"split": split} if has else {}) for path, has in zip(paths, has_splits, strict=True)]


def _config(train: list[dict[str, Any]], dev: list[dict[str, Any]], num_negatives: int | None) -> DataConfig:
    from crossrank.data.groups.config import parse_data_config

    negatives = {"num": num_negatives, "when_too_few": "error"} if num_negatives else {}
    return parse_data_config({"train": train, "dev": dev, "negatives": negatives})


def describe(config: DataConfig, checked: CheckedData) -> dict[str, Any]:
    """Return what there is and what is wrong, as plain values."""
    sources = [
        {"role": role, "path": source.path} | store.summary()
        for role, sources, stores in (("train", config.train, checked.train), ("dev", config.dev, checked.dev))
        for source, store in zip(sources, stores, strict=True)
    ]
    return {"broken": checked.problems.num_errors > 0, "sources": sources, **checked.problems.to_dict()}


def _print_report(report: dict[str, Any]) -> None:
    columns = ("role", "path", "groups", "documents", "positives", "negatives", "negatives a group", "teacher scored")
    rows = [
        (
            source["role"],
            source["path"],
            *(f"{source[key]:,}" for key in ("groups", "documents", "positives", "negatives")),
            "{min} to {max}, mean {mean:.1f}".format(**source["negatives_per_group"]),
            f"{source['teacher_scored']:,}",
        )
        for source in report["sources"]
    ]
    print_table("Sources", columns, rows)
    if report["problems"]:
        kinds = ((p["kind"], f"{p['count']:,}", "error" if p["is_error"] else "warning") for p in report["problems"])
        print_table("Problems", ("problem", "count", ""), kinds)
        places = (
            (example["kind"], example["path"] + (f":{example['line']}" if example["line"] else ""), example["message"])
            for example in report["examples"]
        )
        print_table("The first of each kind", ("problem", "where", "what"), places)
    note("broken: it cannot be trained on as it is" if report["broken"] else "no errors")
