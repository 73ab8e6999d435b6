"""Many images to pixels at once: decoding and resizing let go of Python's lock, so several threads share them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from crossrank.encoding.pairs import VisualInput

# A decoded scan may take hundreds of megabytes.
_MAX_AT_A_TIME = 8


def read_pixels(images: Sequence[VisualInput], *, num_threads: int) -> list[npt.NDArray[np.uint8]]:
    """Return the pixels of each image, in the order given.

    Args:
        images: What is decoded and resized.
        num_threads: How many are at a time, at most.

    Raises:
        InputError: If an image cannot be read; the first one is named.
    """
    at_a_time = min(num_threads, len(images), _MAX_AT_A_TIME)
    if at_a_time < 2:
        return [image.pixels() for image in images]
    with ThreadPoolExecutor(at_a_time, thread_name_prefix="crossrank-pixels") as pool:
        return list(pool.map(_pixels, images))


def _pixels(image: VisualInput) -> npt.NDArray[np.uint8]:
    return image.pixels()
