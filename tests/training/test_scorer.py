"""Scores in blocks equal those of transformers, pair by pair, with the same gradients; also where one layer is cut."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from crossrank.models.checkpoint import load_encoder, open_checkpoint
from crossrank.models.first_token import read_first_token_only
from crossrank.training.batches import Collator
from crossrank.training.scorer import BlockScorer

FIRST_TOKEN = ("bert", "electra", "roberta", "xlm-roberta", "camembert")


@pytest.mark.parametrize("kind", [*FIRST_TOKEN, "deberta-v2", "modernbert"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_scores_and_gradients_are_those_of_transformers(kind, attention, tiny_checkpoint, hard_pairs) -> None:
    if (kind, attention) == ("deberta-v2", "sdpa"):
        pytest.skip("transformers has no fused attention for it")
    folder = tiny_checkpoint(kind)
    plain = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(
        *([pair[side] for pair in hard_pairs] for side in (0, 1)),
        truncation="only_second",
        max_length=128,
        padding=True,
        return_tensors="pt",
    )
    expected = plain(**inputs).logits.view(-1)
    expected.square().sum().backward()

    cut = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention
    ).eval()
    assert read_first_token_only(cut) == (kind in FIRST_TOKEN)
    checkpoint = open_checkpoint(folder)
    collator = Collator(
        load_encoder(checkpoint),
        checkpoint.pad_token_id,
        uses_segments=checkpoint.uses_segments,
        budget_tokens=200,
        loss="mse",
    )
    blocks, order = collator.make_blocks(collator.encoder.encode(hard_pairs))
    assert len(blocks) > 1
    scores = BlockScorer(cut, temperature=2.0)(blocks, order)
    (2.0 * scores).square().sum().backward()
    torch.testing.assert_close(2.0 * scores, expected, atol=1e-4, rtol=1e-4)
    gradients = dict(cut.named_parameters())
    for name, parameter in plain.named_parameters():
        # A softmax does not see the bias of the keys: its gradient is rounding.
        if parameter.grad is not None and "key.bias" not in name:
            scale = float(parameter.grad.abs().max()) + 1e-6
            torch.testing.assert_close(gradients[name].grad / scale, parameter.grad / scale, atol=2e-4, rtol=1e-3)
