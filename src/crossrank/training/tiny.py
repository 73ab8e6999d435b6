"""Tiny models with random weights, made on the spot from the training texts, to try a recipe in a minute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from crossrank.errors import InputError
from crossrank.models.quiet import quiet_transformers
from crossrank.training.batches import Groups

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TINY = "tiny:"
_SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
_POSITIONS = 512
# Pixels of a tile of the vision tower, and of its patches: 16 tokens a tile.
_TILE, _PATCH = 64, 8
_KINDS = ("bert", "modernbert", "llama", "siglip", "nemotron_vl")
_VOCABULARY, _GROUPS_READ = 2000, 200
_PAD, _UNKNOWN, _FIRST, _END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"


def build_tiny_model(name: str, folder: Path, groups: Groups) -> Path:
    """Write a small body without a scoring head, with a tokenizer trained on the groups, and return its folder.

    Args:
        name: `tiny:bert`, `tiny:modernbert` or `tiny:llama`; `tiny:siglip`, a vision tower without a tokenizer, or
            `tiny:nemotron_vl`, which joins the last two under a projector and a head that are fresh.
        folder: What is written.
        groups: The texts.

    Raises:
        InputError: If there is no such kind.
    """
    from transformers import AutoModel, PretrainedConfig, set_seed

    kind = name.removeprefix(TINY)
    if kind not in _KINDS:
        raise InputError(f"model {name!r}: there are {', '.join(TINY + known for known in _KINDS)}")
    if kind == "siglip":
        return _build_tower(folder)
    if kind == "nemotron_vl":
        return _build_joined(folder, groups)
    tokenizer = _train_tokenizer(groups, is_decoder=kind == "llama", has_segments=kind == "bert")
    set_seed(0)
    config: PretrainedConfig = _config(kind, tokenizer)
    with quiet_transformers():
        AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _build_tower(folder: Path) -> Path:
    from transformers import SiglipVisionConfig, SiglipVisionModel, set_seed

    set_seed(0)
    config = SiglipVisionConfig(image_size=_TILE, patch_size=_PATCH, vision_use_head=False, **_SIZES)
    with quiet_transformers():
        SiglipVisionModel(config).save_pretrained(folder)
    return folder


def _build_joined(folder: Path, groups: Groups) -> Path:
    from crossrank.models.parts import join_parts

    with TemporaryDirectory(dir=folder.parent) as temporary:
        language, vision = (
            build_tiny_model(TINY + kind, Path(temporary, kind), groups) for kind in ("llama", "siglip")
        )
        return join_parts(folder, language=language, vision=vision)


def _config(kind: str, tokenizer: PreTrainedTokenizerBase) -> Any:
    from transformers import AutoConfig

    special: dict[str, Any] = {"pad_token_id": tokenizer.pad_token_id}
    if kind == "modernbert":
        first, end = tokenizer.convert_tokens_to_ids([_FIRST, _END])
        special |= {"cls_token_id": first, "sep_token_id": end, "bos_token_id": first, "eos_token_id": end}
    if kind == "llama":
        special |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), max_position_embeddings=_POSITIONS, **_SIZES, **special
    )


def _train_tokenizer(groups: Groups, *, is_decoder: bool, has_segments: bool) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE: with the frame of a text pair for encoders, with a first token alone for decoders."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = [_PAD, _UNKNOWN, _FIRST, _END]
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(groups), trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in (_FIRST, _END)]
    single, pair = f"{_FIRST} $A {_END}", f"{_FIRST} $A {_END} $B:1 {_END}:1"
    if is_decoder:
        single, pair = f"{_FIRST} $A", f"{_FIRST} $A $B"
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    roles = {"bos_token": _FIRST, "eos_token": _END} if is_decoder else {"cls_token": _FIRST, "sep_token": _END}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        unk_token=_UNKNOWN,
        model_max_length=_POSITIONS,
        model_input_names=["input_ids", *["token_type_ids"] * has_segments, "attention_mask"],
        **roles,
    )


def _texts(groups: Groups) -> Iterator[str]:
    for index in range(min(len(groups), _GROUPS_READ)):
        group = groups.sample(index, epoch=0)
        yield group.query
        yield from (document.text for document in group.documents)
