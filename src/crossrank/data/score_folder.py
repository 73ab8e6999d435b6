"""Scores as a folder of Parquet shards with a manifest, written shard by shard, so that it can be continued.

`OUT/part-00000.parquet`, ... have a row a pair: `row` (its line or row in the input), `id`, `query_id`, `document_id`,
`score`, `truncated`. `OUT/_manifest.json` names the shards, their rows, and the settings that they were made
under; readers of Parquet folders pass over names that begin with an underscore.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossrank.data.pair_files import PairRow
from crossrank.data.part_file import naming, refuse_other_settings
from crossrank.data.sole_writer import sole_writer
from crossrank.data.text import reading
from crossrank.errors import DataError, InputError, MissingExtra
from crossrank.types import Scores

MANIFEST = "_manifest.json"
ID_COLUMNS = ("id", "query_id", "document_id")


@dataclass(frozen=True)
class ShardRecord:
    """What the manifest says of a shard.

    Attributes:
        index: Which one, from 0.
        file: Its name in the folder.
        first, last: The lines or rows of the input that it spans, from 1.
        rows: Pairs that were scored.
        truncated: Of them, those whose document lost text.
        skipped: Pairs that the model cannot read, and that were left out.
    """

    index: int
    file: str
    first: int
    last: int
    rows: int
    truncated: int
    skipped: int


class ScoreFolder:
    """The folder that an unfinished job writes into, `OUT.part`.

    Attributes:
        folder: Where shards are put.
        records: Of the shards that are finished, by index; at the start, those that an interrupted job left.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], records: Sequence[ShardRecord]) -> None:
        self.folder = folder
        self.records = {record.index: record for record in records}
        self._settings = settings

    def add(self, record: ShardRecord) -> None:
        """Write down that a shard is finished."""
        self.records[record.index] = record
        self.write_manifest(complete=False)

    def write_manifest(self, *, complete: bool) -> None:
        """Replace the manifest in one step."""
        records = [self.records[index] for index in sorted(self.records)]
        totals = {key: sum(getattr(r, key) for r in records) for key in ("rows", "truncated", "skipped")}
        manifest = {"complete": complete, **totals, "settings": self._settings, "shards": [asdict(r) for r in records]}
        fresh = self.folder / f"{MANIFEST}.tmp"
        fresh.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        fresh.replace(self.folder / MANIFEST)


@contextmanager
def open_score_folder(folder: Path, *, settings: Mapping[str, Any], restart: bool = False) -> Iterator[ScoreFolder]:
    """Write shards into `folder`, or go on where a job was interrupted.

    Until the block ends without an exception the shards lie in `folder.part`; then the folder takes its name in one
    step. A shard that the manifest does not name is written anew.

    Args:
        folder: Must not exist yet.
        settings: Everything that the scores depend on, as plain JSON values: a job is never continued under others.
        restart: Drop what an interrupted job left.

    Raises:
        InputError: If the folder is there already.
        DataError: If it cannot be created, or what an interrupted job left has other settings or is broken.
        MissingExtra: If pyarrow is not installed.
    """
    _import_pyarrow()
    if folder.exists():
        raise InputError(f"{folder} is there already: give another folder")
    if not folder.absolute().parent.is_dir():
        raise DataError("cannot be written: no such folder", path=folder.parent)
    part = folder.with_name(folder.name + ".part")
    with naming(part), sole_writer(part, create=partial(part.mkdir, exist_ok=True)):
        if restart:
            for left in part.iterdir():
                left.unlink()
        records = _finished(part, settings) if (part / MANIFEST).exists() else []
        scores = ScoreFolder(part, settings, records)
        try:
            scores.write_manifest(complete=False)
            yield scores
        except BaseException:
            if not scores.records:
                shutil.rmtree(part)
            raise
        for stray in part.glob("*.tmp"):
            stray.unlink()
        scores.write_manifest(complete=True)
        part.replace(folder)


def write_shard(
    folder: Path, index: int, rows: Sequence[PairRow], scores: Scores, truncated: npt.NDArray[np.bool_]
) -> str:
    """Write a shard under another name first, and return its name.

    Args:
        folder: Of an unfinished job.
        index: Of the shard.
        rows: The pairs, `(P,)`.
        scores: Float32 `(P,)`.
        truncated: Whether each document lost text, `(P,)`.
    """
    pyarrow = _import_pyarrow()
    from pyarrow import parquet

    table = pyarrow.table(
        {"row": pyarrow.array([row.number for row in rows], pyarrow.int64())}
        | {key: pyarrow.array([row.ids.get(key) for row in rows], pyarrow.string()) for key in ID_COLUMNS}
        | {"score": pyarrow.array(scores, pyarrow.float32()), "truncated": pyarrow.array(truncated, pyarrow.bool_())}
    )
    name = f"part-{index:05d}.parquet"
    fresh = folder / f"{name}.tmp"
    parquet.write_table(table, fresh)
    fresh.replace(folder / name)
    return name


def _finished(part: Path, settings: Mapping[str, Any]) -> list[ShardRecord]:
    try:
        with reading(str(part / MANIFEST)):
            manifest = json.loads((part / MANIFEST).read_text(encoding="utf-8"))
        before, records = dict(manifest["settings"]), [ShardRecord(**record) for record in manifest["shards"]]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"not a readable manifest ({error}); start over with --restart", path=part / MANIFEST) from None
    refuse_other_settings(before, settings, path=part)
    return [record for record in records if (part / record.file).is_file()]


def _import_pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtra("writing Parquet files", extra="parquet") from error
    return pyarrow
