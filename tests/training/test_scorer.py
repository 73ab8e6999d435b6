"""Scores in blocks equal those of transformers, pair by pair, with the same gradients; also where one layer is cut."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from crossrank.models.checkpoint import load_encoder, open_checkpoint
from crossrank.models.cpu_training import prepare_for_cpu
from crossrank.models.first_token import read_first_token_only
from crossrank.training.batches import Collator
from crossrank.training.scorer import BlockScorer

FIRST_TOKEN = ("bert", "electra", "roberta", "xlm-roberta", "camembert")


@pytest.mark.parametrize("kind", [*FIRST_TOKEN, "deberta-v2", "modernbert"])
@pytest.mark.parametrize("attention", ["eager", "sdpa", "cpu"])
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
        folder, dtype=torch.float32, attn_implementation="eager" if attention == "cpu" else attention
    ).eval()
    if attention == "cpu":
        prepare_for_cpu(cut)
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


def test_the_table_of_tokens_is_read_once_a_batch_and_works_as_before_after_an_error(
    tiny_checkpoint, monkeypatch
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint("bert"), dtype=torch.float32)
    table, scorer, lookups = model.get_input_embeddings(), BlockScorer(model), []
    forward = torch.nn.Embedding.forward

    def counted(embedding: torch.nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
        lookups.extend([ids.numel()] * (embedding is table))
        return forward(embedding, ids)

    monkeypatch.setattr(torch.nn.Embedding, "forward", counted)
    blocks = [{"input_ids": torch.full((2, width), 7)} for width in (16, 8)]
    scorer(blocks, torch.arange(4)).sum().backward()
    assert lookups == [2 * 16 + 2 * 8]
    assert table.weight.grad.nonzero()[:, 0].unique().tolist() == [7]

    too_long = {"input_ids": torch.full((1, model.config.max_position_embeddings + 8), 7)}
    with pytest.raises(RuntimeError):
        scorer([*blocks, too_long], torch.arange(5))
    assert table(torch.tensor([[7]])).shape == (1, 1, model.config.hidden_size)
