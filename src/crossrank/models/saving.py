"""Writing a checkpoint folder that crossrank, transformers and sentence-transformers all read with the same scores."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrank.errors import InputError, UnsupportedModel
from crossrank.models.hub import PROCESSOR_FILES, TOKENIZER_FILES
from crossrank.models.json_files import read_json_object
from crossrank.models.lora_base import ADAPTER_CONFIG
from crossrank.models.published_layout import is_bidirectional, publish
from crossrank.models.quiet import quiet_transformers
from crossrank.models.settings import CheckpointSettings, write_settings

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from crossrank.models.checkpoint import Checkpoint
    from crossrank.models.nemotron_vl import NemotronVLReranker

# Classes of torch, by the names under which sentence-transformers looks for them.
_ACTIVATION_NAMES = {
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
    "identity": "torch.nn.modules.linear.Identity",
}


def save_checkpoint(
    folder: Path,
    *,
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase | Path,
    settings: CheckpointSettings,
    state_dict: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a sequence classifier, its tokenizer and `crossrank.json` into a folder, and return the folder.

    Everything is written beside the folder first and moved there in one step; an older checkpoint in its place is
    replaced. `activation` and `max_length` are also written where sentence-transformers looks for them; a prompt or a
    temperature of `crossrank.json` is known to crossrank alone, and to sentence-transformers where a bidirectional
    decoder is written, which has its published layout (`published_layout.py`). Of a model that wears an adapter of
    peft, the adapter and the scoring head are written, and the `config.json` of the whole.

    Args:
        folder: What is written.
        model: Its weights.
        tokenizer: Of transformers, or a folder whose tokenizer files are copied as they are.
        settings: `crossrank.json`.
        state_dict: The weights, where those of the model are shards.

    Raises:
        InputError: If the folder holds something other than a checkpoint.
    """
    with _replacing(folder) as fresh:
        with quiet_transformers():
            model.save_pretrained(str(fresh), state_dict=state_dict)
        _save_tokenizer(fresh, tokenizer)
        if is_bidirectional(model):
            settings = publish(fresh, model, settings)
        elif (fresh / ADAPTER_CONFIG).is_file():
            model.config.save_pretrained(fresh)
            (fresh / "README.md").unlink(missing_ok=True)  # an empty form of peft
        write_settings(fresh, settings)
        if settings.activation is not None and not is_bidirectional(model):
            named = {"sentence_transformers": {"activation_fn": _ACTIVATION_NAMES[settings.activation]}}
            _update(fresh / "config.json", named)
        if settings.max_length is not None:
            _update(fresh / "tokenizer_config.json", {"model_max_length": settings.max_length})
    return folder


def save_loaded(folder: Path, checkpoint: Checkpoint, *, model: PreTrainedModel | None = None) -> Path:
    """Write a checkpoint that was opened into a folder, in the precision of its weights file, and return the folder.

    Args:
        folder: What is written.
        checkpoint: What it says of itself; its settings and tokenizer are copied.
        model: The model, where its weights are in no file.

    Raises:
        InputError: If the folder holds something other than a checkpoint.
        UnsupportedModel: If checkpoints of this layout are not written by crossrank.
    """
    if checkpoint.family.layout == "nemotron-vl":
        return _save_nemotron_vl(folder, checkpoint)
    if model is None and checkpoint.family.layout != "bidirectional":
        raise UnsupportedModel(
            f"{checkpoint.name}: only bidirectional decoders, with a vision tower or without, are saved again so far, "
            f"not {checkpoint.family.name}"
        )
    if model is None:
        from crossrank.models.bidirectional import load_bidirectional

        model = load_bidirectional(checkpoint, dtype="auto")
    return save_checkpoint(folder, model=model, tokenizer=checkpoint.tokenizer_folder, settings=checkpoint.settings)


def _save_nemotron_vl(folder: Path, checkpoint: Checkpoint) -> Path:
    from crossrank.models.nemotron_vl import load_nemotron_vl

    return save_visual(
        folder,
        model=load_nemotron_vl(checkpoint, dtype="auto"),
        config=checkpoint.config,
        tokenizer=checkpoint.tokenizer_folder,
        processor=checkpoint.folder,
        settings=checkpoint.settings,
    )


def save_visual(
    folder: Path,
    *,
    model: NemotronVLReranker | Any,
    config: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase | Path,
    processor: Mapping[str, Any] | Path,
    settings: CheckpointSettings,
) -> Path:
    """Write a reranker of page images in its published layout, and return the folder; otherwise as `save_checkpoint`.

    Args:
        folder: What is written.
        model: Its weights; of one that wears an adapter of peft, the adapter and the scoring head alone.
        config: `config.json`.
        tokenizer: Of transformers, or a folder whose tokenizer files are copied as they are.
        processor: `processor_config.json`, or a folder whose files of this kind are copied as they are.
        settings: `crossrank.json`.

    Raises:
        InputError: If the folder holds something other than a checkpoint.
    """
    from crossrank.models.checkpoint import open_checkpoint
    from crossrank.models.nemotron_vl import write_config, write_nemotron_vl
    from crossrank.models.nemotron_vl_layout import publish_nemotron_vl

    with _replacing(folder) as fresh:
        adapted: Any = model if hasattr(model, "peft_config") else None
        if adapted is not None:
            with quiet_transformers():
                adapted.save_pretrained(str(fresh))
            (fresh / "README.md").unlink(missing_ok=True)  # an empty form of peft
            write_config(fresh, config)
        else:
            write_nemotron_vl(fresh, model, config)
        _save_tokenizer(fresh, tokenizer)
        _save_processor(fresh, processor)
        write_settings(fresh, settings)
        if adapted is None:
            saved = open_checkpoint(fresh)
            assert saved.visual is not None
            publish_nemotron_vl(fresh, saved.visual, saved.activation)
    return folder


def _save_processor(folder: Path, processor: Mapping[str, Any] | Path) -> None:
    if not isinstance(processor, Path):
        (folder / PROCESSOR_FILES[-1]).write_text(json.dumps(dict(processor), indent=2) + "\n", encoding="utf-8")
        return
    for name in PROCESSOR_FILES:
        if (processor / name).is_file():
            shutil.copyfile(processor / name, folder / name)


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of `folder` in one step, unless something goes wrong before.

    Raises:
        InputError: If the folder holds something other than a checkpoint, or is the working directory or a file.
    """
    if folder.is_file() or folder.resolve() == Path.cwd():
        kind = "a file" if folder.is_file() else "the working directory, which would be replaced"
        raise InputError(f"{folder} is {kind}: give a folder of its own")
    if folder.exists() and any(folder.iterdir()) and not (folder / "config.json").is_file():
        raise InputError(f"{folder} is not empty and holds no checkpoint: give another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{part}") for part in ("new", "old"))
    fresh.mkdir()
    try:
        yield fresh
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _save_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase | Path) -> None:
    if not isinstance(tokenizer, Path):
        tokenizer.save_pretrained(folder)
        return
    for pattern in TOKENIZER_FILES:
        for file in tokenizer.glob(pattern):
            shutil.copyfile(file, folder / file.name)


def _update(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(read_json_object(path) | values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
