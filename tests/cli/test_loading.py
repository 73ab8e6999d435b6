"""The options that say which model is loaded, shared by every command that loads one."""

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from crossrank.cli.loading import Backend, LoadOptions, takes_load_options


def run(command, *arguments: str):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [*arguments], catch_exceptions=False)


def test_the_options_arrive_as_one_value():
    seen = []

    @takes_load_options()
    def command(before: str, *, loading: LoadOptions, after: int = 1) -> None:
        seen.append((before, loading, after))

    given = ["text", "-m", "org/model", "--backend", "torch", "--label", "2", "--family", "qwen", "--after", "3"]
    assert run(command, *given).exit_code == 0
    assert seen == [("text", LoadOptions("org/model", backend=Backend.torch, label="2", family="qwen"), 3)]
    assert seen[0][1].arguments() == {
        "revision": None, "backend": "torch", "device": "auto", "dtype": "auto", "max_length": None,
        "num_threads": None, "label": 2, "family": "qwen", "max_input_tiles": None,
    }  # fmt: skip


def test_an_option_of_the_command_itself_is_its_own_affair():
    seen = []

    @takes_load_options()
    def command(model: Annotated[list[str], typer.Option()], *, loading: LoadOptions) -> None:
        seen.append((model, loading))

    assert run(command, "--model", "a", "--model", "b", "--device", "cpu").exit_code == 0
    assert seen == [(["a", "b"], LoadOptions(None, device="cpu"))]


def test_options_that_a_command_leaves_out_are_unknown_to_it():
    @takes_load_options(without=("revision",))
    def command(*, loading: LoadOptions) -> None:
        raise AssertionError("not reached")

    assert run(command, "--revision", "main").exit_code == 2


def test_the_options_stand_where_the_parameter_stands():
    @takes_load_options()
    def command(first: bool = False, *, loading: LoadOptions, last: bool = False) -> None:
        """Say what it does."""

    shown = run(command, "--help").output
    places = [shown.index(option) for option in ("--first", "--last", "--model", "--revision", "--family")]
    assert places[2:] == sorted(places[2:])  # in a panel of their own
    assert "Say what it does." in shown


@pytest.mark.parametrize("label, expected", [("1", 1), ("relevant", "relevant"), (None, None)])
def test_a_label_is_a_name_or_an_index(label, expected):
    assert LoadOptions(label=label).arguments()["label"] == expected
