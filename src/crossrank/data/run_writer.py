"""A run written query by query, so that an interrupted one can be continued."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from crossrank.data.part_file import open_part, part_of
from crossrank.data.trec import Candidate, format_run
from crossrank.errors import DataError


class RunWriter:
    """Writes the queries of a run into `OUT.part`, one after the other.

    Attributes:
        finished: Ids of the queries that are written, in order; at the start, those that an interrupted writer left.
    """

    def __init__(self, stream: IO[bytes], finished: Iterable[str]) -> None:
        self._stream = stream
        self.finished = dict.fromkeys(finished)

    def write(self, query_id: str, candidates: Iterable[Candidate]) -> None:
        """Write one query as `format_run` orders it, and hand it to the system.

        Raises:
            InputError: If an id cannot stand in a run, or a score is not finite.
        """
        self._stream.write(format_run(query_id, candidates).encode("utf-8"))
        self._stream.flush()
        self.finished[query_id] = None


@contextmanager
def open_run_writer(path: Path, *, settings: Mapping[str, Any], restart: bool = False) -> Iterator[RunWriter]:
    """Write a run to `path`, or go on with one that was interrupted.

    Until the block ends without an exception, the queries lie in `path.part` (see `open_part`); then the file takes its
    name in one step, packed where that ends in `.gz`. A writer that finds a part keeps the queries there, except the
    last: an interrupt may have cut it.

    Args:
        path: The run to write; replaced where it exists.
        settings: Everything that the lines depend on, as plain JSON values: a run is never continued under others.
        restart: Drop what an interrupted writer left.

    Raises:
        DataError: If the file cannot be created, or what an interrupted writer left has other settings or is broken.
    """
    with open_part(path, settings=settings, finish=_finish, restart=restart) as stream:
        yield RunWriter(stream, _keep_finished(stream, part_of(path)))


def _keep_finished(stream: IO[bytes], part: Path) -> list[str]:
    """Cut the last query off a part file, and return the ids of the queries before it."""
    starts: dict[str, int] = {}
    offset = 0
    stream.seek(0)
    for number, line in enumerate(stream, start=1):
        if not line.endswith(b"\n"):
            break
        fields = line.split()
        if len(fields) != 6:
            raise DataError("not a line of a run; start over with --restart", path=part, line=number)
        starts.setdefault(fields[0].decode("utf-8", "replace"), offset)
        offset += len(line)
    if starts:
        _, offset = starts.popitem()
    stream.truncate(offset)
    return list(starts)


def _finish(part: Path, path: Path) -> None:
    if path.suffix.lower() != ".gz":
        part.replace(path)
        return
    packed = part.with_name(part.name + ".gz")
    # No name and no time inside, so that the same run gives the same bytes.
    with part.open("rb") as source, packed.open("wb") as target, gzip.GzipFile("", "wb", 6, target, 0) as stream:
        shutil.copyfileobj(source, stream, 1 << 20)
    packed.replace(path)
    part.unlink()
