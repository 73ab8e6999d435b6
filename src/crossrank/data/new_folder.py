"""A folder that appears when everything in it is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossrank.errors import InputError


def check_new_folder(folder: Path) -> None:
    """Check that a folder can be made, before any work is done for it.

    Raises:
        InputError: If it is there already and holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already: give another folder")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to write into, and give it its name at the end; without one, where the block raises.

    Raises:
        InputError: If the folder is there already and holds something.
        OSError: If it cannot be written.
    """
    check_new_folder(folder)
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        fresh.mkdir(parents=True)
        yield fresh
        fresh.replace(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def check_id(part: str) -> None:
    """Check that an id can stand in qrels.

    Raises:
        InputError: If it is empty or holds white space.
    """
    if part.split() != [part]:
        raise InputError(f"the id {part!r} is empty or holds white space: it cannot stand in qrels")
