"""LoRA adapters on sequence classifiers: the adapter, the scoring head and the `config.json` of the whole.

Bidirectional decoders have their own way (`bidirectional.py`); what both share is in `lora_base.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crossrank.errors import CheckpointError, InputError, UnsupportedModel
from crossrank.models.checkpoint import Checkpoint, find_folder, open_checkpoint
from crossrank.models.lora_base import ADAPTER_CONFIG, adapter_has, base_of_adapter, merge_adapter
from crossrank.models.weights import load_config, load_with_fresh_head

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter instead of a whole model."""
    return (folder / ADAPTER_CONFIG).is_file()


def load_adapted(checkpoint: Checkpoint, *, dtype: torch.dtype | str) -> PreTrainedModel:
    """Load the model below an adapter, and merge the adapter into it.

    Args:
        checkpoint: The adapter's.
        dtype: Of the weights in memory; `"auto"` keeps that of the file below.

    Raises:
        CheckpointError: If the model cannot be found, or the adapter is damaged or lacks the scoring head.
        MissingExtra: If peft is not installed.
    """
    folder, name = checkpoint.transformer_folder, checkpoint.name
    base = base_of_adapter(folder)
    assert base is not None, "not an adapter"
    config = load_config(folder, name)
    model, fresh = load_with_fresh_head(find_folder(*base), dtype=dtype, where=base[0], config=config)
    missing = sorted({module for weight in fresh if not adapter_has(folder, module := weight.rpartition(".")[0])})
    if missing:
        raise CheckpointError(
            f"{name}: the adapter lacks the weights of the scoring head ({', '.join(missing)}), so every score would "
            "be random; train it again with the head among modules_to_save"
        )
    return merge_adapter(model, folder, name)


def export_merged(model: str | Path, out: Path, *, revision: str | None = None) -> Path:
    """Write the whole model of an adapter, in float32, and return its folder; the scores are the same.

    Args:
        model: The adapter's folder, or its name on the hub.
        out: The folder to write; it must not exist or be empty.
        revision: Branch, tag or commit on the hub.

    Raises:
        InputError: If `out` is not free, or the checkpoint is no adapter.
        CheckpointError: If it cannot be loaded.
        UnsupportedModel: If it is a language model that answers.
    """
    import torch

    from crossrank.models.bidirectional import load_bidirectional
    from crossrank.models.nemotron_vl import load_nemotron_vl
    from crossrank.models.saving import save_checkpoint, save_visual
    from crossrank.models.sequence_classification import load_sequence_classifier

    checkpoint = open_checkpoint(model, revision=revision)
    if not is_adapter(checkpoint.folder):
        raise InputError(f"{checkpoint.name} is a whole model: there is no adapter to merge")
    if checkpoint.family.layout == "causal-lm":
        raise UnsupportedModel(
            f"{checkpoint.name}: a language model that answers is not written merged, and loads as it is; peft's "
            "merge_and_unload makes one model of both"
        )
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise InputError(f"{out} is there already: give a folder that does not exist or is empty")
    tokenizer, settings = checkpoint.tokenizer_folder, checkpoint.settings
    if checkpoint.family.layout == "nemotron-vl":
        pages = load_nemotron_vl(checkpoint, dtype=torch.float32)
        config, processor = checkpoint.config, checkpoint.folder
        return save_visual(out, model=pages, config=config, tokenizer=tokenizer, processor=processor, settings=settings)
    is_decoder = checkpoint.family.layout == "bidirectional"
    load = load_bidirectional if is_decoder else load_sequence_classifier
    whole = load(checkpoint, dtype=torch.float32)
    return save_checkpoint(out, model=whole, tokenizer=tokenizer, settings=settings)
