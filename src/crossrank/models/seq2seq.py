"""Encoder-decoder rerankers: one step of the decoder, scored by two words of its vocabulary.

Shape letters: `B` pairs of one batch, `T` tokens of the longest, `H` hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM

from crossrank.models.answers import answer_ids
from crossrank.models.causal_lm import AnswerHead
from crossrank.models.checkpoint import Checkpoint
from crossrank.models.weights import load_pretrained


class FirstStepScorer(nn.Module):
    """The hidden state that would choose the first word of an answer, through the rows of the two words.

    Args:
        encoder: Reads the pair.
        decoder: Makes one step.
        head: `(B, H)` to float32 scores `(B, 1)`.
        start_id: What every answer starts with.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, head: nn.Module, *, start_id: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.head = head
        self.start_id = start_id

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return scores, float32 `(B, 1)`, for int64 inputs `(B, T)`."""
        encoded_BTH: Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        output = self.decoder(
            input_ids=input_ids.new_full((len(input_ids), 1), self.start_id),
            encoder_hidden_states=encoded_BTH,
            encoder_attention_mask=attention_mask,
            use_cache=False,
        )
        return self.head(output.last_hidden_state[:, -1])  # type: ignore[no-any-return]


def load_seq2seq(checkpoint: Checkpoint, *, dtype: torch.dtype) -> FirstStepScorer:
    """Load a model of the T5 kind in evaluation mode; its vocabulary head is not kept.

    Raises:
        CheckpointError: If its weights are missing, damaged or of another model, or an answer is not in its vocabulary.

    Source: Nogueira et al., "Document Ranking with a Pretrained Sequence-to-Sequence Model" (2020).
    """
    model = load_pretrained(AutoModelForSeq2SeqLM, checkpoint.transformer_folder, dtype=dtype, where=checkpoint.name)
    rows_AH = model.lm_head.weight[answer_ids(checkpoint)].float()
    # T5 with one matrix for words in and out scales what comes out; v1.1 and mT5 do not.
    if getattr(model.config, "scale_decoder_outputs", False):
        rows_AH = rows_AH * model.config.d_model**-0.5
    start_id = model.config.decoder_start_token_id
    return FirstStepScorer(model.encoder, model.decoder, AnswerHead(rows_AH), start_id=start_id).eval()
