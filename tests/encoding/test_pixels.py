import threading

import numpy as np
import pytest
from PIL import Image

from crossrank.encoding.images import ImageSource
from crossrank.encoding.pixels import read_pixels
from crossrank.encoding.tiles import Tiling
from crossrank.errors import InputError

TILING = Tiling(side=32, tokens_per_tile=4, max_tiles=6, use_thumbnail=True)


def tiled(image, where="document 0"):
    return next(TILING.sizes(ImageSource(image, where=where)))


def noise(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (60 + seed, 90, 3), dtype=np.uint8))


@pytest.mark.parametrize("num_threads", [1, 3, 100])
def test_pixels_come_in_the_order_given(num_threads):
    images = [tiled(noise(seed)) for seed in range(12)]
    for read, image in zip(read_pixels(images, num_threads=num_threads), images, strict=True):
        np.testing.assert_array_equal(read, image.pixels())
    assert read_pixels([], num_threads=num_threads) == []


class Meeting:
    """An image that is ready when another one is being read too."""

    def __init__(self, barrier):
        self.barrier = barrier

    def pixels(self):
        self.barrier.wait(timeout=20)
        return np.zeros((1, 4, 4, 3), np.uint8)


def test_several_are_read_at_a_time():
    barrier = threading.Barrier(2)
    assert len(read_pixels([Meeting(barrier) for _ in range(4)], num_threads=2)) == 4


@pytest.mark.parametrize("num_threads", [1, 4])
def test_an_image_that_is_cut_short_is_named(num_threads):
    good, bad = tiled(noise(0)), tiled(noise(1), "document 1")
    bad.source._image = b"junk"
    with pytest.raises(InputError, match=r"^document 1: "):
        read_pixels([good, bad, good], num_threads=num_threads)
