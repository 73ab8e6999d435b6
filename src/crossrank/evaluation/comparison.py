"""Base against reranked: what a model does to the candidates of a data set, in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from crossrank.data.evaluation_set import EvaluationSet
from crossrank.evaluation.measures import Measure, parse_measures, per_query
from crossrank.evaluation.ordering import Run, ideal
from crossrank.evaluation.significance import (
    Floats,
    Interval,
    Outcome,
    bootstrap_interval,
    count_outcomes,
    holm,
    randomisation_p_value,
)

# Names of systems: what a column of a table stands for.
BM25, FIRST_STAGE, RERANKED, ORACLE = "bm25", "first_stage", "reranked", "oracle_positives"
CEILING = "ceiling"
DEFAULT_JUDGED_CUTOFF = 10


@dataclass(frozen=True)
class Difference:
    """A system against the first stage, by one measure.

    Attributes:
        delta: Mean over the queries.
        ci95: Its bootstrap interval.
        p_value: Of the paired randomisation test, corrected over the data sets of the grid.
        p_value_uncorrected: Of this data set alone.
        outcome: Queries won, lost and tied.
    """

    delta: float
    ci95: Interval
    p_value: float
    p_value_uncorrected: float
    outcome: Outcome


@dataclass(frozen=True)
class Cell:
    """One model on one data set.

    Attributes:
        model: Its label.
        dataset: Its name.
        split: Of the data set.
        first_stage: The name of what gave the candidates.
        queries: Texts of the judged queries.
        num_queries_of_set: How many judged queries the split has; more than `queries` where a sample was taken.
        depth: Most candidates of a query.
        values: By system, measure and query; the first measure is the main one.
        judged: Share of the documents that a reader sees that anybody has judged, by system.
        judged_measure: Which share, as in `"Judged@10"`.
        differences: Against the first stage, by system and measure.
        pairs: Candidates that were scored.
        seconds: That scoring took.
        pairs_per_second: Of the scoring alone.
        language: Of the data set, where it is known.
    """

    model: str
    dataset: str
    split: str
    first_stage: str
    queries: Mapping[str, str]
    num_queries_of_set: int
    depth: int
    values: Mapping[str, Mapping[str, Mapping[str, float]]]
    judged: Mapping[str, float]
    judged_measure: str
    pairs: int
    seconds: float
    pairs_per_second: float
    language: str | None = None
    differences: Mapping[str, Mapping[str, Difference]] = field(default_factory=dict)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures, the main one first."""
        return tuple(self.values[FIRST_STAGE])

    @property
    def rerankings(self) -> tuple[str, ...]:
        """Systems that are compared with the first stage: the model, and its fusions."""
        return tuple(name for name in self.values if name == RERANKED or name.startswith("fused "))

    def mean(self, system: str, measure: str) -> float:
        """Return the mean over all judged queries."""
        return float(np.mean(list(self.values[system][measure].values())))

    def per_query_differences(self, system: str, measure: str) -> Floats:
        """Return system minus first stage, `(Q,)`, in the order of the judged queries."""
        ours, base = self.values[system][measure], self.values[FIRST_STAGE][measure]
        return np.array([ours[query_id] - base[query_id] for query_id in base])


@dataclass(frozen=True)
class Scored:
    """What one model made of the candidates of one data set.

    Attributes:
        model: Its label.
        first_stage: The name of what gave the candidates.
        depth: Most candidates of a query.
        runs: Candidates by query, by system, best first; with `first_stage` and `reranked`.
        pairs: That were scored.
        seconds: That scoring them took.
    """

    model: str
    first_stage: str
    depth: int
    runs: Mapping[str, Run]
    pairs: int
    seconds: float


def compare(
    data: EvaluationSet, scored: Scored, measures: Sequence[Measure], *, num_queries_of_set: int | None = None
) -> Cell:
    """Measure every system on every judged query, and compare with the first stage.

    Args:
        data: The judgements; maybe a sample of the queries of the set.
        scored: The runs.
        measures: The main one first.
        num_queries_of_set: Judged queries of the whole split, where `data` is a sample.
    """
    runs = dict(scored.runs) | {CEILING: ideal(scored.runs[FIRST_STAGE], data.qrels)}
    values = {system: per_query(run, data.qrels, measures) for system, run in runs.items()}
    cutoff = measures[0].cutoff or DEFAULT_JUDGED_CUTOFF
    cell = Cell(
        model=scored.model,
        dataset=data.name,
        split=data.split,
        first_stage=scored.first_stage,
        queries={query_id: data.queries[query_id] for query_id in data.qrels},
        num_queries_of_set=num_queries_of_set or len(data.qrels),
        depth=scored.depth,
        values=values,
        judged={system: _judged(data, runs[system], cutoff) for system in (FIRST_STAGE, RERANKED)},
        judged_measure=f"Judged@{cutoff}",
        pairs=sum(map(len, scored.runs[RERANKED].values())),
        seconds=scored.seconds,
        pairs_per_second=scored.pairs / scored.seconds if scored.seconds > 0 else 0.0,
        language=data.language,
    )
    differences = {
        system: {measure: _difference(cell.per_query_differences(system, measure)) for measure in cell.measures}
        for system in cell.rerankings
    }
    return replace(cell, differences=differences)


def _judged(data: EvaluationSet, run: Run, cutoff: int) -> float:
    (measure,) = parse_measures(f"Judged@{cutoff}")
    return float(np.mean(list(per_query(run, data.qrels, [measure])[measure.name].values())))


def _difference(differences: Floats) -> Difference:
    p_value = randomisation_p_value(differences)
    interval = bootstrap_interval([differences])
    return Difference(float(differences.mean()), interval, p_value, p_value, count_outcomes(differences))


def correct_over_datasets(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Return the cells with p-values corrected (Holm) over the data sets of each model, system and measure."""
    families: dict[tuple[str, str, str], dict[str, float]] = {}
    for cell in cells:
        for system, by_measure in cell.differences.items():
            for measure, difference in by_measure.items():
                family = families.setdefault((cell.model, system, measure), {})
                family[cell.dataset] = difference.p_value_uncorrected
    corrected = {family: holm(p_values) for family, p_values in families.items()}
    return tuple(
        replace(
            cell,
            differences={
                system: {
                    measure: replace(difference, p_value=corrected[cell.model, system, measure][cell.dataset])
                    for measure, difference in by_measure.items()
                }
                for system, by_measure in cell.differences.items()
            },
        )
        for cell in cells
    )


def mean_difference(cells: Sequence[Cell], system: str, measure: str) -> tuple[float, Interval]:
    """Return the mean of a system's differences over data sets that count the same, and its bootstrap interval."""
    groups = [cell.per_query_differences(system, measure) for cell in cells]
    return float(np.mean([group.mean() for group in groups])), bootstrap_interval(groups)
