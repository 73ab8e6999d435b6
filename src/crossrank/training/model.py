"""The model of a recipe, ready to be trained: a reranker of texts or pages, or a body under a fresh head."""

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
from crossrank.models.checkpoint import Checkpoint, describe_checkpoint, open_checkpoint
from crossrank.models.cpu_training import prepare_for_cpu
from crossrank.models.families import FAMILIES
from crossrank.models.first_token import read_first_token_only
from crossrank.models.json_files import read_json_object, read_optional_object
from crossrank.models.locating import find_folder
from crossrank.models.modular_layout import embedding_body
from crossrank.models.nemotron_vl import load_nemotron_vl
from crossrank.models.sequence_classification import load_sequence_classifier, with_float32_head
from crossrank.models.settings import CheckpointSettings
from crossrank.models.tokenizer_files import load_encoder
from crossrank.models.visual_families import NEMOTRON_VL, with_max_tiles
from crossrank.models.weights import load_with_fresh_head
from crossrank.training.batches import Encoder
from crossrank.training.config import ModelSection
from crossrank.training.visual import TrainableVLReranker, make_trainable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TRAINABLE = ("sequence-classification", "bidirectional", "nemotron-vl")


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

    model: PreTrainedModel | TrainableVLReranker
    checkpoint: Checkpoint
    tokenizer_folder: Path
    encoder: Encoder
    fresh: tuple[str, ...]

    @property
    def reads_images(self) -> bool:
        """Whether documents may be images."""
        return self.checkpoint.visual is not None


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
    found = find_folder(section.name, section.revision)
    if _is_visual(found):
        return _load_visual(section, found, dtype, on_cpu=on_cpu)
    _refuse_image_keys(section)
    # An embedding model is a body, too: what it does after its transformer is left out.
    body = embedding_body(found)
    folder, has_head = (body, False) if body else (found, _has_head(found))
    if section.pooling is not None and (has_head or not _is_decoder(folder)):
        raise InputError(f"model.pooling: only a decoder with a fresh head takes one, and {section.name} is none")
    if has_head:
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
    checkpoint = _with_prompt(checkpoint, section)
    return Trainee(model, checkpoint, checkpoint.tokenizer_folder, load_encoder(checkpoint), tuple(fresh))


def _is_visual(folder: Path) -> bool:
    return read_optional_object(folder / "config.json").get("model_type") == NEMOTRON_VL


def _refuse_image_keys(section: ModelSection) -> None:
    for key in ("max_input_tiles", "freeze_vision"):
        if getattr(section, key):
            raise InputError(f"model.{key}: {section.name} reads no images")


def _load_visual(section: ModelSection, folder: Path, dtype: torch.dtype | str, *, on_cpu: bool) -> Trainee:
    """Load a reranker of page images; where its parts were just joined, projector and head are fresh."""
    is_joined = section.vision_tower is not None
    if section.pooling is not None and not is_joined:
        raise InputError(f"model.pooling: {section.name} has a trained head, which states its own")
    checkpoint = open_checkpoint(folder, max_length=section.max_length)
    checkpoint = replace(checkpoint, visual=with_max_tiles(checkpoint.visual, section.max_input_tiles, section.name))
    model = make_trainable(
        load_nemotron_vl(checkpoint, dtype=dtype),
        freeze_vision=section.freeze_vision,
        fresh_projector=is_joined,
        on_cpu=on_cpu,
    )
    if section.freeze_embeddings:
        _freeze_embeddings(model)
    checkpoint = _with_prompt(checkpoint, section)
    fresh = ("score.weight", *(f"mlp1.{name}" for name, _ in model.mlp1.named_parameters())) if is_joined else ()
    return Trainee(model, checkpoint, checkpoint.tokenizer_folder, load_encoder(checkpoint), fresh)


def _with_prompt(checkpoint: Checkpoint, section: ModelSection) -> Checkpoint:
    if section.prompt is None:
        return checkpoint
    settings = checkpoint.settings.model_copy(update={"prompt": PromptTemplate(**section.prompt)})
    return replace(checkpoint, settings=settings)


def _load_reranker(section: ModelSection, folder: Path, dtype: torch.dtype | str) -> tuple[PreTrainedModel, Checkpoint]:
    checkpoint = open_checkpoint(folder, max_length=section.max_length)
    if checkpoint.family.layout not in _TRAINABLE:
        raise UnsupportedModel(
            f"{section.name}: {checkpoint.family.name} checkpoints cannot be trained yet; the trainable kinds are "
            "sequence classifiers, bidirectional decoders, and llama_nemotron_vl"
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


def _freeze_embeddings(model: torch.nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.requires_grad_(False)
