"""One model measured in a process of its own, so that its memory is its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING

from crossrank.cli.loading import LoadOptions
from crossrank.errors import WorkerError

if TYPE_CHECKING:
    from crossrank.evaluation.latency import Latency, Request


@dataclass(frozen=True)
class Measured:
    """What the process found: times, memory, and what ran the model."""

    latency: Latency
    load_seconds: float
    peak_memory_bytes: int
    engine: str


def measure_apart(loading: LoadOptions, requests: Sequence[Request]) -> Measured:
    """Measure a model in a fresh process.

    Raises:
        RerankError: What loading or scoring raised there.
        WorkerError: If the process died.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(measure, loading, requests).result()
        except BrokenProcessPool as error:
            raise WorkerError(
                f"the process that measured {loading.model} died, most likely for want of memory: leave the model out, "
                "or take --dtype bfloat16 or fewer --documents"
            ) from error


def measure(loading: LoadOptions, requests: Sequence[Request]) -> Measured:
    """Load a model and measure it."""
    from crossrank.evaluation.latency import measure_latency, peak_memory_bytes

    began = time.perf_counter()
    reranker = loading.load()
    reranker.rank(*requests[0])
    load_seconds = time.perf_counter() - began
    latency = measure_latency(reranker, requests)
    engine = reranker.engine
    peak = peak_memory_bytes()
    if engine.device.startswith("cuda"):
        import torch

        peak = int(torch.cuda.max_memory_allocated(engine.device))
    return Measured(latency, load_seconds, peak, f"{engine.name} {engine.device} {engine.precision}")
