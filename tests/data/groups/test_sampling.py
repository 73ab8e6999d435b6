import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crossrank.data.groups.sampling import choose_negatives, hash_text, rotated, shuffled, walk

counts, streams = st.integers(0, 60), st.integers(0, 2**64 - 1)


def test_the_four_samplings_on_ten_negatives():
    def chosen(sampling, epoch):
        stream = hash_text(f"seed {epoch} q1")
        return choose_negatives(10, 4, sampling=sampling, epoch=epoch, stream=stream).tolist()

    assert [chosen("top", epoch) for epoch in range(2)] == [[0, 1, 2, 3]] * 2
    assert [chosen("rotate", epoch) for epoch in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
    assert len({tuple(chosen("random", epoch)) for epoch in range(20)}) > 15
    mixed = [chosen("mixed", epoch) for epoch in range(20)]
    assert all(row[:2] == [0, 1] and min(row[2:]) >= 2 for row in mixed)
    assert len({tuple(row) for row in mixed}) > 10


def test_random_takes_every_negative_equally_often():
    taken = np.zeros(10)
    for epoch in range(2000):
        taken[choose_negatives(10, 3, sampling="random", epoch=epoch, stream=hash_text(f"{epoch} q"))] += 1
    # 600 each; a binomial of 2000 and 0.3 has a deviation of 20.5.
    assert np.abs(taken - 600).max() < 4 * 20.5


@given(counts, st.integers(1, 20), st.sampled_from(["top", "random", "mixed", "rotate"]), st.integers(0, 9), streams)
def test_no_negative_twice_and_as_many_as_there_are(count, num, sampling, epoch, stream):
    chosen = choose_negatives(count, num, sampling=sampling, epoch=epoch, stream=stream).tolist()
    assert len(chosen) == len(set(chosen)) == min(count, num)
    assert set(chosen) <= set(range(count))


@given(st.integers(1, 30), st.integers(1, 10))
def test_rotating_visits_all_before_it_repeats(count, num):
    epochs = -(-count // num)
    seen = np.concatenate([rotated(count, num, epoch) for epoch in range(epochs)])
    assert set(seen.tolist()) == set(range(count))


@given(streams, counts)
def test_orders_hold_every_number_once(stream, count):
    assert sorted(shuffled(stream, count).tolist()) == list(range(count))
    assert sorted(walk(stream, count)) == list(range(count))


def test_another_process_draws_the_same():
    code = (
        "from crossrank.data.groups.sampling import hash_text, shuffled, walk;"
        "print(hash_text('mars é'), shuffled(7, 9).tolist(), list(walk(99, 5)))"
    )
    here = f"{hash_text('mars é')} {shuffled(7, 9).tolist()} {list(walk(99, 5))}"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": "utf-8"},
        )
        assert done.stdout.strip() == here, done.stderr
