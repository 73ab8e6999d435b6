"""Blocks of tokens to scores, with gradients.

Shape letters: `P` pairs, `B` pairs of a block, `T` tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class BlockScorer(nn.Module):
    """The module that is trained: scores all blocks of a micro-batch in one forward pass.

    One pass for the wrappers of torch (DDP, FSDP2) and for autocast, however many blocks there are inside.

    Args:
        model: A sequence classifier with one label.
        temperature: Of the checkpoint: scores are logits divided by it.
    """

    def __init__(self, model: PreTrainedModel, *, temperature: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature

    def forward(self, blocks: Sequence[dict[str, Any]], order: Tensor) -> Tensor:
        """Return the scores of all pairs, float32 `(P,)`.

        Args:
            blocks: The inputs of the model, `(B, T)` each, and the images of the pairs where it reads any.
            order: The place of each pair in the concatenation of the blocks, int64 `(P,)`.
        """
        with _one_lookup(self.model, [block["input_ids"] for block in blocks]):
            outputs = [self.model(**block) for block in blocks]
        scores = [getattr(output, "logits", output).view(-1).float() for output in outputs]
        return torch.cat(scores)[order] / self.temperature

    @property
    def config(self) -> Any:
        """The configuration of the model inside, for the trainer's loggers."""
        return self.model.config

    @property
    def _no_split_modules(self) -> Any:
        """The layers that FSDP2 shards one by one."""
        return self.model._no_split_modules


@contextmanager
def _one_lookup(model: PreTrainedModel, blocks: Sequence[Tensor]) -> Iterator[None]:
    """Look up the tokens of all blocks at once, and hand them out while this lasts.

    The gradient of a lookup is a whole table, of which few rows are not zero: one a block would cost more than a layer.

    Args:
        model: Called with each block in turn; left alone where it is compiled.
        blocks: The ids, `(B, T)` each.
    """
    embedding: Any = model.get_input_embeddings()
    is_trained = torch.is_grad_enabled() and any(weight.requires_grad for weight in embedding.parameters())
    if len(blocks) == 1 or not is_trained or model._compiled_call_impl is not None:
        yield
        return
    embedded = embedding(torch.cat([ids.flatten() for ids in blocks]))
    parts = iter(embedded.split([ids.numel() for ids in blocks]))
    embedding.forward = lambda ids: next(parts).view(*ids.shape, -1)
    try:
        yield
    finally:
        del embedding.forward
