"""Which reader a source gets, and what its content depends on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from crossrank.data.groups.config import SourceConfig
from crossrank.data.groups.inline import read_inline_groups
from crossrank.data.groups.store import StoreWriter
from crossrank.data.text import display_name, reading
from crossrank.errors import DataError

Reader = Callable[[SourceConfig, StoreWriter], None]

_READERS: dict[str, Reader] = {"groups": read_inline_groups}


def resolve_format(source: SourceConfig) -> str:
    """Return the format of a source: what it says, or what its path looks like.

    Raises:
        DataError: If there is no such file, or it looks like none of the formats.
    """
    if not Path(source.path).exists():
        raise DataError("no such file or folder", path=display_name(source.path))
    return "groups"


def read_source(source: SourceConfig, format: str, writer: StoreWriter) -> None:
    """Write the groups of a source.

    Raises:
        DataError: If it cannot be read.
    """
    _READERS[format](source, writer)


def describe_inputs(source: SourceConfig, format: str) -> list[tuple[str, int, int]]:
    """Return the files that a source is read from, each with its size and its time of change."""
    with reading(display_name(source.path)):
        return [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in [Path(source.path)]]
