"""Tables over views of data sets: a suite beside its published rows, and page data sets by what is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from crossrank.data.evaluation_set import Modality
from crossrank.evaluation.comparison import Cell
from crossrank.evaluation.suites import MODALITIES, Suite
from crossrank.evaluation.tables import NOTHING, Table, system_columns


class View(NamedTuple):
    """A data set, and what of its documents is looked at.

    Attributes:
        title: Of the set; of a published one, as in `PublishedSet.title`.
        modality: What is looked at.
    """

    title: str
    modality: Modality


class ColumnMean(NamedTuple):
    """One figure of a published table, computed from ours.

    Attributes:
        value: The mean over the groups that were evaluated.
        found: How many these are.
        wanted: How many groups the column has.
    """

    value: float
    found: int
    wanted: int


def column_means(suite: Suite, values: Mapping[View, float]) -> dict[str, ColumnMean]:
    """Return the columns of a suite that have at least one whole group.

    Args:
        suite: Says which sets make a group, and which groups a column.
        values: The suite's measure by set and what was looked at.
    """
    all_groups = tuple(dict.fromkeys(part.group for part in suite.parts))
    if suite.columns:
        columns: dict[str, tuple[Modality, tuple[str, ...]]] = {
            name: ("text", groups) for name, groups in suite.columns.items()
        }
    else:
        columns = {modality: (modality, all_groups) for modality in MODALITIES}
    found = {}
    for name, (modality, groups) in columns.items():
        means = [mean for group in groups if (mean := _group_mean(suite, group, modality, values)) is not None]
        if means:
            found[name] = ColumnMean(sum(means) / len(means), len(means), len(groups))
    return found


def _group_mean(suite: Suite, group: str, modality: Modality, values: Mapping[View, float]) -> float | None:
    """Return the mean over the sets of a group, or None where one of them is missing."""
    views = [View(part.data.title, modality) for part in suite.parts if part.group == group]
    known = [values[view] for view in views if view in values]
    return sum(known) / len(known) if len(known) == len(views) else None


def suite_table(suite: Suite, cells: Sequence[Cell], views: Mapping[str, View]) -> Table:
    """Return our systems and the published ones, a column a group of sets.

    Args:
        suite: What was run.
        cells: Of all models on its sets; the suite's measure is among theirs.
        views: By data set of the cells.
    """
    heads = list(suite.columns) or list(MODALITIES)
    rows = []
    for label, system, of in system_columns(cells):
        values = {views[cell.dataset]: cell.mean(system, suite.measure) for cell in of if system in cell.values}
        means = column_means(suite, values)
        rows.append((label, *(_text(means[head]) if head in means else NOTHING for head in heads), "here"))
    for row in suite.references:
        figures = (f"{row.values[head]:.4f}" if head in row.values else NOTHING for head in heads)
        rows.append((row.system, *figures, row.source))
    samples = any(len(cell.queries) < cell.num_queries_of_set for cell in cells)
    note = ("Our rows are on samples of the queries. " if samples else "") + suite.note
    return Table(
        f"{suite.name}: {suite.measure} beside published figures", ("system", *heads, "source"), tuple(rows), note
    )


def modality_table(cells: Sequence[Cell], views: Mapping[str, View]) -> Table | None:
    """Return the data sets that were looked at in several ways, a column each; None where there are none.

    Args:
        cells: Of all models.
        views: By data set of the cells.
    """
    titles = list(dict.fromkeys(views[cell.dataset].title for cell in cells))
    measure = cells[0].measures[0]
    rows = []
    for title in titles:
        of_title = [cell for cell in cells if views[cell.dataset].title == title]
        if len({views[cell.dataset].modality for cell in of_title}) < 2:
            continue
        for label, system, of in system_columns(of_title):
            values = {views[cell.dataset].modality: cell.mean(system, measure) for cell in of if system in cell.values}
            figures = (f"{values[modality]:.4f}" if modality in values else NOTHING for modality in MODALITIES)
            rows.append((title, label, *figures))
    note = "What the model reads of a page; all three rerank the same candidates."
    return (
        Table(f"{measure} by what is looked at", ("data set", "system", *MODALITIES), tuple(rows), note)
        if rows
        else None
    )


def _text(mean: ColumnMean) -> str:
    part = "" if mean.found == mean.wanted else f" ({mean.found} of {mean.wanted})"
    return f"{mean.value:.4f}{part}"
