"""A SigLIP tower and a Llama joined by a fresh projector: a reranker of page images, ready to be trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer, SiglipVisionConfig, SiglipVisionModel

from crossrank.errors import CheckpointError, InputError, UnsupportedModel
from crossrank.models.bidirectional import bidirectional_config, make_bidirectional
from crossrank.models.bidirectional_layout import POOLINGS, HeadSettings
from crossrank.models.json_files import read_json_object
from crossrank.models.nemotron_vl import NemotronVLReranker
from crossrank.models.saving import save_visual
from crossrank.models.sequence_classification import Float32Linear
from crossrank.models.settings import CheckpointSettings, VisionSettings
from crossrank.models.visual_families import IMAGE_TOKENS, NEMOTRON_VL, nemotron_tiling
from crossrank.models.weights import find_weight_files, load_from_tensors, load_pretrained

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_INNER = "vision_model."
# The attention pooler of SigLIP, which nothing reads here, and a buffer that older versions saved.
_UNREAD = ("head.", "embeddings.position_ids")
# As the published checkpoint was trained.
_MAX_INPUT_TILES = 4


def join_parts(
    folder: Path, *, language: Path, vision: Path, pooling: str = "avg", temperature: float = 1.0, seed: int = 42
) -> Path:
    """Write a checkpoint in the layout of nvidia/llama-nemotron-rerank-vl-1b-v2 whose projector and head are fresh.

    Both towers keep the bits and the precision of their files; the attention pooler of SigLIP is left out. The
    vocabulary gets the three image tokens, whose vectors start as the mean of all. The projector is drawn as torch
    draws linear layers, the head from a normal distribution with the language model's `initializer_range`; the same
    seed gives the same numbers on every machine.

    Args:
        folder: What is written.
        language: The folder of a Llama, as it is published or without `lm_head`.
        vision: The folder of a SigLIP or SigLIP 2 of one image size, or of its vision tower alone.
        pooling: What the head reads: `"avg"`, `"cls"` or `"last"`.
        temperature: The logits are divided by it.
        seed: Of projector and head.

    Raises:
        InputError: If an option cannot be used, or the folder holds something other than a checkpoint.
        UnsupportedModel: If a part is of another kind.
        CheckpointError: If a part is broken.
    """
    if pooling not in POOLINGS:
        raise InputError(f"pooling must be one of {', '.join(POOLINGS)}, not {pooling!r}")
    tower = _load_tower(vision)
    body, tokenizer = _load_language(language)
    slot_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKENS[1])
    config = _joined_config(body, tower, slot_id, pooling, temperature, tokenizer)
    tiling = nemotron_tiling(config, VisionSettings(), str(vision))  # raises where the tower does not fit
    model = NemotronVLReranker(
        body,
        tower,
        _fresh_projector(4 * tower.config.hidden_size, body.config.hidden_size, seed).to(tower.dtype),
        _fresh_head(body.config, seed),
        head=HeadSettings(pooling, temperature),
        slot_id=slot_id,
    )
    settings = CheckpointSettings(untrained_head=True, vision=VisionSettings(max_input_tiles=_MAX_INPUT_TILES))
    processor = {"num_image_token": tiling.tokens_per_tile, "prompt_template": "v1"}
    return save_visual(folder, model=model, config=config, tokenizer=tokenizer, processor=processor, settings=settings)


def _load_tower(folder: Path) -> PreTrainedModel:
    """Return the vision tower, without its pooler, in evaluation mode."""
    from safetensors import safe_open

    stated = read_json_object(folder / "config.json")
    kind = stated.get("model_type")
    if kind not in ("siglip", "siglip_vision_model"):
        raise UnsupportedModel(
            f"{folder}: a {kind} model is no vision tower that can be joined: give a SigLIP, or a SigLIP 2 of one "
            "image size such as google/siglip2-so400m-patch16-512 (not naflex)"
        )
    config = SiglipVisionConfig.from_dict(stated["vision_config"] if kind == "siglip" else stated)
    config.vision_use_head = False
    tensors: dict[str, torch.Tensor] = {}
    for path in find_weight_files(folder):
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if kind != "siglip" or name.startswith(_INNER)]  # noqa: SIM118
            tensors |= {name.removeprefix(_INNER): file.get_tensor(name) for name in names}
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(_UNREAD)}
    if not tensors:
        raise CheckpointError(f"{folder}: the weights of the vision tower are missing; download the file again")
    dtype = next(iter(tensors.values())).dtype
    return load_from_tensors(SiglipVisionModel, config, tensors, dtype=dtype, where=str(folder))


def _load_language(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the bidirectional body and its tokenizer, both with the image tokens."""
    config = bidirectional_config(folder, str(folder))
    if config.model_type != "llama":
        raise UnsupportedModel(
            f"{folder}: a {config.model_type} model cannot be joined with a vision tower, only Llama"
        )
    body = load_pretrained(AutoModel, folder, dtype="auto", where=str(folder), config=config)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    tokenizer.add_tokens(list(IMAGE_TOKENS), special_tokens=True)
    added = tokenizer.convert_tokens_to_ids(list(IMAGE_TOKENS))
    table = body.get_input_embeddings().weight.detach()
    num_new = max(len(table), max(added) + 1)
    mean = table.float().mean(0).to(table.dtype)
    grown = torch.cat([table, mean.expand(num_new - len(table), -1)])
    grown[added] = mean  # where the table had rows to spare, too
    body.set_input_embeddings(nn.Embedding(num_new, grown.shape[1], _weight=grown))
    body.config.vocab_size = num_new
    return make_bidirectional(body), tokenizer


def _joined_config(
    body: PreTrainedModel,
    tower: PreTrainedModel,
    slot_id: int,
    pooling: str,
    temperature: float,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    pad = next((value for value in (tokenizer.pad_token_id, tokenizer.eos_token_id) if value is not None), 0)
    language = body.config.to_dict() | {
        "model_type": "llama_bidirec",
        "architectures": ["LlamaBidirectionalModel"],
        "pooling": pooling,
        "pad_token_id": pad,
    }
    return {
        "model_type": NEMOTRON_VL,
        "architectures": ["LlamaNemotronVLForSequenceClassification"],
        "vision_config": _plain(tower.config.to_dict()),
        "llm_config": _plain(language),
        "pooling": pooling,
        "temperature": temperature,
        "prompt_template": "v1",
        "template": "bidirectional-llama-retriever",
        "ps_version": "v2",
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "max_input_tiles": _MAX_INPUT_TILES,
        "force_image_size": tower.config.image_size,
        "downsample_ratio": 0.5,
        "select_layer": -1,
        "img_context_token_id": slot_id,
        "pad_token_id": pad,
        "num_labels": 1,
    }


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_") and key != "transformers_version"}


def _fresh_projector(width: int, hidden: int, seed: int) -> nn.Sequential:
    """Return LayerNorm, Linear, GELU, Linear of the published projector, float32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))


def _fresh_head(config: Any, seed: int) -> nn.Linear:
    head = Float32Linear(config.hidden_size, 1, bias=False)
    with torch.no_grad():
        head.weight.normal_(0, config.initializer_range, generator=torch.Generator().manual_seed(seed))
    return head
