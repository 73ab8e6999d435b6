"""The engine: what every runtime behind a reranker looks like.

Shape letters: `P` pairs, `L` labels of the checkpoint's head (1 for nearly every reranker).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from crossrank.encoding.pairs import EncodedPairs
from crossrank.errors import InputError


class Engine(Protocol):
    """Encoded pairs to raw logits; safe to call from many threads.

    Attributes:
        name: The runtime, `"openvino"` or `"torch"`.
        device: Where it runs, as in `"cpu"` or `"cuda:0"`.
        precision: Of the arithmetic, `"float32"`, `"bfloat16"` or `"float16"`.
    """

    name: str
    device: str
    precision: str

    def plan(self, lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Return the batches that pairs of these lengths, int64 `(P,)`, are computed in; see `planner.plan_batches`."""
        ...

    def logits(self, encoded: EncodedPairs) -> npt.NDArray[np.float32]:
        """Return the raw logits, float32 `(P, L)`, in the order given.

        A logit does not depend on the other pairs, on their order, or on padding.
        """
        ...


def check_positive(name: str, value: int | None) -> int | None:
    """Return an option that counts something, as it was given; None is left to the engine.

    Raises:
        InputError: If it is not a whole number above 0.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InputError(f"{name} must be a whole number above 0, not {value!r}")
    return value
