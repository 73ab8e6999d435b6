"""Finished and half-finished runs of an evaluation, one file a model and data set, so that no pair is scored twice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossrank.data.run_writer import RunWriter, open_run_writer
from crossrank.data.text import reading
from crossrank.data.trec import Candidate, read_run
from crossrank.errors import DataError


@dataclass(frozen=True)
class StoredRun:
    """A finished run.

    Attributes:
        run: Candidates by query, best first.
        path: Its file.
        pairs: How many pairs were scored; more than the run has where an interrupted query was scored again.
        seconds: How long scoring them took.
    """

    run: dict[str, tuple[Candidate, ...]]
    path: Path
    pairs: int
    seconds: float


class RunClock:
    """Adds up pairs and seconds in a file beside the run, over interruptions."""

    def __init__(self, path: Path) -> None:
        self._path = path
        stored = _read_json(path) if path.exists() else {}
        self.pairs, self.seconds = int(stored.get("pairs", 0)), float(stored.get("seconds", 0.0))

    def add(self, pairs: int, seconds: float) -> None:
        """Count pairs, and the seconds that scoring them took."""
        self.pairs += pairs
        self.seconds += seconds
        write_text(self._path, json.dumps({"pairs": self.pairs, "seconds": self.seconds}))


class RunStore:
    """The folder of runs: `FOLDER/DATASET/NAME.trec.gz`, each beside a `.json` that says how it was made.

    Args:
        folder: Made where it is not there.
        restart: Drop what is stored, run by run, when it is asked for.
    """

    def __init__(self, folder: Path, *, restart: bool = False) -> None:
        self._folder = folder
        self._restart = restart
        self._kept: set[Path] = set()

    def load(self, dataset: str, name: str, settings: Mapping[str, Any]) -> StoredRun | None:
        """Return a finished run, or None where there is none yet.

        Raises:
            DataError: If it was made with other settings, or cannot be read.
        """
        path = self._path(dataset, name)
        record = _beside(path)
        if self._restart and path not in self._kept:
            for file in (path, record):
                file.unlink(missing_ok=True)
        if not path.exists() or not record.exists():
            return None
        stored = _read_json(record)
        before, now = stored.get("settings", {}), json.loads(json.dumps(settings))
        differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        if differing:
            changes = "; ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in differing)
            raise DataError(
                f"was made with other settings ({changes}): give another output folder, or --restart to drop it",
                path=path,
            )
        run = {item.query_id: item.candidates for item in read_run(path)}
        return StoredRun(run, path, int(stored.get("pairs", 0)), float(stored.get("seconds", 0.0)))

    @contextmanager
    def writing(self, dataset: str, name: str, settings: Mapping[str, Any]) -> Iterator[tuple[RunWriter, RunClock]]:
        """Write a run query by query, or go on with an interrupted one; `load` finds it when the block has ended.

        Raises:
            DataError: If it was begun with other settings, or the file cannot be written.
        """
        path = self._path(dataset, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        clock_file = path.with_name(path.name + ".clock.json")
        restart = self._restart and path not in self._kept
        self._kept.add(path)
        if restart or not path.with_name(path.name + ".part").exists():
            clock_file.unlink(missing_ok=True)
        clock = RunClock(clock_file)
        with open_run_writer(path, settings=settings, restart=restart) as writer:
            yield writer, clock
        record = {"settings": dict(settings), "pairs": clock.pairs, "seconds": clock.seconds}
        write_text(_beside(path), json.dumps(record, indent=2) + "\n")
        clock_file.unlink(missing_ok=True)

    def _path(self, dataset: str, name: str) -> Path:
        return self._folder / file_name(dataset) / f"{file_name(name)}.trec.gz"


def file_name(name: str) -> str:
    """Return a name as one that every file system takes."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "unnamed"


def write_text(path: Path, text: str) -> None:
    """Write a file in one step: a reader sees the old content or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        with reading(str(path)):
            return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(f"not readable ({error}); start over with --restart", path=path) from error
