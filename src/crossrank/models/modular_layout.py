"""`modules.json`: the list of modules of a sentence-transformers folder, read and checked without running any code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from crossrank.errors import CheckpointError, UnsupportedModel
from crossrank.models.json_files import read_json_list, read_json_object

MODULES_FILE = "modules.json"
SCORES = "scores"
LOGIT_SCORE = "LogitScore"


@dataclass(frozen=True)
class ModuleEntry:
    """One module of the list.

    Attributes:
        kind: Class name, as in `"Transformer"` or `"Dense"`.
        folder: Where its own files lie.
        config: Its `config.json`; empty for the transformer, whose `config.json` is the model's.
    """

    kind: str
    folder: Path
    config: dict[str, Any]


def read_modules(folder: Path) -> tuple[ModuleEntry, ...]:
    """Return the modules of a checkpoint folder in order, empty where there is no `modules.json`.

    Raises:
        CheckpointError: If the file or a module's own file is broken.
        UnsupportedModel: If a module is not one of sentence-transformers itself, or none of them gives scores.
    """
    entries = _read_entries(folder)
    if _are_of_embedding_model(entries):
        kinds = ", ".join(entry.kind for entry in entries)
        raise UnsupportedModel(
            f"{folder / MODULES_FILE}: no module gives scores ({kinds}): this is an embedding model or another kind of "
            "sentence-transformers model, not a cross-encoder that crossrank can score"
        )
    return entries


def embedding_body(folder: Path) -> Path | None:
    """Return the folder of the transformer of an embedding model, None where the folder holds something else.

    Raises:
        CheckpointError: If the list or a module's own file is broken.
        UnsupportedModel: If a module is not one of sentence-transformers itself.
    """
    entries = _read_entries(folder)
    return entries[0].folder if _are_of_embedding_model(entries) else None


def num_scores(entries: tuple[ModuleEntry, ...]) -> int | None:
    """Return how many scores the last scoring module gives a pair, None if there is no such module."""
    for entry in reversed(entries):
        if entry.kind == LOGIT_SCORE:
            return 1
        if entry.kind == "Dense" and entry.config.get("module_output_name") == SCORES:
            return whole_number(entry, "out_features")
    return None


def whole_number(entry: ModuleEntry, key: str) -> int:
    """Return a size from a module's own file.

    Raises:
        CheckpointError: If it is missing or no whole number above 0.
    """
    value = entry.config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{entry.folder / 'config.json'}: {key} must be a whole number above 0, not {value!r}")
    return value


def _read_entries(folder: Path) -> tuple[ModuleEntry, ...]:
    path = folder / MODULES_FILE
    if not path.is_file():
        return ()
    entries = tuple(_read_entry(folder, entry, path) for entry in read_json_list(path))
    if not entries or entries[0].kind != "Transformer":
        raise UnsupportedModel(f"{path}: the first module must be a Transformer")
    return entries


def _are_of_embedding_model(entries: tuple[ModuleEntry, ...]) -> bool:
    return len(entries) > 1 and num_scores(entries) is None


def _read_entry(folder: Path, entry: Any, path: Path) -> ModuleEntry:
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str) or not isinstance(entry.get("path"), str):
        raise CheckpointError(f"{path}: every module needs a type and a path, not {entry!r}")
    package, _, kind = entry["type"].rpartition(".")
    if package.partition(".")[0] != "sentence_transformers":
        raise UnsupportedModel(f"{path}: module {entry['type']!r} needs foreign code, which crossrank never runs")
    inside = PurePosixPath(entry["path"])
    if inside.is_absolute() or ".." in inside.parts:
        raise CheckpointError(f"{path}: the module path {entry['path']!r} leaves the checkpoint folder")
    module_folder = folder / inside
    config_file = module_folder / "config.json"
    config = read_json_object(config_file) if kind != "Transformer" and config_file.is_file() else {}
    return ModuleEntry(kind, module_folder, config)
