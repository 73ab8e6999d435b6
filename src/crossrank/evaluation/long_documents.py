"""Long documents whose answer stands at a chosen depth, made from real paragraphs.

Every candidate, relevant or not, is one paragraph inside a long document of others, all at the same depth. What a model
does not read there cannot help it, so the figures show up to where it reads.

Source: the idea of FarRelevant, Boytsov et al., "Understanding Performance of Long-Document Ranking Models through
Comprehensive Evaluation and Leaderboarding" (2022, arXiv 2207.01262).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from crossrank.data.evaluation_set import DocumentStore, EvaluationSet, stable_hash
from crossrank.errors import InputError
from crossrank.evaluation.ordering import Run
from crossrank.evaluation.pages import html_page, html_plot, html_table, markdown_table
from crossrank.evaluation.plots import curves
from crossrank.evaluation.results import installed_versions
from crossrank.evaluation.store import write_text
from crossrank.evaluation.tables import Table
from crossrank.types import Document

# Paragraphs that documents are filled up with; more would only take memory.
MOST_FILLERS = 2000
FEWEST_FILLERS = 20


class BuriedParagraphs:
    """The paragraphs of a corpus, each inside a long document.

    A paragraph is among the same others at every depth; its own title is left out, for it would stand at the top.

    Args:
        paragraphs: The corpus.
        document_ids: Those that can be asked for.
        fillers: Texts of other paragraphs.
        position: Where the paragraph stands: 0 at the beginning, 1 at the end.
        words: The least length of a document.
    """

    def __init__(
        self,
        paragraphs: DocumentStore,
        document_ids: Sequence[str],
        fillers: Sequence[str],
        *,
        position: float,
        words: int,
    ) -> None:
        self._paragraphs = paragraphs
        self._ids = dict.fromkeys(document_ids)
        self._fillers = fillers
        self._position = position
        self._words = words

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, document_id: object) -> bool:
        return document_id in self._ids

    def __iter__(self) -> Iterator[Document]:
        for document_id in self._ids:
            document = self.get(document_id)
            assert document is not None
            yield document

    def get(self, document_id: str) -> Document | None:
        """Return the long document around a paragraph."""
        paragraph = self._paragraphs.get(document_id) if document_id in self._ids else None
        if paragraph is None:
            return None
        around = self._around(document_id, len(paragraph.text.split()))
        place = round(self._position * len(around))
        return Document("\n\n".join([*around[:place], paragraph.text, *around[place:]]), id=document_id)

    def _around(self, document_id: str, words: int) -> list[str]:
        generator = random.Random(stable_hash("far-relevant", document_id))
        around: list[str] = []
        while words < self._words:
            around.append(generator.choice(self._fillers))
            words += max(1, len(around[-1].split()))
        return around


def far_relevant_sets(
    data: EvaluationSet, candidates: Run, *, positions: Sequence[float], words: int
) -> dict[float, EvaluationSet]:
    """Return a set for each position, with the same queries and candidates.

    Only queries whose candidates hold a relevant paragraph are in it: the question is where it stands, not whether it
    was found. The paragraphs around come from the same corpus and are candidates of none of these queries.

    Args:
        data: Queries over short paragraphs.
        candidates: Of each query.
        positions: From 0 to 1.
        words: The least length of a document.

    Raises:
        InputError: If a position is out of range, or there are no queries or too few paragraphs to fill up with.
    """
    wrong = next((position for position in positions if not 0 <= position <= 1), None)
    if wrong is not None:
        raise InputError(f"a position lies between 0 (the beginning) and 1 (the end), not {wrong}")
    qrels = {
        query_id: grades
        for query_id, grades in data.qrels.items()
        if any(grades.get(item.document_id, 0) > 0 for item in candidates.get(query_id, ()))
    }
    if not qrels:
        raise InputError(f"no query of {data.name} has a relevant paragraph among its candidates")
    given = {query_id: [item.document_id for item in candidates[query_id]] for query_id in qrels}
    buried = list(dict.fromkeys(document_id for found in given.values() for document_id in found))
    relevant = {document_id for grades in data.qrels.values() for document_id, grade in grades.items() if grade > 0}
    fillers = _fillers(data, {*buried, *relevant})
    return {
        position: replace(
            data,
            name=f"{data.name}-{words}-words-at-{position:g}",
            qrels=qrels,
            candidates=given,
            corpus=BuriedParagraphs(data.corpus, buried, fillers, position=position, words=words),
        )
        for position in positions
    }


def _fillers(data: EvaluationSet, excluded: set[str]) -> list[str]:
    free = [(document.id or "", document.text) for document in data.corpus if document.id not in excluded]
    chosen = sorted((item for item in free if item[1].strip()), key=lambda item: stable_hash("filler", item[0]))
    if len(chosen) < FEWEST_FILLERS:
        raise InputError(
            f"{data.name} has {len(chosen)} paragraphs that are no candidates, and {FEWEST_FILLERS} are needed to fill "
            "documents up: take fewer queries or fewer candidates"
        )
    return [text for _, text in chosen[:MOST_FILLERS]]


@dataclass(frozen=True)
class PositionCurve:
    """nDCG@10 of one way to read long documents, by position."""

    name: str
    points: tuple[tuple[float, float], ...]


def position_table(curves_: Sequence[PositionCurve], *, title: str, note: str) -> Table:
    """Return the curves as a table, a row a position."""
    rows = tuple(
        (f"{place:g}", *(f"{curve.points[i][1]:.4f}" for curve in curves_))
        for i, (place, _) in enumerate(curves_[0].points)
    )
    return Table(title, ("position", *(curve.name for curve in curves_)), rows, note)


def write_position_report(
    folder: Path, curves_: Sequence[PositionCurve], facts: Mapping[str, object], *, title: str, note: str
) -> None:
    """Write `far_relevant.json`, `far_relevant.md` and `far_relevant.html` with the plot."""
    table = position_table(curves_, title=title, note=note)
    known = {**facts, "nDCG@10": {curve.name: dict(curve.points) for curve in curves_}}
    write_text(folder / "far_relevant.json", json.dumps(known | {"versions": installed_versions()}, indent=2) + "\n")
    write_text(folder / "far_relevant.md", f"# Long documents\n\n{markdown_table(table)}")
    svg = curves(
        {curve.name: curve.points for curve in curves_}, x_label="position of the answer: 0 beginning, 1 end",
        y_label="nDCG@10",
    )  # fmt: skip
    sections = [html_plot("nDCG@10 against the position of the answer", svg), html_table(table)]
    write_text(folder / "far_relevant.html", html_page("Long documents", sections))
