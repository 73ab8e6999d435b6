"""Text files as lines: UTF-8, plain or gzip, from a path or from standard input."""

from __future__ import annotations

import codecs
import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NoReturn, cast

from crossrank.errors import DataError

STDIN = "-"
# Of the lines that were skipped this many are kept to be shown; all are counted.
MAX_KEPT_ERRORS = 20
# What a file is that begins so, and what to do with it.
_REMEDIES = {
    codecs.BOM_UTF16_LE: "it looks like UTF-16; save it as UTF-8",
    codecs.BOM_UTF16_BE: "it looks like UTF-16; save it as UTF-8",
    b"\x1f\x8b": "it is packed with gzip; give the path of a file whose name ends in .gz, or unpack it first",
}


@dataclass(frozen=True)
class Line:
    """One line of a text file.

    Attributes:
        number: Counted from 1.
        offset: Where the line starts, in bytes of the (unpacked) file.
        text: With its line ending; bytes that are not UTF-8 stand as U+FFFD.
        error: Set when the line is not UTF-8.
    """

    number: int
    offset: int
    text: str
    error: DataError | None = None


@dataclass
class SkippedLines:
    """Counts the lines, rows and paragraphs that were left out because they cannot be read.

    Attributes:
        count: How many.
        errors: The first of them, at most 20; each names file and line.
    """

    count: int = 0
    errors: list[DataError] = field(default_factory=list)

    def add(self, error: DataError) -> None:
        """Count one."""
        self.count += 1
        if len(self.errors) < MAX_KEPT_ERRORS:
            self.errors.append(error)


def skip_or_raise(error: DataError, skipped: SkippedLines | None) -> None:
    """Count a bad line where the caller asked for that.

    Raises:
        DataError: The error itself, without `skipped`.
    """
    if skipped is None:
        raise error
    skipped.add(error)


def display_name(path: str | Path) -> str:
    """Return the name of a file for messages and ids, always valid Unicode."""
    return "<stdin>" if str(path) == STDIN else os.fsencode(path).decode("utf-8", "replace")


def read_lines(path: str | Path) -> Iterator[Line]:
    """Yield the lines of a text file; only a line feed ends a line. A byte order mark is dropped.

    Args:
        path: A plain file, a `.gz` file, or `-` for standard input.

    Raises:
        DataError: If the file is missing or cannot be read, or its gzip stream is broken.
    """
    with open_binary(path) as stream:
        yield from decode_lines(stream, display_name(path))


def decode_lines(stream: IO[bytes], name: str, *, first: int = 1, offset: int = 0) -> Iterator[Line]:
    """Yield the lines of an open file, from its start, or from the line `first` that starts at the byte `offset`.

    Raises:
        DataError: If it cannot be read to its end.
    """
    with reading(name):
        if offset:
            stream.seek(offset)
        for number, raw in enumerate(stream, start=first):
            yield _decode(raw, number, offset, name)
            offset += len(raw)


@contextmanager
def open_binary(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, unpacked where its name ends in `.gz`.

    Raises:
        DataError: If the file is missing or cannot be opened.
    """
    with reading(display_name(path)):
        opened = _open(path)
    with opened as stream:
        yield stream


def _open(path: str | Path) -> AbstractContextManager[IO[bytes]]:
    if str(path) == STDIN:
        if sys.stdin is None:
            raise DataError("standard input is closed: name files, or pipe something in", path=display_name(STDIN))
        return nullcontext(sys.stdin.buffer)
    if str(path).lower().endswith(".gz"):
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return Path(path).open("rb")


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what the system or gzip says about a file into an error that names it.

    Raises:
        DataError: In place of an `OSError` or of a gzip error.
    """
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"broken gzip stream: {error}", path=name) from error
    except OSError as error:
        _raise_unreadable(error, name)


def _raise_unreadable(error: OSError, name: str) -> NoReturn:
    if isinstance(error, FileNotFoundError):
        raise DataError("no such file", path=name) from error
    raise DataError(f"cannot be read: {error.strerror or error}", path=name) from error


def _decode(raw: bytes, number: int, offset: int, name: str) -> Line:
    try:
        text = raw.decode("utf-8")
        error = None
    except UnicodeDecodeError as failure:
        text = raw.decode("utf-8", "replace")
        remedy = next((remedy for start, remedy in _REMEDIES.items() if raw.startswith(start)), "save it as UTF-8")
        error = DataError(
            f"not valid UTF-8 at byte {offset + failure.start} of the file (0x{raw[failure.start]:02x}); {remedy}",
            path=name,
            line=number,
        )
    return Line(number, offset, text.removeprefix("\ufeff") if number == 1 else text, error)
