"""Result pages to counts: all that the click models read, in memory bounded by the distinct pairs and positions.

Shape letters: `D` pairs of a query and a document, `K` positions, `E` places: a pair at one position.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from crossrank.data.click_logs import ResultPage

# A click after which the user stayed this long counts as satisfied.
# Source: Fox et al., "Evaluating implicit measures to improve web search" (2005).
SATISFIED_DWELL_S = 30.0

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClickCounts:
    """Counts a place, int64 `(E,)`, and what the places are.

    Attributes:
        queries: Text of each query, as it was first written.
        query_ids: Of the log where it has them, else the number of the query.
        document_ids: Of each pair, `(D,)`.
        query_of_pair: Row in `queries` of each pair, `(D,)`.
        pair: Row of the pair of each place.
        position: Of each place, from 0.
        impressions: How often the document was shown there for the query.
        clicks: How often it was clicked there.
        satisfied: Clicks that were the last of their page, or after which the user stayed.
        examined: Impressions at or above the first click of their page; all of a page without a click.
        first_clicks: Clicks that were the first of their page.
        num_pages: Pages that were counted.
    """

    queries: list[str]
    query_ids: list[str]
    document_ids: list[str]
    query_of_pair: Counts
    pair: Counts
    position: Counts
    impressions: Counts
    clicks: Counts
    satisfied: Counts
    examined: Counts
    first_clicks: Counts
    num_pages: int

    @property
    def num_positions(self) -> int:
        """The lowest position that was ever shown."""
        return int(self.position.max()) + 1 if len(self.position) else 0

    def by_pair(self, counts: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the sum over the positions of each pair, float64 `(D,)`, of something `(E,)`."""
        return np.bincount(self.pair, weights=counts, minlength=len(self.document_ids)).astype(np.float64)

    def by_position(self, counts: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the sum over the pairs at each position, float64 `(K,)`, of something `(E,)`."""
        return np.bincount(self.position, weights=counts, minlength=self.num_positions).astype(np.float64)


@dataclass
class _Columns:
    impressions: array[int] = field(default_factory=lambda: array("q"))
    clicks: array[int] = field(default_factory=lambda: array("q"))
    satisfied: array[int] = field(default_factory=lambda: array("q"))
    examined: array[int] = field(default_factory=lambda: array("q"))
    first_clicks: array[int] = field(default_factory=lambda: array("q"))


class _Counter:
    def __init__(self, satisfied_dwell_s: float) -> None:
        self.satisfied_dwell_s = satisfied_dwell_s
        self.queries: dict[str, int] = {}
        self.texts: list[str] = []
        self.ids: list[str] = []
        self.pairs: dict[tuple[int, str], int] = {}
        self.places: dict[tuple[int, int], int] = {}
        self.columns = _Columns()
        self.num_pages = 0

    def add(self, page: ResultPage) -> None:
        query = self._query(page)
        clicked = [rank for rank, shown in enumerate(page.impressions) if shown.clicked]
        first, last = (clicked[0], clicked[-1]) if clicked else (len(page.impressions), -1)
        columns = self.columns
        for rank, shown in enumerate(page.impressions):
            place = self._place(self.pairs.setdefault((query, shown.document_id), len(self.pairs)), shown.position - 1)
            columns.impressions[place] += 1
            columns.examined[place] += rank <= first
            if shown.clicked:
                stayed = shown.dwell_s is not None and shown.dwell_s >= self.satisfied_dwell_s
                columns.clicks[place] += 1
                columns.first_clicks[place] += rank == first
                columns.satisfied[place] += rank == last or stayed
        self.num_pages += 1

    def _query(self, page: ResultPage) -> int:
        """Return the row of a query; its id is its key where the log has one, else its words, whatever their case."""
        key = f"id {page.query_id}" if page.query_id is not None else "text " + " ".join(page.query.split()).casefold()
        row = self.queries.setdefault(key, len(self.queries))
        if row == len(self.texts):
            self.texts.append(" ".join(page.query.split()))
            self.ids.append(page.query_id or f"q{row + 1}")
        return row

    def _place(self, pair: int, position: int) -> int:
        place = self.places.setdefault((pair, position), len(self.places))
        if place == len(self.columns.impressions):
            for column in vars(self.columns).values():
                column.append(0)
        return place


def count_clicks(pages: Iterable[ResultPage], *, satisfied_dwell_s: float = SATISFIED_DWELL_S) -> ClickCounts:
    """Count the impressions and clicks of every pair at every position.

    Args:
        pages: Read once.
        satisfied_dwell_s: Seconds after which a click counts as satisfied.
    """
    counter = _Counter(satisfied_dwell_s)
    for page in pages:
        counter.add(page)
    places = np.array(list(counter.places), np.int64).reshape(-1, 2)
    columns = {name: np.array(column, np.int64) for name, column in vars(counter.columns).items()}
    return ClickCounts(
        queries=counter.texts,
        query_ids=counter.ids,
        document_ids=[document_id for _, document_id in counter.pairs],
        query_of_pair=np.array([query for query, _ in counter.pairs], np.int64),
        pair=places[:, 0],
        position=places[:, 1],
        num_pages=counter.num_pages,
        **columns,
    )
