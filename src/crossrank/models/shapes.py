"""The shapes of published rerankers with random weights, to measure time and memory where the weights are not at hand.

Scores of such a checkpoint mean nothing. Texts are cut by the tokenizer of the shipped model, so the number of tokens
is that of an English WordPiece vocabulary.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from crossrank.errors import InputError, MissingExtra
from crossrank.models.checkpoint import open_checkpoint
from crossrank.models.json_files import read_json_object
from crossrank.models.quiet import quiet_transformers

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Shape:
    """What a published `config.json` says of sizes.

    Attributes:
        model_type: Of transformers, for the weights.
        sizes: Of its configuration class.
        dtype: As published.
        published: Keys that `config.json` has beyond the class, for a layout that transformers does not know.
    """

    model_type: str
    sizes: dict[str, Any]
    dtype: str = "float32"
    published: dict[str, Any] = field(default_factory=dict)


def _encoder(model_type: str, layers: int, hidden: int, heads: int, inner: int, vocab: int, **more: Any) -> Shape:
    return Shape(
        model_type,
        {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "intermediate_size": inner,
            "vocab_size": vocab,
            **more,
        },
    )


_XLM_R = {"max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1}
# Source: the config.json of each checkpoint; tests compare the number of parameters with the published one.
SHAPES: dict[str, Shape] = {
    "cross-encoder/ms-marco-TinyBERT-L2-v2": _encoder("bert", 2, 128, 2, 512, 30522),
    "cross-encoder/ms-marco-MiniLM-L2-v2": _encoder("bert", 2, 384, 12, 1536, 30522),
    "cross-encoder/ms-marco-MiniLM-L4-v2": _encoder("bert", 4, 384, 12, 1536, 30522),
    "cross-encoder/ms-marco-MiniLM-L6-v2": _encoder("bert", 6, 384, 12, 1536, 30522),
    "cross-encoder/ms-marco-MiniLM-L12-v2": _encoder("bert", 12, 384, 12, 1536, 30522),
    "BAAI/bge-reranker-base": _encoder("xlm-roberta", 12, 768, 12, 3072, 250002, **_XLM_R),
    "BAAI/bge-reranker-v2-m3": _encoder(
        "xlm-roberta", 24, 1024, 16, 4096, 250002, **(_XLM_R | {"max_position_embeddings": 8194})
    ),
    "Alibaba-NLP/gte-reranker-modernbert-base": _encoder(
        "modernbert", 22, 768, 12, 1152, 50368, max_position_embeddings=8192, classifier_pooling="mean"
    ),
    "nvidia/llama-nemotron-rerank-1b-v2": Shape(
        "llama",
        {
            "num_hidden_layers": 16,
            "hidden_size": 2048,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "intermediate_size": 8192,
            "vocab_size": 128256,
            "max_position_embeddings": 131072,
            "pad_token_id": 0,
        },
        "bfloat16",
        {
            "model_type": "llama_bidirec",
            "architectures": ["LlamaBidirectionalForSequenceClassification"],
            "pooling": "avg",
            "temperature": 1.0,
        },
    ),
}


def write_random_checkpoint(name: str, folder: Path) -> Path:
    """Write a checkpoint of a published shape with random weights and the shipped model's tokenizer.

    Args:
        name: One of `SHAPES`.
        folder: A new folder.

    Raises:
        InputError: If the shape is not known.
        MissingExtra: If torch and transformers are not installed.
    """
    shape = SHAPES.get(name)
    if shape is None:
        raise InputError(f"no shape {name!r}; known are {', '.join(SHAPES)}")
    model = build_random_model(shape)
    with quiet_transformers():
        model.save_pretrained(folder)
    shipped = open_checkpoint(None).folder
    for file in _TOKENIZER_FILES:
        shutil.copyfile(shipped / file, folder / file)
    config = read_json_object(folder / "config.json") | shape.published
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    settings = {"max_length": 512, "provenance": {"recipe": "random weights: its scores mean nothing"}}
    (folder / "crossrank.json").write_text(json.dumps(settings) + "\n", encoding="utf-8")
    return folder


def build_random_model(shape: Shape, *, device: str = "cpu") -> Any:
    """Return the transformers model of a shape with one label; on the device `"meta"` it takes no memory.

    Raises:
        MissingExtra: If torch and transformers are not installed.
    """
    try:
        import torch
        from transformers import AutoConfig, AutoModelForSequenceClassification
    except ImportError as error:
        raise MissingExtra("a checkpoint with random weights", extra="torch") from error
    config = AutoConfig.for_model(shape.model_type, num_labels=1, **shape.sizes)
    with torch.device(device):
        return AutoModelForSequenceClassification.from_config(config, dtype=getattr(torch, shape.dtype))


def count_parameters(config: dict[str, Any]) -> int | None:
    """Return the parameters of a sequence classifier by its `config.json`; None where transformers cannot tell."""
    if find_spec("torch") is None or find_spec("transformers") is None:
        return None
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    try:
        known = AutoConfig.for_model(**config)
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(known)
    except (KeyError, ValueError, TypeError):
        return None
    return sum(int(parameter.numel()) for parameter in model.parameters())
