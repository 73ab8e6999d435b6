"""Ragged token ids to padded arrays. Padding is on the right; nothing else in the package pads.

Shape letters: `B` pairs of one batch, `T` tokens of the longest of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crossrank.encoding.pairs import EncodedPairs


class PaddedBatch(NamedTuple):
    """int64 arrays `(B, T)`, named as the models of the field name their inputs."""

    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]
    token_type_ids: npt.NDArray[np.int64]


def pad(encoded: EncodedPairs, rows: npt.NDArray[np.int64], *, pad_token_id: int, multiple_of: int = 1) -> PaddedBatch:
    """Pad the given pairs to the longest of them.

    Args:
        encoded: All pairs.
        rows: Which of them make this batch, int64 `(B,)`, in batch order.
        pad_token_id: What stands after the end.
        multiple_of: The width is rounded up to a multiple of this.
    """
    lengths = encoded.lengths[rows]
    width = -(-int(lengths.max()) // multiple_of) * multiple_of
    mask = np.arange(width)[None, :] < lengths[:, None]
    input_ids = np.full(mask.shape, pad_token_id, np.int64)
    token_type_ids = np.zeros(mask.shape, np.int64)
    input_ids[mask] = np.concatenate([encoded.input_ids[row] for row in rows])
    token_type_ids[mask] = np.concatenate([encoded.token_type_ids[row] for row in rows])
    return PaddedBatch(input_ids, mask.astype(np.int64), token_type_ids)
