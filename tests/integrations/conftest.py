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


@pytest.fixture(scope="module")
def server(tiny_reranker):
    """A server on a real socket, on the tiny model."""
    from running_server import Running

    with Running.on(tiny_reranker) as running:
        yield running
