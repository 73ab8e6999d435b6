"""Log lines: written in batches, and none of them late when something is wrong."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
import time

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


class Unread(io.StringIO):
    """A stream that nobody reads: a write to it waits until `is_read` is set."""

    def __init__(self):
        super().__init__()
        self.is_read = threading.Event()

    def write(self, text: str) -> int:
        self.is_read.wait(30)
        return super().write(text)


def test_a_closed_stream_loses_lines_and_stops_neither_the_thread_nor_the_caller(stream, logger, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)  # where logging complains of a line
    stream.close()
    logger.info("lost")
    logger.warning("lost, too")
    logger.warning("no number: %d", "x")
    handler = logger.handlers[0]
    assert handler._thread.is_alive()
    handler._stream = Stream()
    logger.warning("a stream that can be written to again")
    assert handler._stream.getvalue() == "a stream that can be written to again\n"


def test_a_stream_that_nobody_reads_is_waited_for_once_and_never_at_the_end():
    stream, logger = Unread(), logging.Logger("test")
    handler = BatchHandler(stream)
    logger.addHandler(handler)
    began = time.monotonic()
    for number in range(20_000):
        logger.warning("line %d", number)
    handler.close()
    assert time.monotonic() - began < 5
    logger.warning("after the end")
    stream.is_read.set()
    wait_until(lambda: not handler._thread.is_alive())
    lines = stream.getvalue().splitlines()
    assert lines[0] == "line 0"
    assert lines[-2:] == ["line 19999", "after the end"]
    assert len(lines) <= 10_001, "the oldest of those that wait are dropped"


@pytest.mark.skipif(sys.platform == "win32", reason="its pipes are others")
def test_a_process_ends_although_nobody_reads_its_standard_error():
    code = """
import logging.config
from crossrank.serving.request_log import log_config
logging.config.dictConfig(log_config("info", content=False))
for _ in range(2000):
    logging.getLogger("crossrank").info("x" * 1000)
logging.getLogger("crossrank").warning("this has to wait")
"""
    reading, writing = os.pipe()  # holds 64 kB
    try:
        assert subprocess.run([sys.executable, "-c", code], stderr=writing, timeout=30).returncode == 0
    finally:
        os.close(reading)
        os.close(writing)
