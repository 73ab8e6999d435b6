"""A long output that is written piece by piece, so that an interrupted one can be continued."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from crossrank.data.sole_writer import sole_writer
from crossrank.data.text import reading
from crossrank.errors import DataError


def part_of(path: Path) -> Path:
    """Return where the pieces lie until the output is complete."""
    return path.with_name(path.name + ".part")


@contextmanager
def open_part(
    path: Path, *, settings: Mapping[str, Any], finish: Callable[[Path, Path], None], restart: bool = False
) -> Iterator[IO[bytes]]:
    """Yield the part of an output for reading and appending; it may hold what an interrupted writer left.

    The pieces lie in `path.part`, beside a `path.part.json` that holds the settings. When the block ends without an
    exception, `finish` makes the output of the part.

    Args:
        path: The output.
        settings: Everything that the pieces depend on, as plain JSON values: nothing is continued under others.
        finish: Called with the part and the output; the output must appear in one step, and the part be gone.
        restart: Drop what an interrupted writer left.

    Raises:
        DataError: If the file cannot be created, another process is writing it, or what an interrupted writer left has
            other settings.
    """
    _check_writable(path)
    part, header = part_of(path), path.with_name(path.name + ".part.json")
    with naming(part), sole_writer(part, create=part.touch):
        with ExitStack() as when_interrupted:
            when_interrupted.callback(_drop_if_empty, part, header)
            if part.stat().st_size and not restart:
                _check_settings(part, header, settings)
            else:
                header.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
            with part.open("a+b") as stream:
                if restart:
                    stream.truncate(0)
                yield stream
            when_interrupted.pop_all()
        finish(part, path)
        header.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an error of the system that names no file, such as that the disk is full, the name of what was written."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def _check_writable(path: Path) -> None:
    if path.is_dir():
        problem = "it is a folder"
    elif path.is_symlink() or (path.exists() and not path.is_file()):
        problem = "it is a link, a pipe or a device: give a plain file"
    elif not path.parent.is_dir():
        problem = "no such folder"
    else:
        return
    raise DataError(f"cannot be written: {problem}", path=path)


def _check_settings(part: Path, header: Path, settings: Mapping[str, Any]) -> None:
    try:
        with reading(header.name):
            before = dict(json.loads(header.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"cannot be continued, its settings are not readable ({error}); start over with --restart", path=part
        ) from error
    refuse_other_settings(before, settings, path=part)


def refuse_other_settings(before: Mapping[str, Any], settings: Mapping[str, Any], *, path: Path) -> None:
    """Check that what was begun under some settings is continued under the same.

    Raises:
        DataError: If they differ; names each that does.
    """
    now = json.loads(json.dumps(settings))
    differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if differing:
        changes = "; ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in differing)
        raise DataError(
            f"was begun with other settings ({changes}): give the same ones to go on, or --restart to drop it",
            path=path,
        )


def _drop_if_empty(part: Path, header: Path) -> None:
    if not part.stat().st_size:
        part.unlink()
        header.unlink(missing_ok=True)
