"""Dynamic tiling: which grid an image is cut into, and its tiles.

Source: the image preparation of nvidia/llama-nemotron-rerank-vl-1b-v2 and of Eagle 2, restated from its description.
Shape letters: `N` tiles of one image, `S` the side of a tile in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from crossrank.types import LazyImage

if TYPE_CHECKING:
    from PIL.Image import Image

# Filling more than this share of the image's own pixels counts as no better.
_ENOUGH_AREA = 0.6


@cache
def candidate_grids(max_tiles: int) -> tuple[tuple[int, int], ...]:
    """Return every (columns, rows) of at most `max_tiles` tiles, fewest tiles first.

    Grids of the same number of tiles stand in the order of the set that is built here: the reference builds its list
    so, and the first of equally good grids wins.
    """
    grids = {
        (columns, rows)
        for n in range(1, max_tiles + 1)
        for columns in range(1, n + 1)
        for rows in range(1, n + 1)
        if 1 <= columns * rows <= max_tiles
    }
    return tuple(sorted(grids, key=lambda grid: grid[0] * grid[1]))


def choose_grid(width: int, height: int, *, max_tiles: int, side: int) -> tuple[int, int]:
    """Return the (columns, rows) that suit an image best, by its aspect ratio and its size.

    Args:
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        max_tiles: Most tiles, a thumbnail not counted.
        side: Of a tile, in pixels.
    """
    aspect, area = width / height, width * height
    best, best_score = (1, 1), 0.0
    for columns, rows in candidate_grids(max_tiles):
        ratio = columns / rows
        score = min(columns * rows * side * side / area, _ENOUGH_AREA) * min(ratio / aspect, aspect / ratio)
        if score > best_score:
            best, best_score = (columns, rows), score
    return best


def num_tiles(grid: tuple[int, int], *, use_thumbnail: bool) -> int:
    """Return how many tiles a grid gives; a thumbnail joins only where there are several."""
    count = grid[0] * grid[1]
    return count + (use_thumbnail and count > 1)


def cut_tiles(image: Image, grid: tuple[int, int], *, side: int, use_thumbnail: bool) -> npt.NDArray[np.uint8]:
    """Return the tiles of an image, uint8 RGB `(N, S, S, 3)`: row by row, then the thumbnail.

    The image is resized in its own mode, with PIL's default filter for it, and becomes RGB afterwards: a palette image
    is so resized without mixing colours.
    """
    columns, rows = grid
    resized = image.resize((side * columns, side * rows))
    tiles = [
        resized.crop((side * column, side * row, side * (column + 1), side * (row + 1)))
        for row in range(rows)
        for column in range(columns)
    ]
    if use_thumbnail and len(tiles) > 1:
        tiles.append(image.resize((side, side)))
    return np.stack([np.asarray(tile.convert("RGB")) for tile in tiles])


@dataclass(frozen=True)
class TiledImage:
    """An image of a document with the grid it is cut into; its pixels are made when they are needed.

    Attributes:
        source: Where it comes from.
        grid: Columns and rows.
        tiling: How it is cut.
    """

    source: LazyImage
    grid: tuple[int, int]
    tiling: Tiling

    @property
    def num_tiles(self) -> int:
        """Number of tiles, the thumbnail included."""
        return num_tiles(self.grid, use_thumbnail=self.tiling.use_thumbnail)

    @property
    def num_tokens(self) -> int:
        """Image tokens of the sequence."""
        return self.num_tiles * self.tiling.tokens_per_tile

    @property
    def key(self) -> bytes:
        """A digest of everything that the vision tower sees."""
        return self.source.key + f"{self.grid} {self.tiling}".encode()

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Return the tiles, uint8 RGB `(N, S, S, 3)`.

        Raises:
            InputError: If the image cannot be read; names its document.
        """
        tiling = self.tiling
        return cut_tiles(self.source.load(), self.grid, side=tiling.side, use_thumbnail=tiling.use_thumbnail)


@dataclass(frozen=True)
class Tiling:
    """How a checkpoint cuts images.

    Attributes:
        side: Of a tile, in pixels.
        tokens_per_tile: Image tokens of each.
        max_tiles: Most tiles of an image, the thumbnail not counted.
        use_thumbnail: Whether the whole image follows as one more tile where there are several.
    """

    side: int
    tokens_per_tile: int
    max_tiles: int
    use_thumbnail: bool

    @property
    def max_tokens(self) -> int:
        """Image tokens of the largest image."""
        return num_tiles((self.max_tiles, 1), use_thumbnail=self.use_thumbnail) * self.tokens_per_tile

    def sizes(self, source: LazyImage) -> Iterator[TiledImage]:
        """Yield an image as it is cut, then with ever fewer tiles."""
        seen = None
        for max_tiles in range(self.max_tiles, 0, -1):
            grid = choose_grid(*source.size, max_tiles=max_tiles, side=self.side)
            if grid != seen:
                yield TiledImage(source, grid, self)
            seen = grid
