"""Reading the JSON files of a checkpoint folder, with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from crossrank.errors import CheckpointError

T = TypeVar("T")
# What is looked into, or compared with names: of another kind it would be an error far away, or none.
_KINDS: dict[str, tuple[type, str]] = {
    "architectures": (list, "list"),
    "default_prompt_name": (str, "string"),
    "id2label": (dict, "object"),
    "llm_config": (dict, "object"),
    "modality_config": (dict, "object"),
    "model_input_names": (list, "list"),
    "model_type": (str, "string"),
    "prompts": (dict, "object"),
    "text_config": (dict, "object"),
    "vision_config": (dict, "object"),
}


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: If the file is not valid JSON, or holds something other than an object or a value of another
            kind.
    """
    values = _read(path, dict, "object")
    for key, (kind, name) in _KINDS.items():
        if values.get(key) is not None and not isinstance(values[key], kind):
            raise CheckpointError(f"{path}: {key!r} must be a JSON {name}, not {str(values[key])[:40]!r}")
    return values


def read_json_list(path: Path) -> list[Any]:
    """Return the list in a JSON file.

    Raises:
        CheckpointError: If the file is not valid JSON, or holds something other than a list.
    """
    return _read(path, list, "list")


def read_optional_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, empty where there is no such file.

    Raises:
        CheckpointError: As `read_json_object`.
    """
    return read_json_object(path) if path.is_file() else {}


def whole_number(value: Any, default: int) -> int:
    """Return a count or an id as a JSON file states it, or the default where it states none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def _read(path: Path, kind: type[T], what: str) -> T:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}); download or copy the file again") from None
    if not isinstance(value, kind):
        raise CheckpointError(f"{path}: must hold a JSON {what}")
    return value
