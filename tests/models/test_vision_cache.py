from dataclasses import dataclass

import torch

from crossrank.models.vision_cache import VisionCache


@dataclass(frozen=True)
class Shown:
    key: bytes
    num_tokens: int = 1


def run(cache, *keys):
    """The features asked for, and which images had to be encoded."""
    encoded = []

    def encode(images):
        encoded.extend(image.key for image in images)
        return list(torch.stack([torch.full((2, 4), float(image.key[0])) for image in images]))

    features = cache.features([Shown(key) for key in keys], encode)
    assert [int(feature[0, 0]) for feature in features] == [key[0] for key in keys]
    return encoded


def test_each_image_is_encoded_once():
    cache = VisionCache(max_bytes=1000)
    assert run(cache, b"a", b"b", b"a") == [b"a", b"b"]
    assert run(cache, b"b", b"c", b"a") == [b"c"]
    assert len(cache) == 3 and cache.num_bytes == 3 * 2 * 4 * 4


def test_the_one_not_seen_for_longest_is_forgotten():
    cache = VisionCache(max_bytes=2 * 32)
    run(cache, b"a", b"b")
    run(cache, b"a")
    assert run(cache, b"c") == [b"c"]
    assert cache.num_bytes == 64
    assert run(cache, b"a", b"c") == []
    assert run(cache, b"b") == [b"b"]


def test_what_is_larger_than_the_cache_is_not_kept():
    cache = VisionCache(max_bytes=31)
    assert run(cache, b"a") == [b"a"] and len(cache) == 0
    assert run(cache, b"a") == [b"a"]
