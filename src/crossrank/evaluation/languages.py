"""Figures by language: every language counts the same, and the worst one is named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from crossrank.errors import InputError
from crossrank.evaluation.comparison import Cell
from crossrank.evaluation.tables import NOTHING, Table, system_columns


@dataclass(frozen=True)
class LanguageSummary:
    """What a table by language comes down to.

    Attributes:
        macro_mean: Over languages that count the same, however many queries or sets each has.
        worst: The language of the lowest figure; the first in the order given where several share it.
        worst_value: Its figure.
    """

    macro_mean: float
    worst: str
    worst_value: float


def mean_by_language(results: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return the mean of each language over its sets, in the order in which the languages come first."""
    found: dict[str, list[float]] = {}
    for language, value in results:
        found.setdefault(language, []).append(value)
    return {language: sum(values) / len(values) for language, values in found.items()}


def summarise(by_language: Mapping[str, float]) -> LanguageSummary:
    """Return macro mean and worst language.

    Raises:
        InputError: If there is no language.
    """
    if not by_language:
        raise InputError("there are no figures by language to summarise")
    worst = min(by_language, key=lambda language: by_language[language])
    return LanguageSummary(sum(by_language.values()) / len(by_language), worst, by_language[worst])


def language_tables(cells: Sequence[Cell], families: Mapping[str, str]) -> list[Table]:
    """Return a table for each family of data sets that differ in their languages.

    Args:
        cells: Of all models; those whose language is unknown are left out.
        families: By data set.
    """
    grouped: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.language and cell.dataset in families:
            grouped.setdefault(families[cell.dataset], []).append(cell)
    return [_table(family, group) for family, group in grouped.items() if len({cell.language for cell in group}) > 1]


def _table(family: str, cells: Sequence[Cell]) -> Table:
    measure = cells[0].measures[0]
    columns = {
        head: mean_by_language((str(cell.language), cell.mean(system, measure)) for cell in of if system in cell.values)
        for head, system, of in system_columns(cells)
    }
    languages = list(dict.fromkeys(str(cell.language) for cell in cells))
    rows = [
        (language, *(f"{column[language]:.4f}" if language in column else NOTHING for column in columns.values()))
        for language in languages
    ]
    summaries = [summarise(column) if len(column) == len(languages) else None for column in columns.values()]
    rows.append(
        (f"macro mean of {len(languages)}", *(f"{found.macro_mean:.4f}" if found else NOTHING for found in summaries))
    )
    rows.append(("worst", *(f"{found.worst_value:.4f} ({found.worst})" if found else NOTHING for found in summaries)))
    note = "Each language counts the same."
    if any("-" in language for language in languages):
        note += " In a pair the language of the queries stands first, then that of the documents (xx: several)."
    return Table(f"{family}: {measure} by language", ("language", *columns), tuple(rows), note)
