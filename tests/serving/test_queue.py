"""The queue of tokens: whole requests in, slices of many out, nothing beyond its bounds."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.encoding.pairs import EncodedPairs
from crossrank.inference.overflow import Windows
from crossrank.reranker import PreparedDocuments
from crossrank.serving.problems import Kind, Problem
from crossrank.serving.queue import TokenQueue


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def prepared(*lengths: int) -> PreparedDocuments:
    ids = [np.full(length, 7, np.int32) for length in lengths]
    encoded = EncodedPairs(ids, ids, np.array(lengths, np.int64), np.zeros(len(lengths), np.bool_))
    return PreparedDocuments(Windows([], np.arange(len(lengths)), [None] * len(lengths)), encoded)


def put_in(queue: TokenQueue, *lengths: int, **options):
    ticket = queue.admit(sum(lengths), **({"deadline": 1e9} | options))
    queue.fill(ticket, prepared(*lengths))
    return ticket


def rows_of(step) -> list[tuple[int, int]]:
    return [(part.rows.start, part.rows.stop) for part in step]


def compute(queue: TokenQueue, step) -> None:
    queue.put(step, np.ones((sum(part.rows.stop - part.rows.start for part in step), 1), np.float32))


def test_requests_share_a_step_in_the_order_in_which_they_came():
    queue = TokenQueue(1000)
    tickets = [put_in(queue, 10, 20), put_in(queue, 30), put_in(queue, 5)]
    step = queue.take(100)
    assert [part.ticket for part in step] == tickets
    compute(queue, step)
    assert all(ticket.is_done and ticket.error is None for ticket in tickets)
    assert queue.num_tokens == queue.num_requests == 0


def test_a_long_request_leaves_half_of_the_step_to_those_behind_it():
    queue = TokenQueue(10_000)
    long, short = put_in(queue, *[10] * 50), put_in(queue, 10, 10)
    step = queue.take(100)
    assert [(part.ticket, part.num_tokens) for part in step] == [(long, 50), (short, 20), (long, 30)]
    compute(queue, step)
    assert short.is_done
    assert not long.is_done
    while not long.is_done:
        compute(queue, queue.take(100))
    assert long.logits.shape == (50, 1)


def test_alone_a_request_takes_the_whole_step_and_a_pair_may_be_larger_than_it():
    queue = TokenQueue(10_000)
    put_in(queue, *[10] * 20)
    assert sum(part.num_tokens for part in queue.take(100)) == 100
    queue = TokenQueue(10_000)
    put_in(queue, 500, 500)
    assert rows_of(queue.take(100)) == [(0, 1)]


def test_lower_priority_numbers_go_first():
    queue = TokenQueue(1000)
    later, sooner = put_in(queue, 50, priority=5), put_in(queue, 50, priority=0)
    assert [part.ticket for part in queue.take(50)] == [sooner]
    assert [part.ticket for part in queue.take(50)] == [later]


def test_one_request_a_step_where_that_is_asked_for():
    queue = TokenQueue(1000, max_requests=1)
    first, second = put_in(queue, 5, 5), put_in(queue, 5)
    assert {part.ticket for part in queue.take(100)} == {first}
    assert {part.ticket for part in queue.take(100)} == {second}


def test_a_full_queue_refuses_the_whole_request_and_says_when_to_come_back():
    queue = TokenQueue(100)
    put_in(queue, 60)
    queue.observe(10, 1.0)
    with pytest.raises(Problem) as refused:
        queue.admit(80, deadline=1e9)
    assert refused.value.kind is Kind.OVERLOADED
    assert refused.value.retry_after_s == 4  # 140 tokens are 40 too many, at 10 a second
    assert queue.num_tokens == 60
    assert queue.num_requests == 1


def test_a_request_larger_than_the_queue_is_taken_when_it_is_alone():
    queue = TokenQueue(100)
    ticket = put_in(queue, 90, 90)
    compute(queue, queue.take(1000))
    assert ticket.is_done


def test_what_cannot_be_done_before_the_deadline_is_refused_at_once():
    clock = Clock()
    queue = TokenQueue(1_000_000, clock=clock)
    queue.observe(1000, 1.0)
    put_in(queue, 1200)
    queue.admit(50, deadline=clock.now + 2)
    with pytest.raises(Problem) as refused:
        queue.admit(100, deadline=clock.now + 2)
    assert refused.value.kind is Kind.OVERLOADED
    queue.admit(100, deadline=clock.now + 10)


def test_a_request_has_to_wait_for_all_of_the_step_that_it_is_in():
    clock = Clock()
    queue = TokenQueue(1_000_000, clock=clock)
    queue.observe(1000, 1.0)
    put_in(queue, 1000)
    queue.take(1000)
    queue.admit(1000, deadline=clock.now + 3.6)  # 2400 tokens in two thirds of the time
    with pytest.raises(Problem):
        queue.admit(300, deadline=clock.now + 3.6)  # it would be in the third step, which others fill up
    queue.admit(300, deadline=clock.now + 4.6)


def test_the_speed_follows_the_last_seconds():
    queue = TokenQueue(100)
    assert queue.tokens_per_s == float("inf")
    queue.observe(1000, 1.0)
    assert queue.tokens_per_s == pytest.approx(1000)
    for _ in range(100):
        queue.observe(10, 1.0)
    assert queue.tokens_per_s == pytest.approx(10, rel=0.01)


def test_the_speed_counts_what_is_between_two_steps_and_not_the_pauses():
    clock = Clock()
    queue = TokenQueue(1000, clock=clock)
    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(queue.take, 60)
        time.sleep(0.1)
        clock.now += 100  # nobody comes
        put_in(queue, 60, 60)
        step = taking.result()
    clock.now += 0.5
    compute(queue, step)
    clock.now += 0.1
    step = queue.take(60)
    clock.now += 0.5
    compute(queue, step)
    assert queue.tokens_per_s == pytest.approx(120 / 1.1, rel=0.02)


def test_late_and_abandoned_requests_are_dropped_before_they_are_computed():
    clock = Clock()
    queue = TokenQueue(1000, clock=clock)
    late, abandoned, good = put_in(queue, 10, deadline=101), put_in(queue, 20), put_in(queue, 30)
    clock.now = 102
    queue.withdraw(abandoned)
    assert [part.ticket for part in queue.take(100)] == [good]
    assert late.error.kind is Kind.TIMEOUT
    assert abandoned.error.kind is Kind.ABANDONED
    assert queue.num_tokens == 30


def test_a_request_that_is_dropped_while_it_is_computed_gives_its_tokens_back_once():
    queue = TokenQueue(1000)
    dropped, kept = put_in(queue, 10, 10), put_in(queue, 10)
    step = queue.take(100)
    queue.withdraw(dropped)
    assert queue.num_tokens == 10
    compute(queue, step)
    assert queue.num_tokens == 0
    assert kept.is_done and kept.error is None
    assert dropped.error.kind is Kind.ABANDONED


def test_a_request_that_is_dropped_before_it_is_tokenised_is_never_in_line():
    queue = TokenQueue(1000)
    ticket = queue.admit(10, deadline=1e9)
    queue.withdraw(ticket)
    queue.fill(ticket, prepared(10))
    queue.close()
    assert queue.take(100) == []


def test_the_estimate_is_replaced_by_the_real_number():
    queue = TokenQueue(1000)
    ticket = queue.admit(400, deadline=1e9)
    assert queue.num_tokens == 400
    queue.fill(ticket, prepared(30, 40))
    assert queue.num_tokens == 70


def test_a_closed_queue_gives_what_it_has_then_nothing_and_takes_nothing_in():
    queue = TokenQueue(1000)
    ticket = queue.admit(10, deadline=1e9)  # still being tokenised
    queue.close()
    with pytest.raises(Problem) as refused:
        queue.admit(1, deadline=1e9)
    assert refused.value.kind is Kind.UNAVAILABLE
    threading.Timer(0.05, lambda: queue.fill(ticket, prepared(10))).start()
    step = queue.take(100)
    assert [part.ticket for part in step] == [ticket]
    compute(queue, step)
    assert queue.take(100) == []


@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=8), min_size=1, max_size=12), st.integers(1, 150))
def test_every_pair_is_computed_once_within_the_budget(requests, budget):
    queue = TokenQueue(100_000)
    tickets = [put_in(queue, *lengths) for lengths in requests]
    seen = {ticket: [] for ticket in tickets}
    for _ in range(1000):
        if all(ticket.is_done for ticket in tickets):
            break
        step = queue.take(budget)
        num_tokens = sum(part.num_tokens for part in step)
        num_pairs = sum(part.rows.stop - part.rows.start for part in step)
        assert num_tokens <= budget or num_pairs == 1
        logits = []
        for part in step:
            seen[part.ticket] += range(part.rows.start, part.rows.stop)
            logits += [[100 * tickets.index(part.ticket) + row] for row in range(part.rows.start, part.rows.stop)]
        queue.put(step, np.array(logits, np.float32))
    for number, (ticket, lengths) in enumerate(zip(tickets, requests, strict=True)):
        assert seen[ticket] == list(range(len(lengths)))
        assert ticket.logits[:, 0].tolist() == [100 * number + row for row in range(len(lengths))]
    assert queue.num_tokens == 0
