"""Clicks with known relevance and known position bias: what the click models are tested against, and a log to try.

Shape letter: `N` documents of one page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from crossrank.data.click_logs import Impression, ResultPage
from crossrank.errors import InputError

# Of a document that is not relevant at all, once it is looked at.
NOISE = 0.1
DWELL_RELEVANT_S, DWELL_IRRELEVANT_S = 60.0, 8.0


def position_bias(num_positions: int, *, severity: float = 1.0) -> np.ndarray:
    """Return the chance that each position is looked at, `1 / rank ** severity`, float64 `(N,)`.

    Source: Joachims, Swaminathan and Schnabel (WSDM 2017), section 6.1.
    """
    return 1 / np.arange(1, num_positions + 1) ** severity


def attractiveness(grades: np.ndarray, *, max_grade: int, noise: float = NOISE) -> np.ndarray:
    """Return the chance of a click on a document that is looked at: `noise + (1 - noise) * (2^g - 1) / (2^max - 1)`.

    Source: Chapelle et al., "Expected reciprocal rank for graded relevance" (CIKM 2009).
    """
    return noise + (1 - noise) * (2.0**grades - 1) / (2.0**max_grade - 1)


def simulate_clicks(
    rankings: Mapping[str, Sequence[str]],
    qrels: Mapping[str, Mapping[str, int]],
    *,
    queries: Mapping[str, str],
    num_pages: int,
    severity: float = 1.0,
    noise: float = NOISE,
    shuffle: float = 0.0,
    user: Literal["pbm", "cascade"] = "pbm",
    seed: int = 0,
) -> Iterator[ResultPage]:
    """Yield result pages with clicks of simulated users.

    Args:
        rankings: Document ids of the page of each query, best first.
        qrels: Grade by document by query; a document without one has 0.
        queries: Text by id.
        num_pages: How many pages; the queries are drawn alike.
        severity: Of the position bias, see `position_bias`; 0 is none. Not read under `"cascade"`.
        noise: Chance of a click on a document of grade 0 that is looked at.
        shuffle: Share of pages whose documents stand in random order: without any, no model can tell a good document
            from a good position.
        user: `"pbm"` looks at each position by its own chance; `"cascade"` reads from the top to the first click.
        seed: Of the users.

    Raises:
        InputError: If there are no rankings, or a query has no text.
    """
    if not rankings:
        raise InputError("simulating clicks needs a ranking for at least one query")
    missing = next((query_id for query_id in rankings if query_id not in queries), None)
    if missing is not None:
        raise InputError(f"no text for query {missing!r}")
    rng = np.random.default_rng(seed)
    max_grade = max((grade for grades in qrels.values() for grade in grades.values()), default=1)
    query_ids = sorted(rankings)
    for number in range(num_pages):
        query_id = query_ids[int(rng.integers(len(query_ids)))]
        shown = list(rankings[query_id])
        if rng.random() < shuffle:
            rng.shuffle(shown)
        grades = np.array([max(qrels.get(query_id, {}).get(document_id, 0), 0) for document_id in shown])
        attracted = rng.random(len(shown)) < attractiveness(grades, max_grade=max(max_grade, 1), noise=noise)
        if user == "pbm":
            clicked = attracted & (rng.random(len(shown)) < position_bias(len(shown), severity=severity))
        else:
            clicked = attracted & (np.cumsum(attracted) == 1)
        impressions = tuple(
            Impression(document_id, place + 1, bool(clicked[place]), dwell_s)
            for place, (document_id, dwell_s) in enumerate(zip(shown, _dwell(clicked, grades, rng), strict=True))
        )
        yield ResultPage(queries[query_id], impressions, query_id=query_id, session=f"s{number + 1}")


def _dwell(clicked: np.ndarray, grades: np.ndarray, rng: np.random.Generator) -> list[float | None]:
    """Return seconds around a minute on a relevant document, and around eight seconds on another; None unclicked."""
    typical = np.where(grades > 0, DWELL_RELEVANT_S, DWELL_IRRELEVANT_S)
    seconds = np.round(typical * rng.lognormal(0, 0.5, len(grades)), 1)
    return [float(stayed) if click else None for stayed, click in zip(seconds, clicked, strict=True)]
