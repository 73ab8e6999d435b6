"""Images with their pixels, on their way from the workers that decode them to the forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossrank.encoding.pairs import VisualInput


@dataclass(frozen=True)
class Pixels:
    """The image of a pair with its pixels, which were made where the batch was made.

    Attributes:
        key: Equal for images of one content that are cut alike.
        num_tokens: Image tokens of the sequence.
        array: uint8 RGB tiles `(N, S, S, 3)`.
    """

    key: bytes
    num_tokens: int
    array: npt.NDArray[np.uint8]

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Return the tiles."""
        return self.array


def decode(images: Sequence[VisualInput | None]) -> list[Pixels | None]:
    """Return images with their pixels, each content decoded once.

    Raises:
        InputError: If one cannot be read; names its document.
    """
    decoded: dict[bytes, Pixels] = {}
    for image in images:
        if image is not None and image.key not in decoded:
            decoded[image.key] = Pixels(image.key, image.num_tokens, image.pixels())
    return [None if image is None else decoded[image.key] for image in images]
