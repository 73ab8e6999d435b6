import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crossrank.inference.planner import padding_share, plan_batches

LENGTHS = st.lists(st.integers(1, 600), max_size=200).map(lambda values: np.array(values, np.int64))
BUDGETS = st.integers(1, 3000)


@given(LENGTHS, BUDGETS, st.integers(1, 8))
def test_every_pair_is_planned_once(lengths, budget, num_streams):
    batches = plan_batches(lengths, budget_tokens=budget, num_streams=num_streams)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))


@given(LENGTHS, BUDGETS, st.integers(1, 8))
def test_padded_batches_keep_the_budget_unless_one_pair_alone_is_longer(lengths, budget, num_streams):
    for batch in plan_batches(lengths, budget_tokens=budget, num_streams=num_streams):
        assert lengths[batch].max() * len(batch) <= budget or len(batch) == 1


@given(LENGTHS, BUDGETS, st.integers(1, 8))
def test_longest_pairs_start_first(lengths, budget, num_streams):
    batches = plan_batches(lengths, budget_tokens=budget, num_streams=num_streams)
    planned = [lengths[row] for batch in batches for row in batch]
    assert planned == sorted(planned, reverse=True)


def test_equal_pairs_fill_the_budget():
    batches = plan_batches(np.full(10, 100), budget_tokens=400)
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_few_pairs_are_spread_over_all_streams():
    batches = plan_batches(np.full(20, 130), budget_tokens=10_000, num_streams=2)
    first_stream, second_stream = 0, 0
    for batch in batches:  # each stream takes the next batch when it is free
        if first_stream <= second_stream:
            first_stream += 130 * len(batch)
        else:
            second_stream += 130 * len(batch)
    assert abs(first_stream - second_stream) <= 260


def tokens_of(lengths, batches):
    return [int(lengths[batch].sum()) for batch in batches]


def test_every_stream_gets_as_few_batches_of_equal_work_as_keep_the_budget():
    for count, sizes in [(16, [800, 800]), (20, [1000, 1000]), (22, [600, 500, 600, 500]), (60, [1000] * 6)]:
        lengths = np.full(count, 100)
        assert tokens_of(lengths, plan_batches(lengths, budget_tokens=1024, num_streams=2)) == sizes
    short = np.full(60, 25)
    assert tokens_of(short, plan_batches(short, budget_tokens=1024, num_streams=4)) == [375] * 4


def test_little_work_is_not_torn_apart():
    for num_tokens, sizes in [(75, [75]), (150, [150]), (300, [150, 150]), (500, [175, 150, 175])]:
        lengths = np.full(num_tokens // 25, 25)
        assert tokens_of(lengths, plan_batches(lengths, budget_tokens=1024, num_streams=8)) == sizes


def test_padding_does_not_leave_one_batch_over():
    lengths = np.array([30] * 5 + [20] * 90)  # 1950 tokens, but no 1024 places for half of them
    batches = plan_batches(lengths, budget_tokens=1024, num_streams=2)
    assert len(batches) == 4
    assert max(tokens_of(lengths, batches)) - min(tokens_of(lengths, batches)) <= 30


def test_nothing_to_plan():
    assert plan_batches(np.array([], np.int64), budget_tokens=1024, num_streams=2) == []


def test_padding_share_is_the_part_of_the_positions_without_a_token():
    lengths = np.array([4, 2, 3, 3], np.int64)
    assert padding_share(lengths, [np.array([0, 1]), np.array([2, 3])]) == 1 - 12 / 14
    assert padding_share(lengths, [np.array([i]) for i in range(4)]) == 0
