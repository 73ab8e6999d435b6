"""Mined groups to a file: JSON lines with texts, or NeMo AutoModel's corpus-ID JSON; an interrupted one is continued.

{"question_id": "q1", "query": "red?", "pos_doc": [{"id": "d1", "text": "Mars", "score": 8.2}],
 "neg_doc": [{"id": "d2", "text": "Venus", "source": "retrieved", "found_by": {"bm25": {"rank": 2, "score": 3.1}}}]}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from crossrank.data.groups.inline import ID_KEYS
from crossrank.data.part_file import open_part, part_of
from crossrank.errors import DataError

POSITIVES, NEGATIVES = "pos_doc", "neg_doc"


class GroupWriter:
    """Writes groups one after the other.

    Attributes:
        finished: How many are written; at the start, those that an interrupted writer left.
        counts: What was counted for all of them.
    """

    def __init__(self, stream: IO[bytes], finished: int, counts: Counter[str]) -> None:
        self._stream = stream
        self.finished = finished
        self.counts = counts

    def write(self, row: Mapping[str, Any], counts: Mapping[str, int]) -> None:
        """Write a group and what was counted for it, and hand them to the system."""
        line = json.dumps({"row": row, "counts": counts}, ensure_ascii=False, allow_nan=False)
        self._stream.write(line.encode("utf-8") + b"\n")
        self._stream.flush()
        self.finished += 1
        self.counts.update(counts)


@contextmanager
def open_group_writer(
    path: Path,
    *,
    settings: Mapping[str, Any],
    head: Mapping[str, Any] | None = None,
    unroll: bool = False,
    restart: bool = False,
) -> Iterator[GroupWriter]:
    """Write groups to `path`, or go on with a file that was interrupted; see `open_part`.

    Args:
        path: The file; must not exist.
        settings: Everything that the groups depend on.
        head: What stands before the `data` of a corpus-ID file; None for JSON lines.
        unroll: Write a group with several positives once for each of them (see `unrolled`).
        restart: Drop what an interrupted writer left.

    Raises:
        DataError: If the file is there already or cannot be created, or what an interrupted writer left has other
            settings or is broken.
    """
    if path.exists():
        raise DataError("is there already: give another name, or delete it", path=path)
    finish = partial(_finish, head=head, unroll=unroll)
    with open_part(path, settings=settings, finish=finish, restart=restart) as stream:
        yield GroupWriter(stream, *_keep_finished(stream, part_of(path)))


def unrolled(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row for each positive: it stands first, the others follow, and the id gets its number from 0.

    A row with one positive stays as it is. The row form is that of NeMo AutoModel, whose training takes the first
    positive alone, and whose miner excludes all.
    """
    positives = row[POSITIVES]
    if len(positives) < 2:
        yield dict(row)
        return
    id_key = next(key for key in ID_KEYS if key in row)
    for number, positive in enumerate(positives):
        others = positives[:number] + positives[number + 1 :]
        yield {**row, id_key: f"{row[id_key]}_{number}", POSITIVES: [positive, *others]}


def _keep_finished(stream: IO[bytes], part: Path) -> tuple[int, Counter[str]]:
    """Cut off a line that an interrupt left unfinished; return the number of lines, and what was counted for them."""
    finished, counts, offset = 0, Counter[str](), 0
    stream.seek(0)
    for number, line in enumerate(stream, start=1):
        if not line.endswith(b"\n"):
            break
        try:
            counts.update(json.loads(line)["counts"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError("not a line of a group; start over with --restart", path=part, line=number) from error
        finished, offset = number, offset + len(line)
    stream.truncate(offset)
    return finished, counts


def _finish(part: Path, path: Path, *, head: Mapping[str, Any] | None, unroll: bool) -> None:
    fresh = part.with_name(part.name + ".new")
    try:
        with part.open("rb") as stream, fresh.open("w", encoding="utf-8") as output:
            lines = (json.dumps(row, ensure_ascii=False) for row in _rows(stream, unroll))
            if head is None:
                output.writelines(line + "\n" for line in lines)
            else:
                _write_json(output, head, lines)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    part.unlink()


def _rows(stream: IO[bytes], unroll: bool) -> Iterator[Mapping[str, Any]]:
    for line in stream:
        row = json.loads(line)["row"]
        yield from unrolled(row) if unroll else (row,)


def _write_json(output: IO[str], head: Mapping[str, Any], lines: Iterator[str]) -> None:
    """Write one JSON object whose `data` is never in memory as a whole."""
    output.write(json.dumps(head, ensure_ascii=False)[:-1] + (", " if head else "") + '"data": [')
    for number, line in enumerate(lines):
        output.write((",\n" if number else "\n") + line)
    output.write("\n]}\n")
