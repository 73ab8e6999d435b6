"""Which of a group's documents are taken: pure functions of a seed, an epoch and the id of the query.

Nothing here has a state, so the order of calls, the process and the worker do not matter. Randomness is a hash, not a
generator, so that it stays the same under every version of Python and numpy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from math import gcd

import numpy as np
import numpy.typing as npt

from crossrank.data.groups.config import Sampling

Positions = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


def hash_bytes(data: bytes) -> int:
    """Return 64 bits of a cryptographic hash."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def hash_text(text: str) -> int:
    """Return 64 bits of a cryptographic hash."""
    return hash_bytes(text.encode("utf-8"))


def mix(values: Keys) -> Keys:
    """Return a well mixed number for each, one to one.

    Source: SplitMix64, Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
    """
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def shuffled(stream: int, count: int) -> Positions:
    """Return the numbers below `count` in an order that the stream decides."""
    return np.argsort(mix(np.arange(count, dtype=np.uint64) ^ np.uint64(stream)), kind="stable")


def rotated(count: int, num: int, epoch: int) -> Positions:
    """Return `num` of `count` positions (all, where there are fewer), going on where the epoch before stopped."""
    if count <= num:
        return np.arange(count)
    return (epoch * num + np.arange(num)) % count


def choose_negatives(count: int, num: int, *, sampling: Sampling, epoch: int, stream: int) -> Positions:
    """Return which of `count` negatives, best first, are taken: `num`, or all where there are fewer. None twice."""
    if sampling == "rotate":
        return rotated(count, num, epoch)
    if sampling == "random":
        return shuffled(stream, count)[:num]
    if sampling == "mixed":
        top = min((num + 1) // 2, count)
        return np.concatenate([np.arange(top), top + shuffled(stream, count - top)[: num - top]])
    return np.arange(min(num, count))


def walk(stream: int, count: int) -> Iterator[int]:
    """Yield every number below `count` once, from a start and with a step that the stream decides."""
    if count == 0:
        return
    start, step = stream % count, (stream >> 32) % count
    while gcd(step, count) != 1:
        step += 1
    for turn in range(count):
        yield (start + turn * step) % count
