"""Measures of a run by ir-measures: a value for every query that is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crossrank.errors import InputError, MissingExtra
from crossrank.evaluation.ordering import Qrels, Run

# Those that trec_eval's library computes, and ir-measures itself; others need programs or files of their own.
FAMILIES = ("nDCG", "RR", "R", "AP", "P", "Success", "Judged")
_PROVIDERS = ("pytrec_eval", "msmarco", "judged")
DEFAULT_MEASURES = "nDCG@10,RR@10,R@5,AP@100"


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        name: As ir-measures writes it, as in `"nDCG@10"`.
        cutoff: How many of the best documents it looks at, or None for all.
        object: Of ir-measures.
    """

    name: str
    cutoff: int | None
    object: Any


def parse_measures(names: str) -> tuple[Measure, ...]:
    """Return the measures of a list with commas, each once, in order.

    `Recall@5`, `MRR@10` and `MAP@100` are read as `R@5`, `RR@10` and `AP@100`. Gains of nDCG are linear, and every
    grade above 0 is relevant, as in trec_eval.

    Raises:
        InputError: If a name is none that is known.
        MissingExtra: If ir-measures is not installed.
    """
    measures: dict[str, Measure] = {}
    for name in names.split(","):
        measure = _parse(name.strip())
        measures.setdefault(measure.name, measure)
    return tuple(measures.values())


def _parse(name: str) -> Measure:
    ir_measures = _load()
    try:
        found = ir_measures.parse_measure(name)
    except (ValueError, NameError):
        found = None
    cutoff = found.params.get("cutoff") if found else None
    if found is not None and not _is_provided(ir_measures, found):
        found = None
    # trec_eval crashes on a cutoff of 0.
    if found is None or found.NAME not in FAMILIES or not (cutoff is None or (isinstance(cutoff, int) and cutoff > 0)):
        known = ", ".join(f"{family}@k" for family in FAMILIES)
        raise InputError(f"{name!r} is no measure; known are {known}, with k above 0, as in {DEFAULT_MEASURES}")
    return Measure(str(found), cutoff, found)


def _is_provided(ir_measures: Any, measure: Any) -> bool:
    try:
        return any(ir_measures.providers.registry[name].supports(measure) for name in _PROVIDERS)
    except (TypeError, ValueError, AssertionError):  # parameters that the measure does not have
        return False


def per_query(run: Run, qrels: Qrels, measures: Sequence[Measure]) -> dict[str, dict[str, float]]:
    """Return by measure the value of each query of the qrels, in their order; 0 for one that the run has not.

    What ir-measures gets for scores are places in the order of the run, so that every measure sees this one order: its
    providers do not agree on equal scores, and some round scores to float32.

    Args:
        run: Candidates, best first.
        qrels: Judgements.
        measures: What to compute.
    """
    ir_measures = _load()
    places = {
        query_id: {candidate.document_id: -place for place, candidate in enumerate(run[query_id])}
        for query_id in qrels
        if run.get(query_id)
    }
    grades = {query_id: dict(judged) for query_id, judged in qrels.items()}
    values = {measure.name: dict.fromkeys(qrels, 0.0) for measure in measures}
    for metric in ir_measures.iter_calc([measure.object for measure in measures], grades, places):
        values[str(metric.measure)][metric.query_id] = float(metric.value)
    return values


def _load() -> Any:
    try:
        import ir_measures
    except ImportError as error:
        raise MissingExtra("evaluation", extra="eval") from error
    return ir_measures
