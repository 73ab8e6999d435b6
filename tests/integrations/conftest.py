"""The server of `tests/serving`, for the clients that are tested against it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

# Some frameworks call home otherwise.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"


@pytest.fixture(scope="session")
def tiny_reranker(tiny_checkpoint):
    from crossrank import Reranker

    return Reranker.load(tiny_checkpoint("bert"), backend="torch")


@pytest.fixture(scope="session")
def server(tiny_reranker):
    """A server on a real socket, on the tiny model."""
    from running_server import Running

    from crossrank.serving.options import ServeOptions
    from crossrank.serving.service import Service

    service = Service(ServeOptions(models=()))
    service.models.add("tiny", tiny_reranker)
    running = Running(service)
    yield running
    running.stop()
