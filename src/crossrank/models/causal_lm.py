"""Causal language models as rerankers: the last real position against one or two rows of a head.

Shape letters: `B` pairs of one batch, `T` tokens of the longest, `H` hidden, `A` answer tokens (1 or 2), `L` labels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from crossrank.models.answers import answer_ids
from crossrank.models.checkpoint import Checkpoint
from crossrank.models.lora_base import merge_adapter
from crossrank.models.sequence_classification import Float32Linear
from crossrank.models.weights import load_pretrained


class AnswerHead(nn.Module):
    """The rows of `lm_head` that score: the logit of one answer, or the log-odds of two, in float32.

    Args:
        rows_AH: The row of the relevant answer, then that of the other where there is one.
    """

    rows_AH: Tensor

    def __init__(self, rows_AH: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows_AH", rows_AH.detach().float().clone())

    def forward(self, hidden_BH: Tensor) -> Tensor:
        """Return scores, float32 `(B, 1)`."""
        logits_BA = F.linear(hidden_BH.float(), self.rows_AH)
        return logits_BA if logits_BA.shape[1] == 1 else logits_BA[:, :1] - logits_BA[:, 1:]


class LastTokenScorer(nn.Module):
    """A causal body whose last real position goes through a head; no other position does.

    Args:
        body: A decoder of transformers, without its `lm_head`.
        head: `(B, H)` to float32 logits `(B, L)`.
    """

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits, float32 `(B, L)`, for int64 inputs `(B, T)` that are padded on either side."""
        positions = {}
        if not bool(attention_mask[:, 0].all()):  # on the right, padding lies where causal attention never looks
            position_ids = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
            positions = {"attention_mask": attention_mask, "position_ids": position_ids}
        hidden_BTH: Tensor = self.body(input_ids=input_ids, use_cache=False, **positions).last_hidden_state
        return self.head(take_last(hidden_BTH, attention_mask))  # type: ignore[no-any-return]


def take_last(hidden_BTH: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the vector of the last real position of each row, `(B, H)`."""
    places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    last = (attention_mask * places).argmax(dim=1)
    return hidden_BTH[torch.arange(len(last), device=last.device), last]


def load_causal_lm(checkpoint: Checkpoint, *, dtype: torch.dtype) -> LastTokenScorer:
    """Load a causal language model that answers, in evaluation mode; its vocabulary head is not kept.

    A LoRA adapter is merged into the weights below it.

    Raises:
        CheckpointError: If its weights are missing, damaged or of another model, or an answer is not in its vocabulary.
    """
    model = load_pretrained(AutoModelForCausalLM, checkpoint.transformer_folder, dtype=dtype, where=checkpoint.name)
    if checkpoint.base_folder:
        model = merge_adapter(model, checkpoint.folder, checkpoint.name)
    rows_AH = model.get_output_embeddings().weight[answer_ids(checkpoint)]
    return LastTokenScorer(model.model, AnswerHead(rows_AH)).eval()


def load_decoder_classifier(checkpoint: Checkpoint, *, dtype: torch.dtype) -> LastTokenScorer:
    """Load a causal language model with a classification head, in evaluation mode.

    Unlike in transformers, where padding is told by the padding id, a padding token that is typed into a document
    counts as text.

    Raises:
        CheckpointError: If its weights are missing, damaged or of another model.
    """
    folder = checkpoint.transformer_folder
    model = load_pretrained(AutoModelForSequenceClassification, folder, dtype=dtype, where=checkpoint.name)
    model.score.__class__ = Float32Linear
    return LastTokenScorer(model.model, model.score).eval()
