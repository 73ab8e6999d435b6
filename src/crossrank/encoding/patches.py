"""Native resolution: an image at about its own size, in patches, as Qwen2-VL and Qwen3-VL read it.

Source: `smart_resize` of transformers' Qwen2-VL and of qwen-vl-utils, restated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from crossrank.errors import InputError
from crossrank.types import LazyImage

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_ASPECT = 200


@dataclass(frozen=True)
class PatchedImage:
    """An image of a document with the size it is resized to; its pixels are made when they are needed.

    Attributes:
        source: Where it comes from.
        size: Width and height after resizing, in pixels.
        patching: How that was found.
    """

    source: LazyImage
    size: tuple[int, int]
    patching: Patching

    @property
    def num_tokens(self) -> int:
        """Image tokens of the sequence."""
        return self.size[0] * self.size[1] // self.patching.factor**2

    @property
    def key(self) -> bytes:
        """A digest of everything that the vision tower sees."""
        return self.source.key + f"{self.size} {self.patching}".encode()

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Return the resized image, uint8 RGB `(height, width, 3)`.

        Raises:
            InputError: If the image cannot be read; names its document.
        """
        from PIL.Image import Resampling

        rgb = _to_rgb(self.source.load(), white=self.patching.as_qwen_utils)
        return np.asarray(rgb.resize(self.size, Resampling.BICUBIC))


@dataclass(frozen=True)
class Patching:
    """How a checkpoint sizes images.

    Attributes:
        factor: Pixels of the side of one image token; width and height become multiples of it.
        min_pixels: Least pixels after resizing.
        max_pixels: Most pixels after resizing.
        as_qwen_utils: As qwen-vl-utils does it: transparency over white, no side below one token. Otherwise as the
            processor of transformers: transparency is dropped.
    """

    factor: int
    min_pixels: int
    max_pixels: int
    as_qwen_utils: bool = False

    @property
    def max_tokens(self) -> int:
        """Image tokens of the largest image."""
        return self.max_pixels // self.factor**2

    def sizes(self, source: LazyImage) -> Iterator[PatchedImage]:
        """Yield an image as it is resized, then with half the pixels, and so on.

        Raises:
            InputError: If it is so long and thin that the model has no size for it.
        """
        width, height = source.size
        if max(width, height) > _MAX_ASPECT * min(width, height):
            raise InputError(
                f"{source.where}: {width} x {height} pixels: one side is over {_MAX_ASPECT} times the other"
            )
        seen, max_pixels = None, self.max_pixels
        while max_pixels >= self.min_pixels:
            size = self._fit(width, height, max_pixels)
            if size != seen:
                yield PatchedImage(source, size, self)
            seen = size
            max_pixels = min(max_pixels, size[0] * size[1]) // 2

    def _fit(self, width: int, height: int, max_pixels: int) -> tuple[int, int]:
        factor, least = self.factor, self.factor if self.as_qwen_utils else 0
        new_width, new_height = (max(least, round(side / factor) * factor) for side in (width, height))
        if new_width * new_height > max_pixels:
            shrink = math.sqrt(width * height / max_pixels)
            new_width, new_height = (
                max(factor, math.floor(side / shrink / factor) * factor) for side in (width, height)
            )
        elif new_width * new_height < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (width * height))
            new_width, new_height = (math.ceil(side * grow / factor) * factor for side in (width, height))
        return new_width, new_height


def _to_rgb(image: Image, *, white: bool) -> Image:
    import PIL.Image

    if not white or image.mode != "RGBA":
        return image.convert("RGB")
    page = PIL.Image.new("RGB", image.size, (255, 255, 255))
    page.paste(image, mask=image.getchannel("A"))
    return page
