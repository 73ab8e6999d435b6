"""Padding stands on the right, is masked, and only as long as the longest pair of the batch."""

from __future__ import annotations

import numpy as np

from crossrank.encoding.collation import pad
from crossrank.encoding.pairs import EncodedPairs


def test_rows_are_padded_to_the_longest_of_the_batch():
    ids = [np.array([5, 6, 7], np.int32), np.array([8], np.int32), np.array([9, 9, 9, 9, 9], np.int32)]
    types = [np.array([0, 0, 1], np.int32), np.array([1], np.int32), np.zeros(5, np.int32)]
    encoded = EncodedPairs(ids, types, np.array([3, 1, 5]), np.zeros(3, np.bool_))
    batch = pad(encoded, np.array([1, 0]), pad_token_id=2)
    assert batch.input_ids.tolist() == [[8, 2, 2], [5, 6, 7]]
    assert batch.attention_mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch.token_type_ids.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert batch.input_ids.dtype == np.int64
    assert pad(encoded, np.array([1, 0]), pad_token_id=2, multiple_of=4).input_ids.tolist() == [
        [8, 2, 2, 2],
        [5, 6, 7, 2],
    ]
