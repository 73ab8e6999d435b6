"""Rerankers on Qwen2-VL and Qwen3-VL: the last real position against a head or the rows of two answers.

The bodies are transformers' own. Shape letters: `B` pairs of one batch, `T` tokens of the longest, `H` hidden, `P`
patches of all images, `D` numbers of a patch.

Source: jinaai/jina-reranker-m0, lightonai/MonoQwen2-VL-v0.1 and QwenLM/Qwen3-VL-Embedding, restated from descriptions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, Qwen2VLModel

from crossrank.encoding.pairs import VisualInput
from crossrank.encoding.pixels import read_pixels
from crossrank.errors import CheckpointError
from crossrank.models.answers import answer_ids
from crossrank.models.causal_lm import AnswerHead, take_last
from crossrank.models.checkpoint import Checkpoint
from crossrank.models.json_files import read_optional_object
from crossrank.models.lora_base import merge_renamed_adapter
from crossrank.models.sequence_classification import Float32Linear
from crossrank.models.tokenizer_files import slot_id_of
from crossrank.models.weights import find_weight_files, load_config, load_from_tensors, load_pretrained

# Source: jinaai/jina-reranker-m0; its probability is the sigmoid of the rest.
JINA_M0_SHIFT = 2.65
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALVES = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class PatchSettings:
    """How pixels become patches.

    Attributes:
        patch: Pixels of a side.
        merge: Patches of a side that become one token.
        frames: How often an image is repeated, as a video of so many frames.
        mean: Of each colour, subtracted.
        std: Of each colour, divided by.
    """

    patch: int
    merge: int
    frames: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class QwenVLReranker(nn.Module):
    """A body of Qwen2-VL or Qwen3-VL whose last real position goes through a head.

    Args:
        body: Without its `lm_head`.
        head: `(B, H)` to float32 logits `(B, 1)`.
        slot_id: The token that stands for an image.
        patches: How pixels become patches.
    """

    def __init__(self, body: nn.Module, head: nn.Module, *, slot_id: int, patches: PatchSettings) -> None:
        super().__init__()
        self.body: Any = body
        self.head = head
        self.slot_id = slot_id
        self.patches = patches

    def forward(self, input_ids: Tensor, attention_mask: Tensor, images: Sequence[VisualInput | None] = ()) -> Tensor:
        """Return logits, float32 `(B, 1)`, for int64 inputs `(B, T)` that are padded on the right.

        Args:
            input_ids: int64 `(B, T)`.
            attention_mask: `(B, T)`, 0 where there is padding.
            images: Those of the pairs; pairs without one may be left out or be None.

        Raises:
            InputError: If an image cannot be read; names its document.
        """
        shown = [image for image in images if image is not None]
        inputs = self._image_inputs(shown, input_ids) if shown else {}
        states = self.body(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **inputs)
        logits: Tensor = self.head(take_last(states.last_hidden_state, attention_mask))
        return logits

    def _image_inputs(self, images: Sequence[VisualInput], input_ids: Tensor) -> dict[str, Tensor]:
        pixels = read_pixels(images, num_threads=torch.get_num_threads())
        patched = [to_patches(each, self.patches) for each in pixels]
        return {
            "pixel_values": torch.cat([patches for patches, _ in patched]).to(input_ids.device),
            "image_grid_thw": torch.tensor([[1, *grid] for _, grid in patched], device=input_ids.device),
            "mm_token_type_ids": (input_ids == self.slot_id).int(),
        }


def to_patches(pixels: npt.NDArray[np.uint8], settings: PatchSettings) -> tuple[Tensor, tuple[int, int]]:
    """Return the patches of an image, float32 `(P, D)`, square by square of those that become one token, and its grid.

    Args:
        pixels: uint8 RGB `(height, width, 3)`, of whole squares.
        settings: Of the checkpoint.

    Source: the image processor of Qwen2-VL in transformers.
    """
    size, merge = settings.patch, settings.merge
    rows, columns = pixels.shape[0] // size, pixels.shape[1] // size
    scaled = torch.from_numpy(pixels.astype(np.float32) * np.float32(1 / 255))
    image = ((scaled - torch.tensor(settings.mean)) / torch.tensor(settings.std)).permute(2, 0, 1)
    squares = image.reshape(3, rows // merge, merge, size, columns // merge, merge, size)
    squares = squares.permute(1, 4, 2, 5, 0, 3, 6).unsqueeze(5)
    squares = squares.expand(*squares.shape[:5], settings.frames, *squares.shape[6:])
    return squares.reshape(rows * columns, -1), (rows, columns)


def load_qwen_vl(checkpoint: Checkpoint, *, dtype: torch.dtype) -> QwenVLReranker:
    """Load such a checkpoint in evaluation mode; its Python files are not read.

    Raises:
        CheckpointError: If its weights are missing, damaged or of another model.
    """
    is_jina = checkpoint.family.name == "jina_reranker_m0"
    body, head = _load_jina_m0(checkpoint, dtype) if is_jina else _load_answering(checkpoint, dtype)
    return QwenVLReranker(body, head, slot_id=slot_id_of(checkpoint), patches=read_patch_settings(checkpoint)).eval()


def read_patch_settings(checkpoint: Checkpoint) -> PatchSettings:
    """Return how `preprocessor_config.json` and `config.json` say that pixels become patches."""
    stated = read_optional_object(checkpoint.transformer_folder / "preprocessor_config.json")
    vision, is_third = checkpoint.config["vision_config"], checkpoint.family.name == "qwen3_vl_reranker"
    patch = stated.get("patch_size") or vision.get("patch_size") or (16 if is_third else 14)
    merge = stated.get("merge_size") or vision.get("spatial_merge_size") or 2
    frames = stated.get("temporal_patch_size") or vision.get("temporal_patch_size") or 2
    mean = stated.get("image_mean") or (_HALVES if is_third else _CLIP_MEAN)
    std = stated.get("image_std") or (_HALVES if is_third else _CLIP_STD)
    return PatchSettings(patch, merge, frames, tuple(mean), tuple(std))


class JinaM0Head(nn.Module):
    """Dense, ReLU, dense, in float32, less the shift behind which probabilities begin.

    Args:
        tensors: `0.weight`, `0.bias`, `2.weight`, `2.bias`.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        hidden, width = tensors["0.weight"].shape
        self.layers = nn.Sequential(Float32Linear(width, hidden), nn.ReLU(), Float32Linear(hidden, 1))
        self.layers.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})

    def forward(self, hidden_BH: Tensor) -> Tensor:
        """Return logits, float32 `(B, 1)`."""
        scores: Tensor = self.layers(hidden_BH) - JINA_M0_SHIFT
        return scores


def _load_jina_m0(checkpoint: Checkpoint, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    where, folder = checkpoint.name, checkpoint.transformer_folder
    tensors: dict[str, Tensor] = {}
    for file in find_weight_files(folder):
        tensors |= load_file(file)
    score = {name.removeprefix("score."): tensors[name] for name in list(tensors) if name.startswith("score.")}
    body = {
        _native_name(name): tensor for name, tensor in tensors.items() if not name.startswith(("score.", "lm_head."))
    }
    try:
        head = JinaM0Head(score)
    except (KeyError, ValueError, RuntimeError):
        raise CheckpointError(
            f"{where}: the scoring head needs score.0 and score.2, each with weight and bias that fit; the file has "
            f"{', '.join(sorted(score)) or 'none'}"
        ) from None
    model = load_from_tensors(Qwen2VLModel, load_config(folder, where), body, dtype=dtype, where=where)
    return model, head


def _native_name(name: str) -> str:
    """Return the name of a weight in `Qwen2VLModel`, of a file from before transformers 4.52 or after."""
    for start, native in (
        ("model.visual.", "visual."),
        ("model.language_model.", "language_model."),
        ("model.", "language_model."),
    ):
        if name.startswith(start):
            return native + name.removeprefix(start)
    return name


def _load_answering(checkpoint: Checkpoint, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    where, folder = checkpoint.name, checkpoint.transformer_folder
    model = load_pretrained(AutoModelForImageTextToText, folder, dtype=dtype, where=where)
    if checkpoint.base_folder is not None:
        model = merge_renamed_adapter(model, checkpoint.folder, where, rename=_native_adapter_name)
    rows_AH = model.get_output_embeddings().weight[answer_ids(checkpoint)]
    return model.model, AnswerHead(rows_AH)


def _native_adapter_name(name: str) -> str:
    """Return the name of an adapter's weight with the layers one level deeper, as since transformers 4.52."""
    old, new = "base_model.model.model.layers.", "base_model.model.model.language_model.layers."
    return new + name.removeprefix(old) if name.startswith(old) else name
