"""A real server on a real socket, in a thread of the test, on a tiny model; `stub` decides its logits."""

from __future__ import annotations

import logging

import pytest
from running_server import Gate, Running, twin

from crossrank import Reranker


@pytest.fixture(scope="session")
def tiny_reranker(tiny_checkpoint) -> Reranker:
    return Reranker.load(tiny_checkpoint("bert"), backend="torch")


@pytest.fixture
def stub(tiny_reranker):
    """A copy of the tiny model whose `compute` can be replaced: `stub.compute = ...`."""
    return twin(tiny_reranker)


@pytest.fixture
def start(tiny_reranker):
    """Start a server: `start(reranker, name="tiny", **options)`."""
    running = []

    def start(reranker=None, **options) -> Running:
        running.append(Running.on(reranker or tiny_reranker, **options))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="module")
def server(tiny_reranker):
    """One server with defaults on the tiny model, for all tests of a file that change nothing in it."""
    with Running.on(tiny_reranker) as running:
        yield running


@pytest.fixture
def gate(stub):
    """Make the stub's `compute` wait: `gate.opened.clear()`; it is opened at the end of the test."""
    gate = Gate(stub)
    stub.compute = gate
    yield gate
    gate.opened.set()


@pytest.fixture
def log_lines(caplog):
    """The records of the server's loggers as they are written, one JSON text each."""
    from crossrank.serving.request_log import JsonFormatter

    caplog.set_level(logging.DEBUG, logger="crossrank")
    return lambda: [JsonFormatter().format(record) for record in caplog.records]
