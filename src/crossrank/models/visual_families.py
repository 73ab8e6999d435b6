"""Families that read images: their prompts, and how `config.json` says what an image becomes. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from crossrank.encoding.patches import Patching
from crossrank.encoding.template import SequenceTemplate
from crossrank.encoding.tiles import Tiling
from crossrank.encoding.visual import ENDING_PIECE, IMAGE_PIECE, VisualFormat, VisualLimits, VisualPrompt
from crossrank.errors import CheckpointError, InputError, UnsupportedModel
from crossrank.models.family import Family
from crossrank.models.json_files import read_optional_object
from crossrank.models.settings import VisionSettings

NEMOTRON_VL = "llama_nemotron_vl_rerank"
# The bi-encoder on the same towers.
NEMOTRON_VL_EMBEDDING = "llama_nemotron_vl"
# Source: the model cards of nvidia/llama-nemotron-rerank-vl-1b-v2 and -embed-vl-1b-v2, by what a document holds.
NEMOTRON_LIMITS = VisualLimits(text=8192, image=2048, image_text=10240)
_NEMOTRON_TILES = 6
# Before, for and behind an image.
IMAGE_TOKENS = ("<img>", "<IMG_CONTEXT>", "</img>")
_NEMOTRON_TEXT = SequenceTemplate(("question:{query} \n \n passage:{document}",), special_tokens=True)
_NEMOTRON = VisualPrompt(
    text=_NEMOTRON_TEXT,
    image=replace(_NEMOTRON_TEXT, pieces=(IMAGE_PIECE, " question:{query} \n \n passage:{document}")),
    image_tokens=IMAGE_TOKENS,
)
# What the reference writes where `prompt_template` is not "v1".
_NEMOTRON_PLAIN_TEXT = replace(_NEMOTRON_TEXT, pieces=("{query} \n {document}",))
_NEMOTRON_PLAIN = replace(
    _NEMOTRON,
    text=_NEMOTRON_PLAIN_TEXT,
    image=replace(_NEMOTRON_TEXT, pieces=(IMAGE_PIECE, " {query} \n {document}")),
)

_QWEN_TOKENS = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
_QWEN_RESERVED = ("<|video_pad|>",)
# Source: the remote code of jinaai/jina-reranker-m0: the document first, and one more token that is read.
_JINA_M0 = VisualPrompt(
    text=SequenceTemplate(("**Document**:\n{document}\n**Query**:\n{query}", ENDING_PIECE)),
    image=SequenceTemplate(("**Document**:\n", IMAGE_PIECE, "{document}\n**Query**:\n{query}", ENDING_PIECE)),
    image_tokens=_QWEN_TOKENS,
    reads_both=False,
    reserved=_QWEN_RESERVED,
    ending=(100,),
    query_tokens=512,
)
# Source: the model card of lightonai/MonoQwen2-VL-v0.1, through the chat template of Qwen2-VL.
_MONOQWEN = VisualPrompt(
    text=None,
    image=SequenceTemplate(
        (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
            IMAGE_PIECE,
            "{document}",
            "Assert the relevance of the previous image document to the following query, answer True or False. "
            "The query is: {query}<|im_end|>\n<|im_start|>assistant\n",
        )
    ),
    image_tokens=_QWEN_TOKENS,
    reads_both=False,
    reserved=_QWEN_RESERVED,
)
# Source: QwenLM/Qwen3-VL-Embedding, qwen3_vl_reranker.py. No newline between the instruction and `<Query>:`.
_QWEN3_VL_HEAD = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: {instruction}<Query>:{query}\n<Document>:"
)
_QWEN3_VL_TAIL = "<|im_end|>\n<|im_start|>assistant\n"
_QWEN3_VL_TEXT = SequenceTemplate(
    (_QWEN3_VL_HEAD + "{document}", _QWEN3_VL_TAIL),
    without_instruction="Given a search query, retrieve relevant candidates that answer the query.",
)
_QWEN3_VL = VisualPrompt(
    text=_QWEN3_VL_TEXT,
    image=replace(_QWEN3_VL_TEXT, pieces=(_QWEN3_VL_HEAD, IMAGE_PIECE, "{document}", _QWEN3_VL_TAIL)),
    image_tokens=_QWEN_TOKENS,
    reserved=_QWEN_RESERVED,
    empty_document="NULL",
)
# Pixels of the resized image: least and most.
_JINA_M0_PIXELS = (3136, 768 * 28 * 28)
_QWEN3_VL_PIXELS = (4 * 32 * 32, 1800 * 32 * 32)
_QWEN2_VL_PIXELS = (56 * 56, 28 * 28 * 1280)  # where preprocessor_config.json is silent


def _family(name: str, architecture: str, description: str, scoring: str, visual: VisualPrompt, **more: Any) -> Family:
    stated: dict[str, Any] = {"layout": "qwen-vl", "pooling": "last", "activation": "sigmoid"} | more
    return Family(
        name, stated.pop("model_types", ()), (architecture,), description, scoring,
        reads_segments=False, template=visual.text, visual=visual, **stated,
    )  # fmt: skip


VISUAL_FAMILIES = (
    _family(
        "llama_nemotron_vl",
        "LlamaNemotronVLForSequenceClassification",
        "SigLIP and a bidirectional Llama, such as nvidia/llama-nemotron-rerank-vl-1b-v2: text, images, or both",
        "avg, cls or last (pooling) of the real tokens -> score in float32 -> / temperature",
        _NEMOTRON,
        model_types=(NEMOTRON_VL,),
        layout="nemotron-vl",
        pooling=None,
        max_length=NEMOTRON_LIMITS.text,
        activation="identity",
        licence="NVIDIA Open Model License, Llama 3.2",
    ),
    _family(
        "jina_reranker_m0",
        "JinaVLForRanking",
        "jina-reranker-m0 on Qwen2-VL: text or images",
        "last position (token 100) -> dense, relu -> dense -> - 2.65",
        _JINA_M0,
        max_length=10240,
        licence="CC-BY-NC-4.0",
        non_commercial=True,
    ),
    _family(
        "monoqwen2_vl",
        "Qwen2VLForConditionalGeneration",
        "MonoQwen2-VL-v0.1, a LoRA adapter on Qwen2-VL: images",
        "last position -> logit(True) - logit(False)",
        _MONOQWEN,
        answers=("True", "False"),
        licence="Apache-2.0",
    ),
    _family(
        "qwen3_vl_reranker",
        "Qwen3VLForConditionalGeneration",
        "Qwen3-VL-Reranker: text, images, or both",
        "last position -> logit(yes) - logit(no)",
        _QWEN3_VL,
        answers=("yes", "no"),
        # The reference cuts to 10240 and puts the last five tokens back.
        max_length=10240 + 5,
        licence="Apache-2.0",
    ),
)


JINA_M0 = VISUAL_FAMILIES[1]
QWEN3_VL = VISUAL_FAMILIES[-1]


_CHECKPOINTS = {
    "llama_nemotron_vl": "nvidia/llama-nemotron-rerank-vl-1b-v2",
    "jina_reranker_m0": "jinaai/jina-reranker-m0",
    "monoqwen2_vl": "lightonai/MonoQwen2-VL-v0.1",
    "qwen3_vl_reranker": "Qwen/Qwen3-VL-Reranker-2B",
}


def image_families() -> str:
    """Return the families that read images, each with a checkpoint on the hub, for errors."""
    return ", ".join(f"{family.name} ({_CHECKPOINTS[family.name]})" for family in VISUAL_FAMILIES)


def read_visual_format(
    family: Family,
    config: Mapping[str, Any],
    folder: Path,
    settings: VisionSettings,
    *,
    max_length: int,
    is_asked: bool,
    where: str,
) -> VisualFormat | None:
    """Return how a checkpoint reads images; None for a family that does not.

    Args:
        family: Of the checkpoint.
        config: `config.json`.
        folder: Holds `preprocessor_config.json` and `processor_config.json`, where there are any.
        settings: The part `vision` of `crossrank.json`.
        max_length: Most tokens of a pair of texts.
        is_asked: Whether the caller gave it; it then holds for every kind of document.
        where: The checkpoint, for errors.

    Raises:
        CheckpointError: If a value is missing or not valid.
        UnsupportedModel: If the images are prepared in a way that is not known.
    """
    if family.visual is None:
        return None
    limits = VisualLimits(max_length, max_length, max_length)
    if family.layout == "nemotron-vl":
        if not is_asked:
            image = settings.max_length_image or NEMOTRON_LIMITS.image
            both = settings.max_length_image_text or NEMOTRON_LIMITS.image_text
            positions = (config.get("llm_config") or {}).get("max_position_embeddings") or max(image, both)
            limits = VisualLimits(max_length, min(image, positions), min(both, positions))
        processor = read_optional_object(folder / "processor_config.json")
        version = processor.get("prompt_template", config.get("prompt_template"))
        prompt = _NEMOTRON if version == "v1" else _NEMOTRON_PLAIN
        return VisualFormat(
            prompt, limits, nemotron_tiling(config, settings, where), config.get("img_context_token_id")
        )
    slot_id = config.get("image_token_id")
    return VisualFormat(family.visual, limits, _qwen_patching(family, config, folder, settings, where), slot_id)


def with_max_tiles(visual: VisualFormat | None, max_input_tiles: int | None, where: str) -> VisualFormat | None:
    """Return a format with another number of tiles; None keeps the checkpoint's.

    Raises:
        InputError: If it is no number above 0, or the checkpoint does not cut images into tiles.
    """
    if max_input_tiles is None:
        return visual
    if visual is None or not isinstance(visual.sizing, Tiling):
        raise InputError(f"{where} does not cut images into tiles: leave max_input_tiles out")
    if isinstance(max_input_tiles, bool) or not isinstance(max_input_tiles, int) or not 1 <= max_input_tiles <= 64:
        raise InputError(f"max_input_tiles must be a whole number from 1 to 64, not {max_input_tiles!r}")
    return replace(visual, sizing=replace(visual.sizing, max_tiles=max_input_tiles))


def nemotron_tiling(config: Mapping[str, Any], settings: VisionSettings, where: str) -> Tiling:
    """Return how a llama_nemotron_vl_rerank checkpoint cuts images.

    Raises:
        CheckpointError: If `config.json` lacks a part or a number does not fit.
        UnsupportedModel: If its pixel shuffle is of an older version.
    """
    vision = config.get("vision_config")
    if not isinstance(vision, dict) or not isinstance(config.get("llm_config"), dict):
        raise CheckpointError(f"{where}: config.json must hold vision_config and llm_config")
    if config.get("ps_version", "v2") != "v2":
        raise UnsupportedModel(f"{where}: ps_version {config['ps_version']!r} is not known, only 'v2'")
    side = config.get("force_image_size") or vision.get("image_size")
    patch, ratio = vision.get("patch_size"), config.get("downsample_ratio", 0.5)
    fits = isinstance(side, int) and isinstance(patch, int) and ratio == 0.5 and side % (2 * patch) == 0
    if not fits:
        raise CheckpointError(
            f"{where}: config.json: tiles of {side!r} pixels in patches of {patch!r} cannot be merged by "
            f"downsample_ratio={ratio!r}: only 0.5, of an even number of patches, is known"
        )
    assert isinstance(side, int) and isinstance(patch, int)
    dynamic = config.get("dynamic_image_size", True)
    thumbnail = config.get("use_thumbnail", True) if settings.use_thumbnail is None else settings.use_thumbnail
    max_tiles = (settings.max_input_tiles or _NEMOTRON_TILES) if dynamic else 1
    return Tiling(side, (side // patch // 2) ** 2, max_tiles, bool(thumbnail))


def _qwen_patching(
    family: Family, config: Mapping[str, Any], folder: Path, settings: VisionSettings, where: str
) -> Patching:
    vision = config.get("vision_config")
    if not isinstance(vision, dict):
        raise CheckpointError(f"{where}: config.json must hold vision_config")
    processor = read_optional_object(folder / "preprocessor_config.json")
    default_patch = 16 if family.name == "qwen3_vl_reranker" else 14
    patch = processor.get("patch_size") or vision.get("patch_size") or default_patch
    merge = processor.get("merge_size") or vision.get("spatial_merge_size") or 2
    if family.name == "jina_reranker_m0":
        least, most = _JINA_M0_PIXELS
    elif family.name == "qwen3_vl_reranker":
        least, most = _QWEN3_VL_PIXELS
    else:
        size = processor.get("size") or {}
        least = processor.get("min_pixels") or size.get("shortest_edge") or _QWEN2_VL_PIXELS[0]
        most = processor.get("max_pixels") or size.get("longest_edge") or _QWEN2_VL_PIXELS[1]
    most = settings.max_pixels or most
    return Patching(patch * merge, min(least, most), most, as_qwen_utils=family.name == "qwen3_vl_reranker")
