"""The published layout of bidirectional rerankers, off `config.json` alone: names, poolings, checks. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from crossrank.encoding.template import SequenceTemplate
from crossrank.errors import CheckpointError
from crossrank.models.family import Family

POOLINGS = ("avg", "cls", "last")
# `model_type` of the bidirectional form, and of the body in transformers.
BACKBONES = {
    "llama_bidirec": "llama",
    "mistral_bidirec": "mistral",
    "ministral_bidirec": "ministral",
    "ministral3_bidirec": "ministral3",
    "qwen2_bidirec": "qwen2",
    "qwen3_bidirec": "qwen3",
}
# Source: the model card of nvidia/llama-nemotron-rerank-1b-v2. No space behind the colons.
TEMPLATE = SequenceTemplate(pieces=("question:{query} \n \n passage:{document}",), special_tokens=True)
MAX_LENGTH = 8192


def _family(name: str, *model_types: str, backbone: str, examples: str = "") -> Family:
    return Family(
        name,
        model_types,
        tuple(architecture_of(BACKBONES[model_type]) for model_type in model_types),
        f"{backbone} made bidirectional, with a head{examples}",
        "avg, cls or last (pooling) of the real tokens -> score without bias, in float32 -> / temperature",
        layout="bidirectional",
        pooling=None,
        reads_segments=False,
        template=TEMPLATE,
        max_length=MAX_LENGTH,
        activation="sigmoid",
    )


def architecture_of(native: str) -> str:
    """Return the class name of the bidirectional reranker on a native `model_type`."""
    return f"{native.capitalize()}BidirectionalForSequenceClassification"


BIDIRECTIONAL_FAMILIES = (
    _family(
        "llama_bidirectional",
        "llama_bidirec",
        backbone="Llama",
        examples=", such as nvidia/llama-nemotron-rerank-1b-v2",
    ),
    _family(
        "mistral_bidirectional",
        "mistral_bidirec",
        "ministral_bidirec",
        "ministral3_bidirec",
        backbone="Mistral or Ministral",
    ),
    _family("qwen2_bidirectional", "qwen2_bidirec", backbone="Qwen2"),
    _family("qwen3_bidirectional", "qwen3_bidirec", backbone="Qwen3"),
)


class HeadSettings(NamedTuple):
    """What `config.json` says of the head.

    Attributes:
        pooling: One of `POOLINGS`.
        temperature: The logits are divided by it.
    """

    pooling: str
    temperature: float


def read_head(config: Mapping[str, Any], where: str) -> HeadSettings:
    """Return what `config.json` says of the head, with the defaults of the reference: `"avg"` and 1.

    Raises:
        CheckpointError: If a value is not valid.
    """
    return HeadSettings(
        check_pooling(config.get("pooling", "avg"), where), check_temperature(config.get("temperature", 1.0), where)
    )


def check_pooling(pooling: Any, where: str) -> str:
    """Return a pooling that is known.

    Raises:
        CheckpointError: If it is not: reading another position than in training would give wrong scores in silence.
    """
    if pooling not in POOLINGS:
        raise CheckpointError(f"{where}: pooling must be one of {', '.join(POOLINGS)}, not {pooling!r}")
    return str(pooling)


def check_temperature(temperature: Any, where: str) -> float:
    """Return a temperature that logits can be divided by.

    Raises:
        CheckpointError: If it is no finite number above 0.
    """
    is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not is_number or not 0 < temperature < math.inf:
        raise CheckpointError(f"{where}: temperature must be a number above 0, not {temperature!r}")
    return float(temperature)
