"""How fast a model answers: the time for one query's documents, and the pairs of many queries at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossrank.types import Document, Ranker, Scorer

# One query and its documents.
Request = tuple[str, list[Document]]

WARM_UP = 3
# Words of a made-up document: about the length of a passage of MS MARCO or of a paragraph of Wikipedia.
WORDS_PER_DOCUMENT = 100
_WORDS = (
    "river city planet bread password water history engine garden music island paper market winter bridge light "
    "question answer system village animal number sound library window morning letter science mountain colour the of "
    "and in to a is was for on with as by that which from its are this were has had or an be it"
)


@dataclass(frozen=True)
class Latency:
    """What was measured.

    Attributes:
        p50_ms: Half of the requests took at most this long, in milliseconds.
        p95_ms: 95 of 100 did.
        pairs_per_second: Of all requests' pairs in one call.
        documents: A request.
        requests: That were timed.
    """

    p50_ms: float
    p95_ms: float
    pairs_per_second: float
    documents: int
    requests: int


def made_up_requests(num_requests: int, num_documents: int, *, seed: int = 0) -> list[Request]:
    """Return requests of random words, the same every time; what they mean does not change how long a model takes."""
    generator, known = random.Random(seed), _WORDS.split()

    def words(count: int) -> str:
        return " ".join(generator.choices(known, k=count))

    return [
        (words(8), [Document(words(WORDS_PER_DOCUMENT), id=f"d{i}") for i in range(num_documents)])
        for _ in range(num_requests)
    ]


def measure_latency(
    model: Ranker, requests: Sequence[Request], *, clock: Callable[[], float] = time.perf_counter
) -> Latency:
    """Time each request on its own, and then the pairs of all of them in one call where the model scores pairs.

    Args:
        model: A ranker; if it is a scorer too, its throughput is that of `score`.
        requests: Those timed; the first ones are also run before, untimed.
        clock: Returns seconds.
    """
    for query, documents in requests[:WARM_UP]:
        model.rank(query, documents)
    seconds = []
    for query, documents in requests:
        began = clock()
        model.rank(query, documents)
        seconds.append(clock() - began)
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    pairs: list[tuple[str, str | Document]] = [(query, document) for query, docs in requests for document in docs]
    total = sum(seconds)
    if isinstance(model, Scorer):
        began = clock()
        model.score(pairs)
        total = clock() - began
    return Latency(float(p50), float(p95), len(pairs) / total, len(requests[0][1]), len(requests))


def peak_memory_bytes() -> int:
    """Return the most memory that this process has held so far.

    On Linux it is read from `/proc`: what `getrusage` says of a new process begins with the peak of its parent.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def pareto_frontier(points: Sequence[tuple[str, float, float]]) -> list[str]:
    """Return the names of the points `(name, cost, quality)` that no other beats in one and equals in the other."""
    return [
        name
        for name, cost, quality in points
        if not any(
            (other_cost <= cost and other_quality >= quality) and (other_cost < cost or other_quality > quality)
            for _, other_cost, other_quality in points
        )
    ]
