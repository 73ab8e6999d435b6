"""How a command ends: an exception becomes one line on standard error and an exit code, never a traceback."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from crossrank.errors import DataError, InputError, RerankError

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130


class CommandGroup(TyperGroup):
    """Runs a command and turns what it raises into an exit code.

    0: done. 2: bad input (a query, an option, a file). 1: everything else. 130: interrupted with Ctrl-C.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        _occupy_closed_streams()
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except (InputError, DataError) as error:
            raise _ended(str(error), BAD_INPUT) from None
        except RerankError as error:
            raise _ended(str(error), FAILED) from None
        except BrokenPipeError:
            _drop_stdout()
            raise typer.Exit(0) from None
        except OSError as error:
            raise _ended(_in_words(error), FAILED) from None
        except KeyboardInterrupt:
            raise _ended("interrupted", INTERRUPTED) from None


def _ended(message: str, code: int) -> typer.Exit:
    typer.secho(f"Error: {message}", err=True, fg=typer.colors.RED)
    return typer.Exit(code)


def _in_words(error: OSError) -> str:
    """Say what the system refused, and where; what names no file was written to standard output."""
    if not error.strerror:
        return str(error)
    where = "standard output" if error.filename is None else os.fsdecode(error.filename)
    return f"{where}: {error.strerror}"


def _occupy_closed_streams() -> None:
    """Give closed standard streams a number that leads nowhere, so that no file that is opened later gets it.

    What is printed where standard output is closed goes nowhere, as with `print`; `sys.stdin` stays None.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _drop_stdout() -> None:
    """Let the interpreter flush what is left into nothing: the reader of the pipe has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
