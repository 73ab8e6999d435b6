"""The torch module of every layout that is not a plain classifier of transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from crossrank.models.checkpoint import Checkpoint


def load_scorer(checkpoint: Checkpoint, *, dtype: torch.dtype) -> torch.nn.Module:
    """Load the scorer of a checkpoint in evaluation mode: it gives float32 logits `(B, L)` for padded batches.

    Raises:
        CheckpointError: If its weights are missing, damaged or of another model.
    """
    match checkpoint.family.layout:
        case "modular":
            from crossrank.models.modular import load_modular

            return load_modular(checkpoint, dtype=dtype)
        case "bidirectional":
            from crossrank.models.bidirectional import load_bidirectional

            bidirectional: torch.nn.Module = load_bidirectional(checkpoint, dtype=dtype)
            return bidirectional
        case "native":
            from crossrank.models.native_classifier import load_native_classifier

            return load_native_classifier(checkpoint, dtype=dtype)
        case "causal-lm":
            from crossrank.models.causal_lm import load_causal_lm

            return load_causal_lm(checkpoint, dtype=dtype)
        case "decoder":
            from crossrank.models.causal_lm import load_decoder_classifier

            return load_decoder_classifier(checkpoint, dtype=dtype)
        case "layerwise":
            from crossrank.models.layerwise import load_layerwise

            return load_layerwise(checkpoint, dtype=dtype)
        case "nemotron-vl":
            from crossrank.models.nemotron_vl import load_nemotron_vl

            visual: torch.nn.Module = load_nemotron_vl(checkpoint, dtype=dtype)
            return visual
        case "qwen-vl":
            from crossrank.models.qwen_vl import load_qwen_vl

            return load_qwen_vl(checkpoint, dtype=dtype)
        case "seq2seq":
            from crossrank.models.seq2seq import load_seq2seq

            return load_seq2seq(checkpoint, dtype=dtype)
    raise AssertionError(f"no scorer for the layout {checkpoint.family.layout!r}")
