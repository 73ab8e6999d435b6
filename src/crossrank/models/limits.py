"""How much of a pair a checkpoint reads, and how many of its layers: what is asked for, stated, or possible."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossrank.errors import CheckpointError, InputError
from crossrank.models.family import Family
from crossrank.models.json_files import read_optional_object, whole_number
from crossrank.models.settings import CheckpointSettings

# Tokenizers without a limit say so with a huge number.
_SANE_MAX_LENGTH = 1_000_000
_FALLBACK_MAX_LENGTH = 512


def choose_max_length(
    asked: int | None,
    settings: CheckpointSettings,
    config: Mapping[str, Any],
    tokenizer_config: Mapping[str, Any],
    folder: Path,
    family: Family,
    name: str,
) -> int:
    """Return the most tokens of a pair: what is asked for, or the least of what files, family and positions say.

    Raises:
        InputError: If what is asked for is no number, or more than the model has positions.
    """
    positions = _num_positions(config, family)
    if asked is not None:
        if isinstance(asked, bool) or not isinstance(asked, int) or asked < 1:
            raise InputError(f"max_length must be a whole number above 0, not {asked!r}")
        if positions is not None and asked > positions:
            raise InputError(f"max_length={asked} is more than the {positions} positions of {name}")
        return asked
    sentence_bert = read_optional_object(folder / "sentence_bert_config.json")
    stated = (
        settings.max_length
        or family.max_length
        or _sane_length(sentence_bert.get("max_seq_length"))
        or _sane_length(tokenizer_config.get("model_max_length"))
    )
    limits = [limit for limit in (stated, positions) if limit is not None]
    return min(limits, default=_FALLBACK_MAX_LENGTH)


def choose_cutoff_layer(
    asked: int | None, settings: CheckpointSettings, family: Family, config: Mapping[str, Any], name: str
) -> int | None:
    """Return how many layers are computed where the family has a head behind each; None where it has one head.

    Raises:
        InputError: If the layer that is asked for has no head.
        CheckpointError: If `config.json` does not say which layers have one.
    """
    asked = settings.cutoff_layer if asked is None else asked
    if family.layout != "layerwise":
        if asked is not None:
            raise InputError(f"{name}: {family.name} has one head, behind its last layer: leave cutoff_layer out")
        return None
    first, last = config.get("start_layer"), config.get("num_hidden_layers")
    if not isinstance(first, int) or not isinstance(last, int) or not config.get("head_multi"):
        raise CheckpointError(f"{name}: config.json must state start_layer, num_hidden_layers and head_multi: true")
    depth = last if asked is None else asked
    if isinstance(depth, bool) or not isinstance(depth, int) or not first <= depth <= last:
        raise InputError(f"cutoff_layer must be a layer of {name} with a head, {first} to {last}, not {depth!r}")
    return depth


def _num_positions(config: Mapping[str, Any], family: Family) -> int | None:
    language = config.get("llm_config") or config.get("text_config") or {}
    positions = _sane_length(config.get("max_position_embeddings", language.get("max_position_embeddings")))
    if positions is None or not family.positions_after_padding:
        return positions
    return positions - whole_number(config.get("pad_token_id"), family.pad_token_id) - 1


def _sane_length(value: Any) -> int | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and 0 < value < _SANE_MAX_LENGTH else None
