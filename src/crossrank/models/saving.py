"""Writing a checkpoint folder that crossrank, transformers and sentence-transformers all read with the same scores."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrank.errors import InputError
from crossrank.models.json_files import read_json_object
from crossrank.models.settings import CheckpointSettings, write_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Classes of torch, by the names under which sentence-transformers looks for them.
_ACTIVATION_NAMES = {
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
    "identity": "torch.nn.modules.linear.Identity",
}


def save_checkpoint(
    folder: Path, *, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: CheckpointSettings
) -> Path:
    """Write a sequence classifier, its tokenizer and `crossrank.json` into a folder, and return the folder.

    Everything is written beside the folder first and moved there in one step; an older checkpoint in its place is
    replaced. `activation` and `max_length` are also written where sentence-transformers looks for them; a prompt or a
    temperature of `crossrank.json` is known to crossrank alone.

    Raises:
        InputError: If the folder holds something other than a checkpoint.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "config.json").is_file():
        raise InputError(f"{folder} is not empty and holds no checkpoint: give another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{part}") for part in ("new", "old"))
    try:
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        write_settings(fresh, settings)
        if settings.activation is not None:
            named = {"sentence_transformers": {"activation_fn": _ACTIVATION_NAMES[settings.activation]}}
            _update(fresh / "config.json", named)
        if settings.max_length is not None:
            _update(fresh / "tokenizer_config.json", {"model_max_length": settings.max_length})
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _update(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(read_json_object(path) | values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
