"""Prometheus metrics: requests, tokens, the queue, batches, latency by stage, truncations and rejections."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from crossrank.serving.exchange import Timings
from crossrank.serving.queue import TokenQueue

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = tuple(float(2**n) for n in range(0, 17, 2))
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75)
_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The metrics of one app, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"crossrank_{name}", what, labels, registry=self.registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"crossrank_{name}", what, labels, registry=self.registry, buckets=buckets)

        def gauge(name: str, what: str) -> Gauge:
            return Gauge(f"crossrank_{name}", what, ("model",), registry=self.registry, multiprocess_mode="livesum")

        self._requests = counter("requests", "Answered requests.", "dialect", "status")
        self._rejections = counter("rejections", "Requests that were not answered, by reason.", "dialect", "reason")
        self._documents = counter("documents", "Documents that were ranked.", "model")
        self._tokens = counter("tokens", "Tokens that were computed.", "model")
        self._truncations = counter("truncated_documents", "Documents that lost text.", "model")
        self._seconds = histogram("request_seconds", "From the first byte to the answer.", _SECONDS, "dialect")
        self._stages = histogram("stage_seconds", "Of one request, by stage.", _SECONDS, "model", "stage")
        self._batch_seconds = histogram("batch_seconds", "Of one step of the engine.", _SECONDS, "model")
        self._batch_requests = histogram("batch_requests", "Requests that shared a step.", _SIZES, "model")
        self._batch_pairs = histogram("batch_pairs", "Pairs of a step.", _SIZES, "model")
        self._batch_tokens = histogram("batch_tokens", "Tokens of a step.", _SIZES, "model")
        self._padding = histogram("batch_padding_share", "Part of padded batches without a token.", _SHARES, "model")
        self._queue_tokens = gauge("queue_tokens", "Tokens that wait or are computed.")
        self._queue_requests = gauge("queue_requests", "Requests that wait or are computed.")

    def request(self, dialect: str, status: int, seconds: float) -> None:
        """Count a request that was answered or refused."""
        self._requests.labels(dialect, str(status)).inc()
        self._seconds.labels(dialect).observe(seconds)

    def rejection(self, dialect: str, reason: str) -> None:
        """Count a request that was not answered."""
        self._rejections.labels(dialect, reason).inc()

    def answered(self, model: str, timings: Timings, num_documents: int, num_truncated: int) -> None:
        """Count what was answered and where the time went."""
        self._documents.labels(model).inc(num_documents)
        self._truncations.labels(model).inc(num_truncated)
        self._stages.labels(model, "tokenise").observe(timings.tokenise_s)
        self._stages.labels(model, "queue").observe(timings.queue_s)
        self._stages.labels(model, "compute").observe(timings.compute_s)

    def step(
        self, model: str, num_requests: int, lengths: npt.NDArray[np.int64], padding: float, seconds: float
    ) -> None:
        """Count a step of the engine: pairs with these lengths, `(P,)`."""
        num_tokens = int(lengths.sum())
        self._tokens.labels(model).inc(num_tokens)
        self._batch_seconds.labels(model).observe(seconds)
        self._batch_requests.labels(model).observe(num_requests)
        self._batch_pairs.labels(model).observe(len(lengths))
        self._batch_tokens.labels(model).observe(num_tokens)
        self._padding.labels(model).observe(padding)

    def queue(self, model: str, queue: TokenQueue) -> None:
        """Take down how full a queue is."""
        self._queue_tokens.labels(model).set(queue.num_tokens)
        self._queue_requests.labels(model).set(queue.num_requests)

    def forget(self, model: str) -> None:
        """Drop the queue of a model that is gone."""
        if _MULTIPROCESS not in os.environ:
            self._queue_tokens.remove(model)
            self._queue_requests.remove(model)

    def render(self) -> bytes:
        """Return the text that Prometheus reads; of all processes, where there are several."""
        if _MULTIPROCESS not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
