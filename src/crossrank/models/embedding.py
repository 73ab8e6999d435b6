"""Bidirectional decoders as bi-encoders: texts to unit vectors, as nvidia/llama-nemotron-embed-1b-v2 makes them.

Shape letters: `B` texts of one batch, `T` tokens of the longest, `H` hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from crossrank.errors import CheckpointError
from crossrank.models.bidirectional import encode, load_bidirectional_body, pool
from crossrank.models.onednn import replace_linears
from crossrank.models.packed_attention import can_pack, pack
from crossrank.models.packed_model import PackedModel, PooledParts, pack_model

# Source: the model card of nvidia/llama-nemotron-embed-1b-v2.
MAX_LENGTH = 8192
# Tokens of one batch, as in the torch engine: what the caches of a CPU hold, and enough to fill a GPU.
_CPU_BUDGET, _DEVICE_BUDGET = 2048, 32768


class MeanEmbeddingModel(nn.Module):
    """The mean over the last hidden states of a bidirectional body, scaled to length 1.

    Args:
        body: From `load_bidirectional_body`.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body: Any = body

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return float32 `(B, H)`.

        Args:
            input_ids: int64 `(B, T)`.
            attention_mask: `(B, T)`, 0 where there is padding.
        """
        return F.normalize(pool(encode(self.body, input_ids, attention_mask), attention_mask, "avg"), dim=-1)


class BidirectionalEmbedder:
    """A loaded bi-encoder on a bidirectional decoder.

    Args:
        folder: Holds `config.json`, the weights and `tokenizer.json`.
        where: The checkpoint, for errors.
        device: As torch names it.

    Raises:
        CheckpointError: If the checkpoint is broken, or pools otherwise than by the mean.
    """

    def __init__(self, folder: Path, *, where: str, device: str) -> None:
        self.device = torch.device(device)
        self.dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        body, head = load_bidirectional_body(folder, dtype=self.dtype, where=where)
        if head.pooling != "avg":
            raise CheckpointError(f"{where}: embedding models of this kind pool by the mean, not by {head.pooling!r}")
        if self.device.type == "cpu":
            replace_linears(body)
        self._model = MeanEmbeddingModel(body.to(self.device)).eval()
        self._packed = self._pack()
        self._tokenizer = load_embedding_tokenizer(folder)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_LENGTH)

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return unit vectors, float32 `(n, H)`, in the order given; a text keeps its first 8192 tokens."""
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        vectors = np.empty((len(ids), self._model.body.config.hidden_size), np.float32)
        for rows in batches_of([len(row) for row in ids], budget_tokens(self.device)):
            batch = [torch.tensor(ids[row]) for row in rows]
            vectors[rows] = (self._run_packed(batch) if self._packed else self._run_padded(batch)).cpu().numpy()
        return vectors

    def _pack(self) -> PackedModel | None:
        if not can_pack(self.device, self.dtype):
            return None
        return pack_model(self._model, parts=PooledParts(self._model.body, "mean", lambda x: F.normalize(x, dim=-1)))

    def _run_packed(self, batch: list[Tensor]) -> Tensor:
        assert self._packed is not None
        row = torch.cat(batch).to(self.device)
        return self._packed(row, torch.zeros_like(row), pack([len(ids) for ids in batch], self.device))

    @torch.inference_mode()
    def _run_padded(self, batch: list[Tensor]) -> Tensor:
        padded = nn.utils.rnn.pad_sequence(batch, batch_first=True)
        mask = nn.utils.rnn.pad_sequence([torch.ones_like(ids) for ids in batch], batch_first=True)
        vectors: Tensor = self._model(padded.to(self.device), mask.to(self.device))
        return vectors


def budget_tokens(device: torch.device) -> int:
    """Return how many tokens a batch should have."""
    return _CPU_BUDGET if device.type == "cpu" else _DEVICE_BUDGET


def batches_of(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield rows in batches of texts of about one length, longest first."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    start = 0
    while start < len(order):
        count = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + count]
        start += count


def load_embedding_tokenizer(folder: Path) -> Tokenizer:
    """Read `tokenizer.json`.

    Raises:
        CheckpointError: If it is missing or broken.
    """
    try:
        return Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except Exception as error:  # the tokenizers library raises the bare class
        raise CheckpointError(f"{folder / 'tokenizer.json'}: not a readable tokenizer file ({error})") from None
