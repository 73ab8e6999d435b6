"""The table of supported families, and how a native classifier finds its own: from `config.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from crossrank.errors import CheckpointError, UnsupportedModel
from crossrank.models.bidirectional_layout import BACKBONES, BIDIRECTIONAL_FAMILIES
from crossrank.models.family import Family
from crossrank.models.language_model_families import LANGUAGE_MODEL_FAMILIES, LANGUAGE_MODEL_SUFFIXES
from crossrank.models.visual_families import VISUAL_FAMILIES

FAMILIES: tuple[Family, ...] = (
    Family(
        "modular",
        (),
        (),
        "sentence-transformers modules (modules.json), such as the ettin rerankers",
        "body -> Pooling -> Dense (LayerNorm, Normalize), as modules.json lists them",
        layout="modular",
        pooling=None,
    ),
    Family(
        "bert",
        ("bert",),
        ("BertForSequenceClassification",),
        "BERT and MiniLM, such as the ms-marco MiniLM cross-encoders",
        "[CLS] -> pooler (dense, tanh) -> classifier",
    ),
    Family(
        "roberta",
        ("roberta", "camembert"),
        ("RobertaForSequenceClassification", "CamembertForSequenceClassification"),
        "RoBERTa and CamemBERT",
        "<s> -> dense, tanh -> out_proj",
        reads_segments=False,
        positions_after_padding=True,
        pad_token_id=1,
    ),
    Family(
        "xlm-roberta",
        ("xlm-roberta", "xlm-roberta-xl"),
        ("XLMRobertaForSequenceClassification", "XLMRobertaXLForSequenceClassification"),
        "XLM-RoBERTa, such as the multilingual bge-reranker models",
        "<s> -> dense, tanh -> out_proj",
        reads_segments=False,
        positions_after_padding=True,
        pad_token_id=1,
    ),
    Family(
        "deberta",
        ("deberta-v2", "deberta"),
        ("DebertaV2ForSequenceClassification", "DebertaForSequenceClassification"),
        "DeBERTa v1 to v3, such as the first mxbai-rerank models",
        "[CLS] -> context pooler (dense, activation) -> classifier",
    ),
    Family(
        "electra",
        ("electra",),
        ("ElectraForSequenceClassification",),
        "ELECTRA",
        "[CLS] -> dense, gelu -> out_proj",
    ),
    Family(
        "modernbert",
        ("modernbert",),
        ("ModernBertForSequenceClassification",),
        "ModernBERT, such as gte-reranker-modernbert",
        "[CLS] or mean (classifier_pooling) -> dense, gelu, LayerNorm -> classifier",
        pooling=None,
        reads_segments=False,
    ),
    Family(
        "mpnet",
        ("mpnet",),
        ("MPNetForSequenceClassification",),
        "MPNet",
        "<s> -> dense, tanh -> out_proj",
        reads_segments=False,
        positions_after_padding=True,
        pad_token_id=1,
    ),
    Family(
        "distilbert",
        ("distilbert",),
        ("DistilBertForSequenceClassification",),
        "DistilBERT",
        "[CLS] -> dense, relu -> classifier",
        reads_segments=False,
    ),
    Family(
        "albert",
        ("albert",),
        ("AlbertForSequenceClassification",),
        "ALBERT",
        "[CLS] -> pooler (dense, tanh) -> classifier",
    ),
    Family(
        "ernie",
        ("ernie",),
        ("ErnieForSequenceClassification",),
        "ERNIE",
        "[CLS] -> pooler (dense, tanh) -> classifier",
    ),
    Family(
        "nomic-bert",
        ("nomic_bert",),
        ("NomicBertForSequenceClassification",),
        "NomicBERT, in the layout that transformers has natively",
        "[CLS] -> pooler (dense, tanh) -> classifier",
    ),
    Family(
        "gte",
        ("gte",),
        ("GteForSequenceClassification",),
        "GTE multilingual, in the layout that transformers has natively",
        "<s> -> pooler (dense, tanh) -> classifier",
        reads_segments=False,
        pad_token_id=1,
    ),
    Family(
        "decoder",
        ("gemma", "llama", "mistral", "qwen2", "qwen3"),
        (
            "GemmaForSequenceClassification",
            "LlamaForSequenceClassification",
            "MistralForSequenceClassification",
            "Qwen2ForSequenceClassification",
            "Qwen3ForSequenceClassification",
        ),
        "causal language models with a classification head and native attention; the plain pair of the tokenizer",
        "last real token -> score",
        layout="decoder",
        pooling="last",
        reads_segments=False,
    ),
    *LANGUAGE_MODEL_FAMILIES,
    *BIDIRECTIONAL_FAMILIES,
    *VISUAL_FAMILIES,
    Family(
        "native",
        (),
        (),
        "any other sequence classifier that the installed transformers has, with the attention it has there",
        "as AutoModelForSequenceClassification computes it",
        layout="native",
        pooling=None,
    ),
)

_HEAD_SUFFIX = "ForSequenceClassification"


def resolve_family(config: Mapping[str, Any], *, modular: bool, where: str) -> Family:
    """Return the family of a checkpoint.

    Args:
        config: `config.json` of the transformer.
        modular: Whether `modules.json` lists more than the transformer itself.
        where: The checkpoint, for errors.

    Raises:
        CheckpointError: If the checkpoint has a body of a known family but no scoring head.
        UnsupportedModel: If no family fits.
    """
    model_type, architectures = config.get("model_type"), architectures_of(config, where)
    family = next((family for family in FAMILIES if model_type in family.model_types), None)
    if family is None:
        family = _native(model_type, architectures, config)
    if family is None:
        raise _unsupported(model_type, architectures, config, where)
    if modular:
        return _modular_on(family)
    if architectures and family.layout != "native" and not set(architectures) & set(family.architectures):
        raise _no_head(model_type, architectures, where)
    return family


def _native(model_type: Any, architectures: Sequence[str], config: Mapping[str, Any]) -> Family | None:
    """The fallback, for a class outside the table that transformers has and that `config.json` names."""
    if not any(name.endswith(_HEAD_SUFFIX) for name in architectures) or find_spec("transformers") is None:
        return None
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    if MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.get(str(model_type)) not in architectures:
        return None
    native = next(family for family in FAMILIES if family.layout == "native")
    end = config.get("eos_token_id")
    return replace(
        native,
        reads_segments=isinstance(config.get("type_vocab_size"), int),
        pad_token_id=end if isinstance(end, int) else native.pad_token_id,
    )


def _modular_on(body: Family) -> Family:
    """The modular family, reading its tokens as the family of the body does."""
    modular = next(family for family in FAMILIES if family.layout == "modular")
    return replace(
        modular,
        reads_segments=body.reads_segments,
        positions_after_padding=body.positions_after_padding,
        pad_token_id=body.pad_token_id,
    )


def architectures_of(config: Mapping[str, Any], where: str) -> Sequence[str]:
    """Return the class names of `config.json`.

    Raises:
        CheckpointError: If they are not a list of names.
    """
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(name, str) for name in architectures):
        raise CheckpointError(f"{where}: config.json: architectures must be a list of names, not {architectures!r}")
    return architectures


def _no_head(model_type: Any, architectures: Sequence[str], where: str) -> CheckpointError:
    name = ", ".join(architectures)
    if any(architecture.endswith(_HEAD_SUFFIX) for architecture in architectures):
        return UnsupportedModel(f"{where}: config.json names {name}, which is not a class of model_type {model_type!r}")
    remedy = "give a checkpoint that was trained for sequence classification"
    if model_type in BACKBONES.values():
        remedy += ", or put a fresh head on this one with Reranker.from_backbone, and train it"
    return CheckpointError(
        f"{where}: not a cross-encoder: {name} has no scoring head, so every score would be random; {remedy}"
        f"{_language_models(architectures)}"
    )


def _unsupported(
    model_type: Any, architectures: Sequence[str], config: Mapping[str, Any], where: str
) -> UnsupportedModel:
    known = ", ".join(sorted(name for family in FAMILIES for name in family.model_types))
    kind = f"model_type {model_type!r}" + (f" ({', '.join(architectures)})" if architectures else "")
    if "auto_map" in config:
        return UnsupportedModel(
            f"{where}: {kind} needs Python code from the checkpoint (auto_map), and crossrank never runs code from a "
            f"checkpoint; use one of a native kind: {known}{_language_models(architectures)}"
        )
    return UnsupportedModel(
        f"{where}: {kind} is not supported; supported: {known}, and modular sentence-transformers"
        f"{_language_models(architectures)}"
    )


def _language_models(architectures: Sequence[str]) -> str:
    """Name the families of language models, for one that is of none of their classes."""
    if not any(name.endswith(LANGUAGE_MODEL_SUFFIXES) for name in architectures):
        return ""
    return f"; language models that answer without a head: {', '.join(f.name for f in LANGUAGE_MODEL_FAMILIES)}"
