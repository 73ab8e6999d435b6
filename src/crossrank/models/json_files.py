"""Reading the JSON files of a checkpoint folder, with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crossrank.errors import CheckpointError


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: If the file is not valid JSON, or holds something other than an object.
    """
    value = _read(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: must hold a JSON object")
    return value


def read_json_list(path: Path) -> list[Any]:
    """Return the list in a JSON file.

    Raises:
        CheckpointError: If the file is not valid JSON, or holds something other than a list.
    """
    value = _read(path)
    if not isinstance(value, list):
        raise CheckpointError(f"{path}: must hold a JSON list")
    return value


def read_optional_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, empty where there is no such file.

    Raises:
        CheckpointError: As `read_json_object`.
    """
    return read_json_object(path) if path.is_file() else {}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}); download or copy the file again") from None
