"""A model that is prepared for training on a CPU: what its layers hand on, and dropout that is exact and repeatable."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForSequenceClassification

from crossrank.models.cpu_training import CheapDropout, drop, prepare_for_cpu


def test_layers_hand_on_bfloat16_under_autocast_and_float32_without(tiny_checkpoint) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint("bert"), dtype=torch.float32)
    prepare_for_cpu(model)
    seen = []
    model.base_model.encoder.layer[1].register_forward_pre_hook(lambda layer, args: seen.append(args[0].dtype))
    ids = torch.tensor([[1, 2, 3, 0]])
    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model(input_ids=ids, attention_mask=ids.ne(0).long()).logits.sum().backward()
    assert seen == [torch.bfloat16, torch.float32]
    assert all(weight.grad.dtype == torch.float32 for weight in model.parameters() if weight.grad is not None)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.999])
def test_dropout_drops_its_share_and_keeps_the_mean(rate) -> None:
    torch.manual_seed(5)
    values = torch.ones(1000, 1001, requires_grad=True)
    dropped = drop(values, rate)
    assert dropped.unique().tolist() == [0.0, pytest.approx(1 / (1 - rate))]
    assert dropped.eq(0).double().mean().item() == pytest.approx(rate, abs=0.002)
    # 16 bits come out of each draw: all four parts must drop alike.
    parts = dropped.eq(0).flatten()[:1_000_000].view(-1, 4).double().mean(dim=0)
    assert parts.tolist() == pytest.approx([rate] * 4, abs=0.004)
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped.detach())


def test_dropout_repeats_by_the_seed_of_torch_and_has_two_ends() -> None:
    values = torch.ones(7, 3)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(drop(values, 0.5))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(drop(values, 0.0), values)
    assert torch.equal(drop(values, 1.0), torch.zeros(7, 3))


def test_dropout_that_is_computed_twice_drops_the_same() -> None:
    values = torch.ones(64, requires_grad=True)
    twice = checkpoint(lambda x: 3 * drop(2 * x, 0.5), values, use_reentrant=False)
    twice.sum().backward()
    assert 0 < twice.count_nonzero() < 64
    assert torch.equal(values.grad, twice.detach())


def test_dropout_of_a_model_follows_its_mode(tiny_checkpoint) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint("bert"), hidden_dropout_prob=0.5)
    prepare_for_cpu(model)
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert layers
    assert all(type(layer) is CheapDropout for layer in layers)
    ids = torch.tensor([[1, 2, 3]])
    model.eval()
    assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)
    model.train()
    assert not torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)
