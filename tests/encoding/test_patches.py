import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crossrank.encoding.images import ImageSource
from crossrank.encoding.patches import Patching
from crossrank.errors import InputError


def source(width, height, mode="RGB"):
    return ImageSource(Image.new(mode, (width, height)), where="document 0")


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 1500), st.integers(1, 1500))
def test_sizes_are_those_of_transformers(width, height):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    if max(width, height) > 200 * min(width, height):
        return
    expected = smart_resize(height, width, factor=28, min_pixels=3136, max_pixels=602112)
    image = next(Patching(28, 3136, 602112).sizes(source(width, height)))
    assert image.size == expected[::-1]
    assert image.num_tokens == expected[0] * expected[1] // 28**2


def test_qwen_utils_never_has_a_side_below_one_token():
    assert next(Patching(32, 4096, 10**6, as_qwen_utils=True).sizes(source(1000, 10))).size == (992, 32)


def test_transparency_lies_over_white_for_qwen_utils_and_is_dropped_otherwise():
    for as_utils, colour in ((True, 255), (False, 0)):
        image = next(Patching(28, 784, 10**6, as_qwen_utils=as_utils).sizes(source(56, 56, "RGBA")))
        assert image.pixels().shape == (56, 56, 3) and (image.pixels() == colour).all()


def test_an_image_is_offered_with_ever_fewer_pixels():
    sizes = list(Patching(28, 3136, 602112).sizes(source(1000, 1400)))
    tokens = [image.num_tokens for image in sizes]
    print(tokens)
    assert tokens == sorted(set(tokens), reverse=True) and tokens[-1] <= 8
    assert np.prod(sizes[0].size) <= 602112


def test_the_largest_image_fills_the_pixels():
    assert Patching(28, 3136, 768 * 28 * 28).max_tokens == 768


def test_long_thin_images_are_refused():
    with pytest.raises(InputError, match=r"document 0.*one side is over 200 times"):
        next(Patching(28, 3136, 602112).sizes(source(801, 4)))
