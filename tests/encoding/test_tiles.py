import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from plain_vision import plain_grid, plain_tiles

from crossrank.encoding.images import ImageSource
from crossrank.encoding.tiles import Tiling, candidate_grids, choose_grid, cut_tiles, num_tiles

# Width, height, (columns, rows) with 6 tiles of 512 pixels: worked out by hand from the published rule.
TABLE = [
    (512, 512, (1, 1)),
    (1, 1, (1, 1)),
    (100, 100, (1, 1)),
    (1024, 512, (2, 1)),
    (512, 1024, (1, 2)),
    (1024, 1024, (2, 2)),
    (1536, 1024, (3, 2)),
    (1024, 1536, (2, 3)),
    (3000, 512, (6, 1)),
    (512, 3000, (1, 6)),
    (1920, 1080, (3, 2)),
    (1700, 2200, (2, 3)),
    (10000, 10000, (2, 2)),
]


@pytest.mark.parametrize(("width", "height", "grid"), TABLE)
def test_grids_by_size_and_aspect_ratio(width, height, grid):
    chosen = choose_grid(width, height, max_tiles=6, side=512)
    print(f"{width} x {height}: {chosen}")
    assert chosen == grid == plain_grid(width, height, 6, 512)


@settings(max_examples=300)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 12))
def test_grids_are_those_of_the_plain_rule(width, height, max_tiles):
    assert choose_grid(width, height, max_tiles=max_tiles, side=512) == plain_grid(width, height, max_tiles, 512)


def test_candidates_are_sorted_by_number_of_tiles_and_ties_stand_in_the_order_of_the_set():
    grids = candidate_grids(6)
    built = set((i, j) for n in range(1, 7) for i in range(1, n + 1) for j in range(1, n + 1) if 1 <= i * j <= 6)
    assert list(grids) == sorted(built, key=lambda grid: grid[0] * grid[1])
    assert len(grids) == 14 and max(columns * rows for columns, rows in grids) == 6


def test_the_thumbnail_comes_only_where_there_are_several_tiles():
    assert num_tiles((1, 1), use_thumbnail=True) == 1
    assert num_tiles((3, 2), use_thumbnail=True) == 7
    assert num_tiles((3, 2), use_thumbnail=False) == 6


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA", "CMYK"])
@pytest.mark.parametrize("size", [(64, 64), (65, 31), (20, 200), (200, 20), (3, 5)])
def test_tiles_are_those_of_the_plain_rule(mode, size):
    image = Image.radial_gradient("L").resize(size).convert("RGB").convert(mode)
    grid = choose_grid(*size, max_tiles=6, side=32)
    tiles = cut_tiles(image, grid, side=32, use_thumbnail=True)
    expected = plain_tiles(image, 6, 32)
    assert tiles.shape == (len(expected), 32, 32, 3)
    assert all(tile.tobytes() == reference.tobytes() for tile, reference in zip(tiles, expected, strict=True))


def test_the_largest_image_has_all_tiles_and_the_thumbnail():
    assert [Tiling(512, 256, most, use_thumbnail=True).max_tokens for most in (1, 2, 6)] == [256, 768, 1792]
    assert Tiling(512, 256, 6, use_thumbnail=False).max_tokens == 1536


def test_the_thumbnail_is_last():
    image = Image.new("RGB", (64, 32), "red")
    image.paste("blue", (32, 0, 64, 32))
    tiles = cut_tiles(image, (2, 1), side=32, use_thumbnail=True)
    assert tiles[0, 5, 5].tolist() == [255, 0, 0] and tiles[1, 5, 5].tolist() == [0, 0, 255]
    assert tiles[2, 5, 2].tolist() == [255, 0, 0] and tiles[2, 5, 29].tolist() == [0, 0, 255]


def test_an_image_is_offered_with_ever_fewer_tiles():
    tiling = Tiling(side=512, tokens_per_tile=256, max_tiles=6, use_thumbnail=True)
    sizes = list(tiling.sizes(ImageSource(Image.new("RGB", (1700, 2200)), where="document 0")))
    print([(image.grid, image.num_tokens) for image in sizes])
    assert sizes[0].grid == (2, 3) and sizes[0].num_tokens == 7 * 256
    assert sizes[-1].grid == (1, 1) and sizes[-1].num_tokens == 256
    tokens = [image.num_tokens for image in sizes]
    assert tokens == sorted(tokens, reverse=True)
    assert len({image.key for image in sizes}) == len(sizes)
