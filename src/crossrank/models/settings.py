"""`crossrank.json`: what a checkpoint says of itself beyond `config.json`. Strict: an unknown key is an error.

A complete file:

    {
      "format_version": 1,
      "family": "monot5",
      "prompt": {"query": "{query}", "document": "{title} {text}"},
      "template": {"pieces": ["Query: {query} Document: {document} Relevant:"], "special_tokens": true},
      "max_length": 512,
      "pooling": "cls",
      "temperature": 1.0,
      "activation": "sigmoid",
      "calibration": {"method": "platt", "slope": 1.2, "intercept": -0.3},
      "fusion": {"method": "zscore", "weight": 0.6},
      "cpu": {"weights": "int8"},
      "provenance": {"recipe": "...", "data": ["..."], "metrics": {}}
    }

Every key may be left out; a folder without the file has all defaults.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crossrank.encoding.prompt import PromptTemplate
from crossrank.encoding.template import SequenceTemplate
from crossrank.errors import CheckpointError

SETTINGS_FILE = "crossrank.json"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Calibration(_Section):
    """How a logit becomes a probability: `sigmoid(slope * logit + intercept)`.

    Attributes:
        method: How it was fitted: `"platt"`, or `"temperature"` with an intercept of 0.
        slope: Above 0, so that the order of the scores is kept.
        intercept: The shift, on the scale of logits.

    Source: Platt, "Probabilistic outputs for support vector machines" (1999).
    """

    method: Literal["platt", "temperature"] = "platt"
    slope: float = Field(gt=0)
    intercept: float


class Fusion(_Section):
    """How first-stage scores are best combined with the scores of this checkpoint.

    Attributes:
        method: `"zscore"` or `"minmax"` normalise both score lists of a query; `"rrf"` adds reciprocal ranks.
        weight: Share of the reranker, 0 to 1; the first stage has the rest.
    """

    method: Literal["zscore", "minmax", "rrf"]
    weight: float = Field(ge=0, le=1)


# Where a checkpoint has none: both sides count the same.
DEFAULT_FUSION = Fusion(method="zscore", weight=0.5)


class CpuForm(BaseModel):
    """What the OpenVINO file of the folder holds.

    Attributes:
        weights: `"float32"`, or `"int8"` for weight-only compression (the arithmetic stays in floating point).

    Further keys are the exporter's own record, such as how far the scores moved.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    weights: Literal["float32", "int8"]


class VisionSettings(_Section):
    """How images are read, where that is not as the family was published.

    Attributes:
        max_input_tiles: Most tiles of an image, the thumbnail not counted.
        use_thumbnail: Whether the whole image follows its tiles as one more.
        max_pixels: Most pixels of an image, for families that read it at about its own size.
        max_length_image: Most tokens of a pair whose document is an image.
        max_length_image_text: Most tokens of a pair whose document is an image and a text.
    """

    max_input_tiles: int | None = Field(default=None, ge=1, le=64)
    use_thumbnail: bool | None = None
    max_pixels: int | None = Field(default=None, ge=1)
    max_length_image: int | None = Field(default=None, ge=8)
    max_length_image_text: int | None = Field(default=None, ge=8)


class CheckpointSettings(_Section):
    """The content of `crossrank.json`.

    Attributes:
        format_version: Of this file; 1.
        family: The row in the table of families; None leaves it to the checkpoint's other files.
        prompt: The texts of query and document; as they are unless stated.
        template: The sequence that holds both; None leaves it to the family: for most the plain pair of the tokenizer.
        max_length: Most tokens of a pair, special tokens included; None leaves it to the tokenizer and the model.
        pooling: Which position the head reads, `"cls"`, `"mean"` or `"last"`, or `"avg"` as bidirectional decoders name
            the mean; None leaves it to the model's own files. A value that contradicts them is an error.
        cutoff_layer: How many layers are computed, for families with a head behind each; None is all.
        temperature: The raw logits of the network are divided by it before anything else reads them.
        activation: What makes a probability of a logit, `"sigmoid"` or `"identity"`; None leaves it to the rule of
            sentence-transformers.
        calibration: A fitted alternative to `activation`, or None.
        fusion: How to combine first-stage scores with this checkpoint's, or None where it was not fitted.
        cpu: What the OpenVINO file holds, or None where there is none.
        vision: How images are read, for a model that reads them; None is as its family was published.
        untrained_head: Whether the head is fresh, so that scores would be random until it is trained.
        provenance: Where the weights come from (recipe, data, metrics); free form, never read by the library.
    """

    format_version: Literal[1] = 1
    family: str | None = None
    prompt: PromptTemplate = PromptTemplate()
    template: SequenceTemplate | None = None
    max_length: int | None = Field(default=None, ge=8)
    pooling: Literal["cls", "mean", "avg", "last"] | None = None
    cutoff_layer: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    activation: Literal["sigmoid", "identity"] | None = None
    calibration: Calibration | None = None
    fusion: Fusion | None = None
    cpu: CpuForm | None = None
    vision: VisionSettings | None = None
    untrained_head: bool = False
    provenance: dict[str, Any] = Field(default_factory=dict)


def read_settings(folder: Path) -> CheckpointSettings:
    """Read `crossrank.json` of a checkpoint folder; all defaults where there is none.

    Raises:
        CheckpointError: If the file is not valid; names the file and every wrong key.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return CheckpointSettings()
    try:
        return CheckpointSettings.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise CheckpointError(f"{path}: {_problems(error)}") from None


def write_settings(folder: Path, settings: CheckpointSettings) -> Path:
    """Write `crossrank.json` into a folder and return its path.

    The file is replaced in one step: a reader sees the old content or the new one, never a part.

    Raises:
        CheckpointError: If the settings hold a value that JSON has no form for.
    """
    path = folder / SETTINGS_FILE
    stated = {key: value for key, value in settings.model_dump().items() if value is not None}
    try:
        text = json.dumps(stated, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: provenance cannot be written as JSON: {error}") from None
    temporary = path.with_name(f".{SETTINGS_FILE}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _problems(error: ValidationError) -> str:
    """One line for every wrong key: where it stands and what is wrong."""
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            lines.append(f"unknown key {key!r}")
        else:
            lines.append(f"{key}: {problem['msg']}" if key else problem["msg"])
    return "; ".join(lines)
