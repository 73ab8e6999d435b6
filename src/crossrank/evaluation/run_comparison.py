"""Two runs side by side: which queries won and lost, and which documents moved."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossrank.data.evaluation_set import EvaluationSet
from crossrank.evaluation.measures import Measure, per_query
from crossrank.evaluation.ordering import Run
from crossrank.evaluation.pages import html_page, html_plot, html_table
from crossrank.evaluation.plots import sorted_differences
from crossrank.evaluation.significance import (
    TOLERANCE,
    Floats,
    Interval,
    Outcome,
    bootstrap_interval,
    count_outcomes,
    randomisation_p_value,
)
from crossrank.evaluation.tables import Table, interval, p_value

# Characters of a document that are shown.
SNIPPET = 400


@dataclass(frozen=True)
class Move:
    """A document that one of the runs shows near its top.

    Attributes:
        document_id: Its id.
        before: Its place in the first run from 1, or None where it is not there.
        after: Its place in the second.
        grade: Of the judgements, or None where nobody judged it.
    """

    document_id: str
    before: int | None
    after: int | None
    grade: int | None

    @property
    def label(self) -> str:
        """How it moved, in a word."""
        if self.before is None:
            return "new"
        if self.after is None:
            return "gone"
        rise = self.before - self.after
        return f"up {rise}" if rise > 0 else f"down {-rise}" if rise < 0 else "stays"


@dataclass(frozen=True)
class QueryChange:
    """A query of both runs.

    Attributes:
        query_id: Its id.
        before: Main measure in the first run.
        after: And in the second.
        moves: Documents by their place in the second run, those that it has not last.
    """

    query_id: str
    before: float
    after: float
    moves: tuple[Move, ...]

    @property
    def delta(self) -> float:
        """Second minus first."""
        return self.after - self.before


@dataclass(frozen=True)
class RunComparison:
    """Two runs on one data set.

    Attributes:
        names: Of both runs.
        measures: Names, the main one first.
        means: Of both runs, by measure.
        changes: Every judged query; the largest gain first, the largest loss last.
        differences: Second minus first by measure `(Q,)`.
        num_in_neither: Judged queries that neither run has.
    """

    names: tuple[str, str]
    measures: tuple[str, ...]
    means: dict[str, tuple[float, float]]
    changes: tuple[QueryChange, ...]
    differences: dict[str, Floats]
    num_in_neither: int

    @property
    def outcome(self) -> Outcome:
        """Queries won, lost and tied by the second run, by the main measure."""
        return count_outcomes(self.differences[self.measures[0]])


def compare_runs(
    data: EvaluationSet, first: Run, second: Run, measures: Sequence[Measure], *, names: tuple[str, str], depth: int
) -> RunComparison:
    """Compare two runs on all judged queries; one that a run does not have counts as 0 there.

    Args:
        data: Judgements.
        first: Candidates, best first.
        second: Of another system.
        measures: The main one first.
        names: Of both runs.
        depth: Documents that are near the top.
    """
    values = [per_query(run, data.qrels, measures) for run in (first, second)]
    main = measures[0].name
    changes = [
        QueryChange(query_id, values[0][main][query_id], values[1][main][query_id],
                    _moves(data, query_id, first, second, depth))
        for query_id in data.qrels
    ]  # fmt: skip
    differences = {
        measure.name: np.array([values[1][measure.name][q] - values[0][measure.name][q] for q in data.qrels])
        for measure in measures
    }
    means = {
        measure.name: (float(np.mean(list(values[0][measure.name].values()))),
                       float(np.mean(list(values[1][measure.name].values()))))
        for measure in measures
    }  # fmt: skip
    ordered = tuple(sorted(changes, key=lambda change: -change.delta))
    num_in_neither = sum(1 for query_id in data.qrels if not (first.get(query_id) or second.get(query_id)))
    return RunComparison(
        names, tuple(measure.name for measure in measures), means, ordered, differences, num_in_neither
    )


def _moves(data: EvaluationSet, query_id: str, first: Run, second: Run, depth: int) -> tuple[Move, ...]:
    before, after = (
        {item.document_id: place for place, item in enumerate(run.get(query_id, ()), start=1)}
        for run in (first, second)
    )
    grades = data.qrels[query_id]
    near = [document_id for document_id, place in after.items() if place <= depth]
    near += [document_id for document_id, place in before.items() if place <= depth and document_id not in near]
    # Relevant documents are shown wherever they stand.
    near += [d for d, grade in grades.items() if grade > 0 and d not in near and (d in before or d in after)]
    moves = [Move(d, before.get(d), after.get(d), grades.get(d)) for d in near]
    return tuple(sorted(moves, key=lambda move: move.after or len(after) + len(before) + 1))


def summary_table(comparison: RunComparison) -> Table:
    """Return both runs by every measure."""
    rows = []
    for measure in comparison.measures:
        before, after = comparison.means[measure]
        differences = comparison.differences[measure]
        ends: Interval = bootstrap_interval([differences])
        rows.append((
            measure, f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}", interval(ends),
            p_value(randomisation_p_value(differences)), "/".join(map(str, count_outcomes(differences))),
        ))  # fmt: skip
    first, second = comparison.names
    absent = comparison.num_in_neither
    sampled = f" Not in either run: {absent}; of a sample, give the same --num-queries." if absent else ""
    return Table(
        f"{second} against {first}, {len(comparison.changes)} queries",
        ("measure", first, second, "difference", "95% interval", "p", "won/lost/tied"),
        tuple(rows),
        "Every judged query counts; one that a run does not have is 0 there." + sampled,
    )


def comparison_page(comparison: RunComparison, data: EvaluationSet, *, num_shown: int) -> str:
    """Return the page: the figures, and the queries that gained and lost most, with the documents that moved.

    Args:
        comparison: Of the runs.
        data: Texts of queries and documents.
        num_shown: Queries of each kind that are shown.
    """
    main = comparison.measures[0]
    won = [change for change in comparison.changes if change.delta > TOLERANCE]
    lost = [change for change in reversed(comparison.changes) if change.delta < -TOLERANCE]
    sections = [
        html_table(summary_table(comparison)),
        html_plot(f"Queries, by their difference in {main}",
                  sorted_differences(comparison.differences[main], label=f"difference in {main}")),
    ]  # fmt: skip
    for title, kind, changes in (("Won", "won", won), ("Lost", "lost", lost)):
        shown = f", the {num_shown} largest shown" if len(changes) > num_shown else ""
        sections.append(f'<h2 class="{kind}">{title}: {len(changes)} queries{shown}</h2>')
        sections += [_query(change, data, comparison, kind) for change in changes[:num_shown]]
    return html_page(f"{comparison.names[1]} against {comparison.names[0]} on {data.name}", sections)


def _query(change: QueryChange, data: EvaluationSet, comparison: RunComparison, kind: str) -> str:
    first, second = map(html.escape, comparison.names)
    rows = "".join(_document(move, data) for move in change.moves)
    return (
        f'<details><summary><span class="{kind}">{change.delta:+.3f}</span> '
        f"{html.escape(data.queries[change.query_id])} "
        f'<span class="note">{html.escape(change.query_id)}: {change.before:.3f} to {change.after:.3f}</span></summary>'
        f'<div class="scroll"><table><thead><tr><th>{second}</th><th>{first}</th><th class="text">moved</th>'
        f'<th>grade</th><th class="text">document</th></tr></thead><tbody>{rows}</tbody></table></div></details>'
    )


def _document(move: Move, data: EvaluationSet) -> str:
    document = data.corpus.get(move.document_id)
    text = " ".join((document.text if document else "").split())
    title = f"<b>{html.escape(document.title)}</b> " if document and document.title else ""
    shown = html.escape(text if len(text) <= SNIPPET else text[:SNIPPET] + "…")
    relevant = ' class="relevant"' if move.grade else ""
    places = "".join(f"<td>{place or '-'}</td>" for place in (move.after, move.before))
    grade = "-" if move.grade is None else str(move.grade)
    return (
        f'<tr{relevant}>{places}<td class="text">{move.label}</td><td>{grade}</td>'
        f'<td class="text">{title}{shown} <span class="note">{html.escape(move.document_id)}</span></td></tr>\n'
    )
