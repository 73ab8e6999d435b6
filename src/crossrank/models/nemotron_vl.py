"""SigLIP, a pixel shuffle, a projector and a bidirectional Llama: page images and text in one sequence, one logit.

The towers are transformers' own. Shape letters: `B` pairs of one batch, `T` tokens of the longest, `H` hidden of the
language model, `N` tiles, `P` patches of a tile, `C` channels of the vision tower, `K` image tokens.

Source: nvidia/llama-nemotron-rerank-vl-1b-v2, restated from the description of its forward pass.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel, PreTrainedModel, SiglipVisionConfig, SiglipVisionModel

from crossrank.encoding.pairs import VisualInput
from crossrank.encoding.pixels import read_pixels
from crossrank.errors import CheckpointError, UnsupportedModel
from crossrank.models.bidirectional import encode, make_bidirectional, pool
from crossrank.models.bidirectional_layout import HeadSettings, check_pooling, check_temperature
from crossrank.models.checkpoint import Checkpoint
from crossrank.models.locating import find_folder
from crossrank.models.lora_base import base_of_adapter, merge_adapter
from crossrank.models.sequence_classification import Float32Linear
from crossrank.models.tokenizer_files import slot_id_of
from crossrank.models.vision_cache import VisionCache
from crossrank.models.weights import find_weight_files, load_from_tensors

# Tiles that go through the vision tower at once.
_MAX_TILES = 64
# Features of a page of seven tiles take 7 MB in bfloat16 and 14 in float32.
_CACHE_BYTES = 2**30
_SHARD_SIZE = "5GB"
# Of the published file; a reranker has "model." before all but its head.
_LANGUAGE, _VISION, _PROJECTOR, _HEAD = "language_model.", "vision_model.", "mlp1.", "score."
_INNER_VISION = "vision_model."
# Of a reranker: how names start here, and in the published file.
_STARTS = {part: f"model.{part}" for part in (_LANGUAGE, _PROJECTOR)} | {_VISION: f"model.{_VISION}{_INNER_VISION}"}
_LLM_CLASSES = ("LlamaBidirectionalModel", "LlamaBidirectionalForSequenceClassification")


class NemotronVLBody(nn.Module):
    """The towers of such a checkpoint, and what joins them; may be trained as it is.

    Args:
        language_model: Bidirectional, from `make_bidirectional`.
        vision_model: A SigLIP tower.
        mlp1: The projector.
        slot_id: The token whose vectors the image gives.
        select_layer: Of the vision tower; -1 is behind its last normalisation.
        cache_bytes: What the features of the last images may take.
    """

    def __init__(
        self,
        language_model: nn.Module,
        vision_model: nn.Module,
        mlp1: nn.Sequential,
        *,
        slot_id: int,
        select_layer: int = -1,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        super().__init__()
        self.language_model: Any = language_model
        self.vision_model: Any = vision_model
        self.mlp1 = mlp1
        self.slot_id = slot_id
        self.select_layer = select_layer
        self.cache = VisionCache(cache_bytes)

    def encode(self, input_ids: Tensor, attention_mask: Tensor, images: Sequence[VisualInput | None] = ()) -> Tensor:
        """Return the last hidden states `(B, T, H)`.

        Args:
            input_ids: int64 `(B, T)`.
            attention_mask: `(B, T)`, 0 where there is padding, on either side.
            images: Those of the rows; rows without one may be left out or be None.

        Raises:
            InputError: If an image cannot be read; names its document.
        """
        embeds_BTH = self.language_model.embed_tokens(input_ids)
        shown = [image for image in images if image is not None]
        if shown:
            embeds_BTH = self._insert(embeds_BTH, input_ids, torch.cat(self.encode_images(shown)))
        return encode(self.language_model, None, attention_mask, inputs_embeds=embeds_BTH)

    def encode_images(self, images: Sequence[VisualInput]) -> list[Tensor]:
        """Return the image tokens of each image, `(K, H)`; while nothing is trained, each image is encoded once."""
        if torch.is_grad_enabled():
            return self._encode_fresh(list(images))
        return self.cache.features(images, self._encode_fresh)

    def project(self, pixel_values: Tensor) -> Tensor:
        """Return the image tokens of tiles, `(N, K, H)`, of pixels `(N, 3, S, S)` from -1 to 1."""
        if self.select_layer == -1:
            hidden_NPC = self.vision_model(pixel_values=pixel_values).last_hidden_state
        else:
            states = self.vision_model(pixel_values=pixel_values, output_hidden_states=True).hidden_states
            hidden_NPC = states[self.select_layer]
        features: Tensor = self.mlp1(pixel_shuffle(hidden_NPC))
        return features

    def _encode_fresh(self, images: list[VisualInput]) -> list[Tensor]:
        """Encode images, the tiles of several together."""
        tiles = read_pixels(images, num_threads=torch.get_num_threads())
        batches = torch.split(torch.from_numpy(np.concatenate(tiles)), _MAX_TILES)
        features = torch.cat([self.project(self._normalise(batch)) for batch in batches])
        return [part.flatten(0, 1) for part in torch.split(features, [len(part) for part in tiles])]

    def _normalise(self, tiles: Tensor) -> Tensor:
        weight = next(self.vision_model.parameters())
        return normalise_pixels(tiles.to(weight.device)).to(weight.dtype)

    def _insert(self, embeds_BTH: Tensor, input_ids: Tensor, features_KH: Tensor) -> Tensor:
        """Put the image tokens where their slots are, in reading order."""
        is_slot_BT = input_ids == self.slot_id
        assert int(is_slot_BT.sum()) == len(features_KH), "as many slots as image tokens"
        return embeds_BTH.masked_scatter(is_slot_BT.unsqueeze(-1), features_KH.to(embeds_BTH.dtype))


class NemotronVLReranker(NemotronVLBody):
    """The network of llama_nemotron_vl_rerank checkpoints; may be trained as it is.

    Args:
        language_model: As of `NemotronVLBody`.
        vision_model: As there.
        mlp1: As there.
        score: The head, float32.
        head: Pooling and temperature.
        slot_id: As there.
        select_layer: As there.
    """

    def __init__(
        self,
        language_model: nn.Module,
        vision_model: nn.Module,
        mlp1: nn.Sequential,
        score: nn.Linear,
        *,
        head: HeadSettings,
        slot_id: int,
        select_layer: int = -1,
    ) -> None:
        super().__init__(language_model, vision_model, mlp1, slot_id=slot_id, select_layer=select_layer)
        self.score = score
        self.head = head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, images: Sequence[VisualInput | None] = ()) -> Tensor:
        """Return logits, float32 `(B, 1)`; the arguments are those of `encode`.

        Raises:
            InputError: If an image cannot be read; names its document.
        """
        pooled_BH = pool(self.encode(input_ids, attention_mask, images), attention_mask, self.head.pooling)
        logits_BL: Tensor = self.score(pooled_BH) / self.head.temperature
        return logits_BL


def normalise_pixels(tiles: Tensor | npt.NDArray[np.uint8]) -> Tensor:
    """Return pixels from -1 to 1, bfloat16 `(N, 3, S, S)`, of uint8 tiles `(N, S, S, 3)`.

    They are rounded to bfloat16 under a float32 model too: so the checkpoint was trained and published.
    """
    channels_first = torch.as_tensor(tiles).permute(0, 3, 1, 2)
    # In place: fresh memory for each step costs more than the arithmetic.
    pixels = channels_first.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    return pixels.sub_(0.5).div_(0.5).bfloat16()


def pixel_shuffle(hidden_NPC: Tensor) -> Tensor:
    """Merge each square of two by two patches into one of four times the channels: `(N, P, C)` to `(N, P/4, 4C)`."""
    n, num_patches, channels = hidden_NPC.shape
    side = int(num_patches**0.5)
    x = hidden_NPC.reshape(n, side, side // 2, 2 * channels).permute(0, 2, 1, 3).contiguous()
    x = x.view(n, side // 2, side // 2, 4 * channels).permute(0, 2, 1, 3)
    return x.reshape(n, num_patches // 4, 4 * channels)


def load_nemotron_vl(checkpoint: Checkpoint, *, dtype: torch.dtype | str) -> NemotronVLReranker:
    """Load such a checkpoint in evaluation mode; its Python files are not read.

    Args:
        checkpoint: Of the layout `"nemotron-vl"`.
        dtype: Of the weights in memory, but for the head, which is float32; `"auto"` keeps the file's.

    Raises:
        CheckpointError: If its weights are missing, damaged or of another model.
        UnsupportedModel: If its language model is not a bidirectional Llama.
    """
    where, config = checkpoint.name, checkpoint.config
    base = base_of_adapter(checkpoint.folder)
    if base is not None:
        below = load_nemotron_vl(replace(checkpoint, folder=find_folder(*base)), dtype=dtype)
        merged: Any = merge_adapter(below, checkpoint.folder, where)
        return cast(NemotronVLReranker, merged)
    tensors = read_tensors(checkpoint.folder)
    head = _load_head(_take(tensors, _HEAD), where)
    model = NemotronVLReranker(
        *load_towers(tensors, config, dtype=dtype, where=where),
        head,
        head=HeadSettings(
            check_pooling(config.get("pooling", "last"), where),
            check_temperature(config.get("temperature", 1.0), where),
        ),
        slot_id=slot_id_of(checkpoint),
        select_layer=config.get("select_layer", -1),
    )
    return model.eval()


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the weights of a folder by the names of its files.

    Raises:
        CheckpointError: If they are missing or damaged.
    """
    tensors: dict[str, Tensor] = {}
    for file in find_weight_files(folder):
        tensors |= load_file(file)
    return tensors


def load_towers(
    tensors: dict[str, Tensor],
    config: Mapping[str, Any],
    *,
    start: str = "model.",
    dtype: torch.dtype | str,
    where: str,
) -> tuple[PreTrainedModel, PreTrainedModel, nn.Sequential]:
    """Return language model, vision tower and projector, in evaluation mode.

    Args:
        tensors: The weights but for those of a head; they are taken out of it.
        config: `config.json`.
        start: What stands before the names of all parts.
        dtype: Of the weights in memory; `"auto"` keeps the file's.
        where: The checkpoint, for errors.

    Raises:
        CheckpointError: If weights are missing, superfluous or of a wrong shape.
        UnsupportedModel: If the language model is not a bidirectional Llama.
    """
    language, vision, projector = (_take(tensors, start + part) for part in (_LANGUAGE, _VISION, _PROJECTOR))
    if tensors:
        raise CheckpointError(f"{where}: the file holds weights that no part has a place for: {sorted(tensors)[:4]}")
    vision = {name.removeprefix(_INNER_VISION): tensor for name, tensor in vision.items()}
    vision_config = SiglipVisionConfig.from_dict(_without_type(config["vision_config"]))
    vision_config.vision_use_head = any(name.startswith("head.") for name in vision)
    return (
        make_bidirectional(_load(LlamaModel, _language_config(config, where), language, dtype, where)),
        _load(SiglipVisionModel, vision_config, vision, dtype, where),
        _load_projector(projector, dtype, where),
    )


def nemotron_vl_tensors(model: NemotronVLReranker) -> dict[str, Tensor]:
    """Return the weights under the names of the published file."""
    return {_renamed(name, _STARTS): tensor.contiguous() for name, tensor in model.state_dict().items()}


def fill_nemotron_vl(model: NemotronVLReranker, tensors: Mapping[str, Tensor]) -> None:
    """Put weights that `nemotron_vl_tensors` named into a model of the same shape."""
    starts = {published: own for own, published in _STARTS.items()}
    model.load_state_dict({_renamed(name, starts): tensor for name, tensor in tensors.items()})


def _renamed(name: str, starts: Mapping[str, str]) -> str:
    start = next((start for start in starts if name.startswith(start)), "")
    return starts.get(start, "") + name.removeprefix(start)


def write_nemotron_vl(folder: Path, model: NemotronVLReranker, config: Mapping[str, Any]) -> None:
    """Write weights and `config.json` in the published layout; `nemotron_vl_layout.py` completes the folder."""
    from huggingface_hub import save_torch_state_dict

    save_torch_state_dict(nemotron_vl_tensors(model), folder, max_shard_size=_SHARD_SIZE)
    write_config(folder, config)


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write `config.json` without the classes that need remote code."""
    own = {key: value for key, value in config.items() if key != "auto_map"}
    (folder / "config.json").write_text(json.dumps(own, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _take(tensors: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    names = [name for name in tensors if name.startswith(start)]
    return {name.removeprefix(start): tensors.pop(name) for name in names}


def _load(model_class: Any, config: Any, tensors: Mapping[str, Tensor], dtype: torch.dtype | str, where: str) -> Any:
    if not tensors:
        raise CheckpointError(f"{where}: the weights of {model_class.__name__} are missing; download the file again")
    return load_from_tensors(model_class, config, tensors, dtype=_precision(tensors, dtype), where=where)


def _precision(tensors: Mapping[str, Tensor], dtype: torch.dtype | str) -> torch.dtype:
    return dtype if isinstance(dtype, torch.dtype) else next(iter(tensors.values())).dtype


def _load_projector(tensors: Mapping[str, Tensor], dtype: torch.dtype | str, where: str) -> nn.Sequential:
    """Return LayerNorm, Linear, GELU, Linear, of the sizes of their weights."""
    names = {f"{i}.{kind}" for i in (0, 1, 3) for kind in ("weight", "bias")}
    if set(tensors) != names:
        odd = ", ".join(sorted(names ^ set(tensors)))
        raise CheckpointError(f"{where}: the projector mlp1 lacks weights, or has too many ({odd})")
    width, hidden = tensors["0.weight"].shape[0], tensors["1.weight"].shape[0]
    mlp1 = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))
    try:
        mlp1.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise CheckpointError(f"{where}: the weights of the projector mlp1 do not fit: {error}") from None
    return mlp1.to(_precision(tensors, dtype))


def _load_head(tensors: Mapping[str, Tensor], where: str) -> nn.Linear:
    weight = tensors.get("weight")
    if weight is None or set(tensors) != {"weight"} or weight.ndim != 2 or len(weight) != 1:
        raise CheckpointError(
            f"{where}: the scoring head score.weight is missing or not of shape (1, H), so every score would be random"
        )
    score = Float32Linear(weight.shape[1], 1, bias=False)
    score.weight.data = weight.float()
    return score


def _language_config(config: Mapping[str, Any], where: str) -> LlamaConfig:
    stated = config["llm_config"]
    known = set(stated.get("architectures") or _LLM_CLASSES) & set(_LLM_CLASSES)
    if not known or not config.get("bidirectional_attention", True):
        raise UnsupportedModel(f"{where}: the language model {stated.get('architectures')} is no bidirectional Llama")
    language = LlamaConfig.from_dict(_without_type(stated))
    for key in HeadSettings._fields:  # not the body's
        language.__dict__.pop(key, None)
    language.is_causal = False
    return language


def _without_type(stated: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stated.items() if key not in ("model_type", "auto_map", "architectures")}
