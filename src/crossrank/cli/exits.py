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
            raise _ended(str(error), FAILED) from None
        except KeyboardInterrupt:
            raise _ended("interrupted", INTERRUPTED) from None


def _ended(message: str, code: int) -> typer.Exit:
    typer.secho(f"Error: {message}", err=True, fg=typer.colors.RED)
    return typer.Exit(code)


def _drop_stdout() -> None:
    """Let the interpreter flush what is left into nothing: the reader of the pipe has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
