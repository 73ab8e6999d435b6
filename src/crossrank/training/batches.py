"""Training groups to what a forward pass takes: which groups a step sees, and their pairs as blocks of like length.

A pair is scored on its own, so the pairs of a micro-batch need not be computed together: they are sorted by length and
cut into padded blocks under a budget of tokens. That saves most of the padding, and on a CPU keeps a block in its
caches.

Shape letters: `G` groups, `N` candidates of a group, `P` pairs of all groups, `B` pairs of a block, `T` tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from crossrank.encoding.collation import pad
from crossrank.encoding.pairs import EncodedPairs
from crossrank.training.losses import check_targets
from crossrank.training.pixels import decode
from crossrank.types import Document, TrainingGroup

# Draws from this stream of the seed order the groups; other streams choose negatives.
_ORDER_STREAM = 1
# Widths of blocks are rounded up to this, which the kernels of all devices like.
PAD_TO = 8
# A block costs as much, besides its tokens, as this part of the budget.
_BLOCK_OVERHEAD = 16
_TOO_MUCH = np.iinfo(np.int64).max
# What an image counts beside characters where groups are sorted by length: about a page of tokens.
_IMAGE_CHARACTERS = 4096

# The inputs of the model by name: tensors, and a list of images.
Block = dict[str, Any]


class Groups(Protocol):
    """A source of training groups, such as `crossrank.data.groups` reads them."""

    def __len__(self) -> int: ...

    def sample(self, index: int, *, epoch: int) -> TrainingGroup:
        """Return one group, with the negatives of an epoch; the same arguments give the same group."""
        ...


class Encoder(Protocol):
    """Pairs to token ids: `PairEncoder`, or what a family has in its place."""

    def encode(self, pairs: Sequence[tuple[str, str | Document]]) -> EncodedPairs:
        """Encode pairs."""
        ...


@dataclass(frozen=True)
class Place:
    """Which group: its index, and the epoch that decides its negatives."""

    epoch: int
    index: int


class GroupOrder(Sampler[Place]):
    """The groups of all steps of a run, in order: epoch after epoch, each a permutation of its own.

    The stream is cut into global batches without regard to where an epoch ends, so that every step sees a full batch,
    no group is dropped and none is repeated to fill one. Which groups a step sees depends on the seed alone, not on
    the number of processes, nor on where a run was resumed. Inside a global batch the groups are sorted by the length
    of their texts: their gradients are added up anyway, and like lengths then meet in a micro-batch.

    Args:
        groups: What is ordered.
        num_steps: Updates of the weights.
        batch_size: Groups of one update.
        seed: Of the permutations.
        sort_by_length: Whether a step has several micro-batches, so that sorting pays.
    """

    def __init__(self, groups: Groups, *, num_steps: int, batch_size: int, seed: int, sort_by_length: bool) -> None:
        self._groups = groups
        self._num_steps = num_steps
        self._batch_size = batch_size
        self._seed = seed
        self._sort_by_length = sort_by_length

    def __len__(self) -> int:
        return self._num_steps * self._batch_size

    def __iter__(self) -> Iterator[Place]:
        stream = self._stream()
        for _ in range(self._num_steps):
            places = [next(stream) for _ in range(self._batch_size)]
            yield from sorted(places, key=self._length, reverse=True) if self._sort_by_length else places

    def _stream(self) -> Iterator[Place]:
        epoch = 0
        while True:
            order = np.random.default_rng((self._seed, _ORDER_STREAM, epoch)).permutation(len(self._groups))
            yield from (Place(epoch, int(index)) for index in order)
            epoch += 1

    def _length(self, place: Place) -> int:
        group = self._groups.sample(place.index, epoch=place.epoch)
        images = any(document.image is not None for document in group.documents)
        texts = max(len(document.text) for document in group.documents) + len(group.query)
        return texts + images * _IMAGE_CHARACTERS


class GroupDataset(Dataset[TrainingGroup]):
    """The groups of a run, as a data loader asks for them.

    Args:
        groups: Where they come from.
        num_items: How many a run takes in all.
    """

    def __init__(self, groups: Groups, *, num_items: int) -> None:
        self._groups = groups
        self._num_items = num_items

    def __len__(self) -> int:
        return self._num_items

    def __getitem__(self, place: Place) -> TrainingGroup:
        return self._groups.sample(place.index, epoch=place.epoch)


@dataclass(frozen=True)
class Collator:
    """Makes the batch of a forward pass out of groups.

    Attributes:
        encoder: Of the checkpoint.
        pad_token_id: What stands after the end of a row.
        uses_segments: Whether the model reads `token_type_ids`.
        budget_tokens: Most tokens of a block, padding included, unless one pair alone is longer; None makes one block.
        loss: The name of the loss, which decides whether a group has a meaning.
    """

    encoder: Encoder
    pad_token_id: int
    uses_segments: bool
    budget_tokens: int | None
    loss: str

    def __call__(self, groups: Sequence[TrainingGroup]) -> dict[str, Any]:
        """Return `blocks` and `order` for the scorer; `labels`, `teacher` and `mask` `(G, N)`; counts; the queries.

        Raises:
            InputError: If the loss has no meaning for a group, or a query leaves no room for a document.
        """
        for group in groups:
            _check(group, self.loss)
        encoded = self.encoder.encode([(group.query, document) for group in groups for document in group.documents])
        blocks, order = self.make_blocks(encoded)
        for block in blocks:
            if "images" in block:  # decoded here, where several workers may do it ahead
                block["images"] = decode(block["images"])
        teachers = [group.teacher_scores or (0.0,) * len(group.documents) for group in groups]
        return {
            "blocks": blocks,
            "order": order,
            "labels": _rows([group.labels for group in groups]),
            "teacher": _rows(teachers),
            "mask": _rows([(1.0,) * len(group.documents) for group in groups]).bool(),
            "num_pairs": len(encoded),
            "num_tokens": int(encoded.lengths.sum()),
            "num_places": sum(block["input_ids"].numel() for block in blocks),
            "query_ids": [group.query_id for group in groups],
        }

    def make_blocks(self, encoded: EncodedPairs) -> tuple[list[Block], Tensor]:
        """Return padded blocks, longest pairs first, and the place `(P,)` of each pair in their concatenation.

        Images come with a block as they are encoded, their pixels not made yet.
        """
        plan = plan_blocks(encoded.lengths, self.budget_tokens)
        order = np.empty(len(encoded), np.int64)
        order[np.concatenate(plan)] = np.arange(len(encoded))
        return [self._block(encoded, rows) for rows in plan], torch.from_numpy(order)

    def _block(self, encoded: EncodedPairs, rows: npt.NDArray[np.int64]) -> Block:
        batch = pad(encoded, rows, pad_token_id=self.pad_token_id, multiple_of=PAD_TO)
        block = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        if self.uses_segments:
            block["token_type_ids"] = batch.token_type_ids
        tensors: Block = {name: torch.from_numpy(array) for name, array in block.items()}
        if any(encoded.images):
            tensors["images"] = [encoded.images[row] for row in rows]
        return tensors


def plan_blocks(lengths: npt.NDArray[np.int64], budget_tokens: int | None) -> list[npt.NDArray[np.int64]]:
    """Return the cheapest way to cut pairs, sorted by length, into blocks.

    A block costs its padded tokens and a constant. It has at most `budget_tokens` of them, unless one pair alone is
    longer; without a budget there is one block.

    Args:
        lengths: Tokens of each pair, int64 `(P,)`.
        budget_tokens: Most tokens of a block, padding included, or None.

    Returns:
        Indices into `lengths`, longest pairs first.
    """
    order = np.argsort(-lengths, kind="stable")
    if budget_tokens is None:
        return [order]
    widths = -(-lengths[order] // PAD_TO) * PAD_TO
    overhead = budget_tokens // _BLOCK_OVERHEAD
    costs, cuts = np.zeros(len(order) + 1, np.int64), np.zeros(len(order) + 1, np.int64)
    for end in range(1, len(order) + 1):
        starts = np.arange(max(0, end - max(1, budget_tokens // int(widths[end - 1]))), end)
        sizes = widths[starts] * (end - starts)
        totals = np.where((sizes <= budget_tokens) | (starts == end - 1), costs[starts] + sizes + overhead, _TOO_MUCH)
        cuts[end] = starts[totals.argmin()]
        costs[end] = totals.min()
    blocks: list[npt.NDArray[np.int64]] = []
    end = len(order)
    while end:
        blocks.append(order[cuts[end] : end])
        end = int(cuts[end])
    return blocks[::-1]


def _check(group: TrainingGroup, loss: str) -> None:
    labels = np.array(group.labels, np.float32)
    teacher = None if group.teacher_scores is None else np.array(group.teacher_scores, np.float32)
    check_targets(loss, labels, teacher, where=f"query {group.query_id!r}")


def _rows(values: Sequence[Sequence[float]]) -> Tensor:
    """Return ragged rows as float32 `(G, N)`, 0 behind their ends."""
    width = max(len(row) for row in values)
    return torch.tensor([[*row, *[0.0] * (width - len(row))] for row in values], dtype=torch.float32)
