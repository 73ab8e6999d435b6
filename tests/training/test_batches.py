"""Which groups a step sees, and how pairs are cut into blocks."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crossrank.errors import InputError
from crossrank.models.checkpoint import load_encoder, open_checkpoint
from crossrank.training.batches import PAD_TO, Collator, GroupOrder, plan_blocks
from crossrank.types import Document, TrainingGroup


class Numbered:
    """Groups whose texts have as many words as their index says."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def sample(self, index: int, *, epoch: int) -> TrainingGroup:
        documents = (Document("word " * (index % 7 + 1)), Document("other"))
        return TrainingGroup(str(index), "query", documents, (1.0, 0.0))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 16))
def test_an_epoch_has_every_group_once_whatever_the_batch_size(size: int, batch_size: int, num_steps: int) -> None:
    order = GroupOrder(
        Numbered(size), num_steps=num_steps, batch_size=batch_size, seed=1, sort_by_length=batch_size % 2 == 0
    )
    places = list(order)
    assert len(places) == len(order) == num_steps * batch_size
    for epoch in range(len(places) // size):
        assert Counter(p.index for p in places if p.epoch == epoch) == Counter(range(size))
    assert [p.epoch for p in places[:: max(1, batch_size)]] == sorted(p.epoch for p in places[:: max(1, batch_size)])


def test_sorting_changes_the_order_inside_a_batch_alone() -> None:
    plain, sorted_ = (
        list(GroupOrder(Numbered(20), num_steps=4, batch_size=8, seed=3, sort_by_length=flag)) for flag in (False, True)
    )
    lengths = [place.index % 7 for place in sorted_]
    print(lengths)
    for start in range(0, 32, 8):
        batch = slice(start, start + 8)
        assert set(plain[batch]) == set(sorted_[batch])
        assert lengths[batch] == sorted(lengths[batch], reverse=True)
    other = list(GroupOrder(Numbered(20), num_steps=4, batch_size=8, seed=4, sort_by_length=False))
    assert other != plain


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=40), st.integers(16, 600))
def test_blocks_hold_every_pair_once_within_the_budget(lengths: list[int], budget: int) -> None:
    plan = plan_blocks(np.array(lengths), budget)
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))
    for rows in plan:
        width = -(-max(lengths[row] for row in rows) // PAD_TO) * PAD_TO
        assert len(rows) == 1 or width * len(rows) <= budget
    widths = [max(lengths[row] for row in rows) for rows in plan]
    assert widths == sorted(widths, reverse=True)


def test_blocks_are_the_cheapest_ones() -> None:
    """Against trying every cut of a few sorted lengths."""
    lengths, budget = np.array([90, 88, 60, 31, 30, 8, 8]), 256
    widths = -(-lengths // PAD_TO) * PAD_TO

    def cost(cuts: list[int]) -> int:
        ends = [0, *cuts, len(lengths)]
        sizes = [widths[a] * (b - a) for a, b in itertools.pairwise(ends)]
        return sum(sizes) + len(sizes) * (budget // 16) if all(size <= budget for size in sizes) else 10**9

    every = [[i + 1 for i in range(6) if bits >> i & 1] for bits in range(64)]
    best = min(every, key=cost)
    plan = plan_blocks(lengths, budget)
    print("best cuts", best, [rows.tolist() for rows in plan])
    assert cost(np.cumsum([len(rows) for rows in plan])[:-1].tolist()) == cost(best)


def test_the_batch_of_ragged_groups(tiny_checkpoint) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint("bert"))
    collator = Collator(load_encoder(checkpoint), 0, uses_segments=True, budget_tokens=64, loss="softmax_cross_entropy")
    long = TrainingGroup("a", "red planet", (Document("Mars " * 20), Document("bread"), Document("oven")), (1, 0, 0))
    short = TrainingGroup("b", "password", (Document("page"), Document("x")), (0, 1))
    batch = collator([long, short])
    assert batch["labels"].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert batch["mask"].tolist() == [[True, True, True], [True, True, False]]
    # Every pair comes back at its place: count its real tokens in the blocks.
    counts = torch.cat([block["attention_mask"].sum(dim=1) for block in batch["blocks"]])[batch["order"]]
    pairs = [(group.query, document) for group in (long, short) for document in group.documents]
    assert counts.tolist() == load_encoder(checkpoint).encode(pairs).lengths.tolist()
    assert batch["num_tokens"] == counts.sum() <= batch["num_places"]
    with pytest.raises(InputError, match=r"query 'b'.*every candidate is not relevant"):
        collator([TrainingGroup("b", "q", (Document("x"), Document("y")), (0, 0))])
