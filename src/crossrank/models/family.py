"""One row of the table of families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crossrank.encoding.template import SequenceTemplate
from crossrank.encoding.visual import VisualPrompt
from crossrank.models.activation import Activation

Layout = Literal[
    "sequence-classification",
    "modular",
    "decoder",
    "causal-lm",
    "seq2seq",
    "layerwise",
    "renamed",
    "bidirectional",
    "nemotron-vl",
    "qwen-vl",
    "native",
]
# Layouts whose head is one logit, whatever `config.json` says of labels.
ONE_LOGIT_LAYOUTS: tuple[Layout, ...] = ("causal-lm", "seq2seq", "layerwise", "nemotron-vl", "qwen-vl")


@dataclass(frozen=True)
class Family:
    """One kind of checkpoint.

    Attributes:
        name: Short name, as `crossrank models` lists it and `family=` takes it.
        model_types: Values of `model_type` in `config.json`; empty where the layout alone decides.
        architectures: Values of `architectures` in `config.json` that hold a scoring head.
        description: One line about the family.
        scoring: How tokens become a logit, in one line.
        layout: Which loader reads it.
        pooling: What the head reads, `"cls"`, `"mean"` or `"last"`; None where the checkpoint's files say it.
        reads_segments: Whether its tokenizer makes `token_type_ids` and its body reads them.
        positions_after_padding: Whether position numbers start behind the padding id, as in RoBERTa.
        pad_token_id: What pads where `config.json` is silent.
        template: Its prompt where a pair is one sequence; None is the pair of the tokenizer.
        answers: The tokens whose logits make the score, the one for relevant first: the score is its logit, minus the
            other's where there are two. A word is looked up in the tokenizer.
        max_length: The limit of its reference, where that is not the tokenizer's.
        activation: Where `config.json` and the rule of sentence-transformers do not decide it.
        visual: How it writes pairs whose documents are images, where it reads any.
        licence: Of the published weights; None where every checkpoint has its own.
        non_commercial: Whether that licence forbids commercial use.
    """

    name: str
    model_types: tuple[str, ...]
    architectures: tuple[str, ...]
    description: str
    scoring: str
    layout: Layout = "sequence-classification"
    pooling: Literal["cls", "mean", "last"] | None = "cls"
    reads_segments: bool = True
    positions_after_padding: bool = False
    pad_token_id: int = 0
    template: SequenceTemplate | None = None
    answers: tuple[str | int, ...] = ()
    max_length: int | None = None
    activation: Activation | None = None
    visual: VisualPrompt | None = None
    licence: str | None = None
    non_commercial: bool = False
