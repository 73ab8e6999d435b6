"""Which pairs are worth their labels: a budget spread over the queries, and over what the candidates' scores say.

Pure: rankings in, pairs out, and the same seed gives the same pairs.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from crossrank.errors import InputError

# Parts of the score range that get the same number of labels.
BANDS = 5

Candidates = Sequence[tuple[str, float]]  # document id and score, best first
Run = Mapping[str, Candidates]  # by query id


class Choice(NamedTuple):
    """A pair that may be labelled.

    Attributes:
        worth: Compares within one strategy only.
        document_id: The document.
    """

    worth: float
    document_id: str


def sample_pairs(runs: Sequence[Run], *, budget: int, strategy: str, seed: int = 0) -> dict[str, list[str]]:
    """Choose pairs to label: round by round one of each query, the most worthwhile first.

    Args:
        runs: Candidates of one or several rankers; together they are the pool.
        budget: Most pairs.
        strategy: `"uncertain"`: scores in the middle between the query's best and worst. `"disagreeing"`: documents
            that the runs rank differently, weighed by what their places are worth to DCG. `"stratified"`: at random,
            the same number from each fifth of the ranking, from its top down.
        seed: For what is random.

    Returns:
        Ids of documents by query id, in the order of the runs; queries without a choice are left out.

    Raises:
        InputError: If the budget is below 1, there is no run, or one run alone shall disagree.
    """
    if budget < 1 or not runs:
        raise InputError("labels take a budget of at least 1, and at least one run")
    if strategy == "disagreeing" and len(runs) < 2:
        raise InputError("one run cannot disagree with itself: name at least two (--run)")
    query_ids = list(dict.fromkeys(query_id for run in runs for query_id in run))
    choose = STRATEGIES[strategy]
    chosen: dict[str, list[str]] = {query_id: [] for query_id in query_ids}
    waiting = {
        query_id: sorted(choose([run.get(query_id, ()) for run in runs], _generator(seed, query_id)), reverse=True)
        for query_id in query_ids
    }
    while budget > 0 and (round_of := {query_id: choices.pop(0) for query_id, choices in waiting.items() if choices}):
        best = sorted(round_of, key=lambda query_id: -round_of[query_id].worth)[:budget]
        for query_id in best:
            chosen[query_id].append(round_of[query_id].document_id)
        budget -= len(best)
    return {query_id: documents for query_id, documents in chosen.items() if documents}


def _uncertain(runs: Sequence[Candidates], generator: random.Random) -> list[Choice]:
    return [Choice(-abs(place - 0.5), document_id) for document_id, place in _places(runs).items()]


def _disagreeing(runs: Sequence[Candidates], generator: random.Random) -> list[Choice]:
    # Source: the discount of Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (TOIS 2002).
    gains = [{item[0]: 1 / math.log2(rank + 1) for rank, item in enumerate(run, start=1)} for run in runs]
    pool = dict.fromkeys(document_id for run in gains for document_id in run)
    spread = {d: [run.get(d, 0.0) for run in gains] for d in pool}
    return [Choice(max(values) - min(values), document_id) for document_id, values in spread.items()]


def _stratified(runs: Sequence[Candidates], generator: random.Random) -> list[Choice]:
    places = _places(runs)
    ranked = sorted(places, key=lambda document_id: -places[document_id])
    bands = [ranked[len(ranked) * i // BANDS : len(ranked) * (i + 1) // BANDS] for i in range(BANDS)]
    for band in bands:
        generator.shuffle(band)
    order = [band[i] for i in range(max(map(len, bands))) for band in bands if i < len(band)]
    # Below one apart, so that the last round is drawn at random among the queries.
    return [Choice(generator.random() - at, document_id) for at, document_id in enumerate(order)]


def _places(runs: Sequence[Candidates]) -> dict[str, float]:
    """Return where each document stands between the query's worst (0) and best (1), on average over its runs."""
    found: dict[str, list[float]] = {}
    for run in runs:
        scores = [score for _, score in run]
        low, high = (min(scores), max(scores)) if scores else (0.0, 0.0)
        for document_id, score in run:
            found.setdefault(document_id, []).append((score - low) / (high - low) if high > low else 0.5)
    return {document_id: sum(places) / len(places) for document_id, places in found.items()}


def _generator(seed: int, query_id: str) -> random.Random:
    return random.Random(hashlib.sha256(f"{seed}\n{query_id}".encode()).digest())


STRATEGIES: dict[str, Callable[[Sequence[Candidates], random.Random], list[Choice]]] = {
    "stratified": _stratified,
    "uncertain": _uncertain,
    "disagreeing": _disagreeing,
}
