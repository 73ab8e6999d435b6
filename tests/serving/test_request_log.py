"""Log lines: written in batches, and none of them late when something is wrong."""

from __future__ import annotations

import io
import logging

import pytest
from running_server import wait_until

from crossrank.serving.request_log import BatchHandler


class Stream(io.StringIO):
    """Counts the times that it is written to."""

    num_writes = 0

    def write(self, text: str) -> int:
        self.num_writes += 1
        return super().write(text)


@pytest.fixture
def stream():
    return Stream()


@pytest.fixture
def logger(stream):
    logger = logging.Logger("test")
    logger.addHandler(BatchHandler(stream))
    yield logger
    logger.handlers[0].close()


def test_many_lines_are_one_write_soon_after(stream, logger):
    for number in range(100):
        logger.info("line %d", number)
    wait_until(lambda: stream.getvalue().count("\n") == 100)
    assert stream.getvalue().splitlines() == [f"line {number}" for number in range(100)]
    assert stream.num_writes <= 3
    logger.info("one more")
    wait_until(lambda: stream.getvalue().endswith("one more\n"))


def test_a_warning_is_written_at_once_behind_what_came_before(stream, logger):
    logger.info("first")
    logger.warning("second")
    assert stream.getvalue() == "first\nsecond\n"


def test_nothing_is_lost_at_the_end_or_after_it(stream, logger):
    logger.info("last")
    logger.handlers[0].close()
    assert stream.getvalue() == "last\n"
    logger.info("after")
    assert stream.getvalue() == "last\nafter\n"
