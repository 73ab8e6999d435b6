"""The model of a recipe, ready to be trained: a reranker, or the body of one under a fresh head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from crossrank.encoding.prompt import PromptTemplate
from crossrank.errors import InputError, UnsupportedModel
from crossrank.models.backbone import build_from_backbone
from crossrank.models.bidirectional import load_bidirectional
from crossrank.models.bidirectional_layout import BACKBONES
from crossrank.models.checkpoint import Checkpoint, describe_checkpoint, find_folder, load_encoder, open_checkpoint
from crossrank.models.cpu_training import prepare_for_cpu
from crossrank.models.families import FAMILIES
from crossrank.models.first_token import read_first_token_only
from crossrank.models.json_files import read_json_object
from crossrank.models.sequence_classification import load_sequence_classifier, with_float32_head
from crossrank.models.settings import CheckpointSettings
from crossrank.models.weights import load_with_fresh_head
from crossrank.training.batches import Encoder
from crossrank.training.config import ModelSection

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TRAINABLE = ("sequence-classification", "bidirectional")


@dataclass(frozen=True)
class Trainee:
    """A model that is about to be trained, and what reads text for it.

    Attributes:
        model: A sequence classifier with one label.
        checkpoint: What it says of itself.
        tokenizer_folder: Whose tokenizer files are saved beside it.
        encoder: Reads its pairs.
        fresh: Names of the weights that started at random.
    """

    model: PreTrainedModel
    checkpoint: Checkpoint
    tokenizer_folder: Path
    encoder: Encoder
    fresh: tuple[str, ...]


def load_trainee(section: ModelSection, *, seed: int, dtype: torch.dtype | str, on_cpu: bool) -> Trainee:
    """Load the model of a recipe.

    Args:
        section: Which one.
        seed: Of a fresh head.
        dtype: Of the weights in memory; `"auto"` keeps the file's.
        on_cpu: Whether it is trained on a CPU.

    Raises:
        CheckpointError: If the model cannot be found or loaded.
        UnsupportedModel: If models of its kind cannot be trained.
        InputError: If the section asks for something that the model has not.
    """
    folder = find_folder(section.name, section.revision)
    if section.pooling is not None and (_has_head(folder) or not _is_decoder(folder)):
        raise InputError(f"model.pooling: only a decoder with a fresh head takes one, and {section.name} is none")
    if _has_head(folder):
        model, checkpoint = _load_reranker(section, folder, dtype)
        fresh: list[str] = []
    elif _is_decoder(folder):
        pooling, limit = section.pooling or "avg", section.max_length
        model, checkpoint = build_from_backbone(folder, pooling=pooling, seed=seed, max_length=limit, dtype=dtype)
        fresh = ["score.weight"]
    else:
        torch.manual_seed(seed)
        model, fresh = load_with_fresh_head(folder, dtype=dtype, where=section.name)
        model = with_float32_head(model, 1)
        described = model.config.to_dict()
        limit = section.max_length
        checkpoint = describe_checkpoint(
            section.name, folder, described, CheckpointSettings(), max_length=limit, label=0
        )
    if on_cpu:
        prepare_for_cpu(model)
    read_first_token_only(model)
    if section.freeze_embeddings:
        _freeze_embeddings(model)
    if section.prompt is not None:
        settings = checkpoint.settings.model_copy(update={"prompt": PromptTemplate(**section.prompt)})
        checkpoint = replace(checkpoint, settings=settings)
    return Trainee(model, checkpoint, checkpoint.tokenizer_folder, load_encoder(checkpoint), tuple(fresh))


def _load_reranker(section: ModelSection, folder: Path, dtype: torch.dtype | str) -> tuple[PreTrainedModel, Checkpoint]:
    checkpoint = open_checkpoint(folder, max_length=section.max_length)
    if checkpoint.family.layout not in _TRAINABLE:
        raise UnsupportedModel(
            f"{section.name}: {checkpoint.family.name} checkpoints cannot be trained yet; the trainable kinds are "
            "sequence classifiers and bidirectional decoders"
        )
    is_decoder = checkpoint.family.layout == "bidirectional"
    load = load_bidirectional if is_decoder else load_sequence_classifier
    return load(checkpoint, dtype=dtype), checkpoint


def _is_decoder(folder: Path) -> bool:
    return read_json_object(folder / "config.json").get("model_type") in {*BACKBONES, *BACKBONES.values()}


def _has_head(folder: Path) -> bool:
    """Return whether a folder holds a trained head with one label, or a layout that only `open_checkpoint` reads."""
    if (folder / "modules.json").is_file() or not (folder / "config.json").is_file():
        return True
    config = read_json_object(folder / "config.json")
    if config.get("model_type") in BACKBONES:
        return True
    known = {architecture for family in FAMILIES for architecture in family.architectures}
    has_one_label = len(config.get("id2label") or {}) == 1 or config.get("num_labels") == 1
    return bool(known & set(config.get("architectures") or [])) and has_one_label


def _freeze_embeddings(model: PreTrainedModel) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.requires_grad_(False)
