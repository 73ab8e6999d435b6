"""Page images written by a test."""

import io

import numpy as np
import PIL.Image


def page(seed, size=(24, 32), kind="PNG"):
    """The bytes of an image file of noise, which does not pack."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    PIL.Image.fromarray(pixels).save(file, kind)
    return file.getvalue()
