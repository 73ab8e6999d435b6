"""Models times data sets: each cell is scored once, stored, and measured.

Whatever scores or retrieves is handed in, and made only when something is left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from crossrank.data.evaluation_set import EvaluationSet
from crossrank.data.trec import Candidate
from crossrank.errors import InputError
from crossrank.evaluation.candidates import missing_positives
from crossrank.evaluation.comparison import BM25, FIRST_STAGE, ORACLE, RERANKED, Cell, Scored, compare
from crossrank.evaluation.measures import Measure
from crossrank.evaluation.ordering import Run, best_first
from crossrank.evaluation.scoring import score_run
from crossrank.evaluation.store import RunStore, StoredRun
from crossrank.retrieval.fusion import NORMALISATIONS, fuse
from crossrank.types import Ranker, Scorer

Step = Callable[[], None]
# A description, the total and what is done already, to a context with a function that counts one.
Progress = Callable[[str, int, int], AbstractContextManager[Step]]


def no_progress(description: str, total: int, done: int) -> AbstractContextManager[Step]:
    """Draw nothing."""
    return nullcontext(lambda: None)


@dataclass(frozen=True)
class Contestant:
    """A model of the grid.

    Attributes:
        label: For tables and file names; unique.
        settings: Everything that its scores depend on, as plain JSON values.
        load: Loads it; called when the first pair is to be scored.
        fusion: What it states of itself: method, and its own weight.
    """

    label: str
    settings: Mapping[str, Any]
    load: Callable[[], Scorer | Ranker]
    fusion: tuple[str, float] | None = None


@dataclass(frozen=True)
class FirstStage:
    """What gives the candidates.

    Attributes:
        name: For tables and file names.
        find: Returns them for a data set.
        settings: Everything else that they depend on.
        is_ranked: Whether it ranks them; otherwise their order is arbitrary.
    """

    name: str
    find: Callable[[EvaluationSet], Run]
    settings: Mapping[str, Any]
    is_ranked: bool = True


@dataclass(frozen=True)
class Rules:
    """How every cell of the grid is measured.

    Attributes:
        measures: The main one first.
        depth: Most candidates of a query that are retrieved.
        fusions: As `parse_fusion` takes them.
        oracle_positives: Also show the optimistic figure with the missed relevant documents added.
    """

    measures: Sequence[Measure]
    depth: int
    fusions: Sequence[str] = ()
    oracle_positives: bool = False


@dataclass(frozen=True)
class Baselines:
    """The systems of a data set that no model has touched.

    Attributes:
        name: Of the first stage.
        first_stage: Its candidates.
        bm25: The BM25 baseline, or None where the documents have no text.
        is_ranked: Whether the first stage ranks its candidates.
    """

    name: str
    first_stage: Run
    bm25: Run | None
    is_ranked: bool = True


def find_baselines(
    store: RunStore, data: EvaluationSet, first_stage: FirstStage, bm25: FirstStage | None, depth: int
) -> Baselines:
    """Return the first stage and BM25, out of the store where they are there already."""
    runs = {}
    for stage in (first_stage, bm25):
        if stage and stage.name not in runs:
            settings = _settings_of(data) | {"depth": depth} | dict(stage.settings)
            stored = store.load(data.name, stage.name, settings) or _keep(store, data, stage, settings)
            runs[stage.name] = stored.run
    return Baselines(first_stage.name, runs[first_stage.name], runs[bm25.name] if bm25 else None, first_stage.is_ranked)


def _keep(store: RunStore, data: EvaluationSet, stage: FirstStage, settings: Mapping[str, Any]) -> StoredRun:
    run = stage.find(data)
    with store.writing(data.name, stage.name, settings) as (writer, _):
        for query_id in data.qrels:
            if query_id not in writer.finished and run.get(query_id):
                writer.write(query_id, run[query_id])
    stored = store.load(data.name, stage.name, settings)
    assert stored is not None
    return stored


def run_cell(
    store: RunStore,
    data: EvaluationSet,
    baselines: Baselines,
    contestant: Contestant,
    rules: Rules,
    *,
    num_queries_of_set: int | None = None,
    progress: Progress = no_progress,
) -> tuple[Cell, StoredRun]:
    """Score the candidates with one model, unless that is done, and measure the result.

    Returns:
        The numbers, and the run of raw scores.

    Raises:
        InputError: If a fusion is asked for with a first stage that ranks nothing.
    """
    if rules.fusions and not baselines.is_ranked:
        raise InputError(
            f"the candidates of {data.name} come without an order or scores to fuse with: rank them by --first-stage, "
            "or leave --fuse out"
        )
    reranked = score_candidates(store, data, contestant, baselines.first_stage, progress=progress)
    runs: dict[str, Run] = {} if baselines.bm25 is None else {BM25: baselines.bm25}
    runs |= {FIRST_STAGE: baselines.first_stage, RERANKED: reranked.run}
    for text in rules.fusions:
        name, method, weight = parse_fusion(text, contestant)
        runs[f"fused {name}"] = fuse_runs(reranked.run, baselines.first_stage, method=method, weight=weight)
    if rules.oracle_positives:
        runs[ORACLE] = _with_positives(store, data, contestant, baselines.first_stage, reranked.run, progress)
    longest = max(map(len, baselines.first_stage.values()), default=0)
    depth = rules.depth if data.candidates is None else longest
    scored = Scored(contestant.label, baselines.name, depth, runs, reranked.pairs, reranked.seconds)
    return compare(data, scored, rules.measures, num_queries_of_set=num_queries_of_set), reranked


def score_candidates(
    store: RunStore,
    data: EvaluationSet,
    contestant: Contestant,
    candidates: Run,
    *,
    name: str | None = None,
    progress: Progress = no_progress,
) -> StoredRun:
    """Return the candidates with the raw scores of a model, out of the store where that is done already.

    Args:
        store: Of runs.
        data: Texts.
        contestant: The model.
        candidates: By query.
        name: Of the run in the store; the label of the model if None.
        progress: Draws it.
    """
    name = name or contestant.label
    settings = _settings_of(data) | {"candidates": fingerprint_run(candidates)} | dict(contestant.settings)
    stored = store.load(data.name, name, settings)
    if stored:
        return stored
    with store.writing(data.name, name, settings) as (writer, clock):
        total = sum(1 for query_id in data.qrels if candidates.get(query_id))
        with progress(f"{contestant.label}, {data.name}", total, len(writer.finished)) as step:
            if total > len(writer.finished):
                score_run(candidates, data, contestant.load(), writer, clock, on_query=step)
    stored = store.load(data.name, name, settings)
    assert stored is not None
    return stored


def _with_positives(
    store: RunStore, data: EvaluationSet, contestant: Contestant, candidates: Run, reranked: Run, progress: Progress
) -> dict[str, tuple[Candidate, ...]]:
    """Return the reranked run with the relevant documents that the first stage missed; only these are scored anew."""
    missed = {
        query_id: tuple(Candidate(document_id, 0.0) for document_id in document_ids)
        for query_id, document_ids in missing_positives(data, candidates)
    }
    name = f"{contestant.label}.positives"
    added = score_candidates(store, data, contestant, missed, name=name, progress=progress).run
    return {query_id: best_first((*reranked.get(query_id, ()), *added.get(query_id, ()))) for query_id in data.qrels}


def parse_fusion(text: str, contestant: Contestant) -> tuple[str, str, float]:
    """Return name, method and the model's weight of a fusion.

    Args:
        text: `METHOD:WEIGHT`, as in `zscore:0.6`, or `checkpoint` for what the model states of itself.
        contestant: The model.

    Raises:
        InputError: If it is neither, or the model states none.
    """
    if text == "checkpoint":
        if contestant.fusion is None:
            raise InputError(f"{contestant.label} states no fusion: give METHOD:WEIGHT, as in zscore:0.5")
        method, weight = contestant.fusion
        return f"checkpoint ({method}:{weight:g})", method, weight
    method, _, number = text.partition(":")
    try:
        weight = float(number)
    except ValueError:
        weight = np.nan
    if method not in NORMALISATIONS or not 0 <= weight <= 1:
        raise InputError(
            f"a fusion is 'checkpoint' or METHOD:WEIGHT with a method of {', '.join(NORMALISATIONS)} and the "
            f"reranker's weight between 0 and 1, not {text!r}"
        )
    return text, method, weight


def fuse_runs(reranked: Run, first_stage: Run, *, method: str, weight: float) -> dict[str, tuple[Candidate, ...]]:
    """Return both runs as one, by fused scores; equal ones in the order of the first stage.

    Raises:
        InputError: If a method or a weight is not possible.
    """
    fused = {}
    for query_id, candidates in first_stage.items():
        scores = {candidate.document_id: candidate.score for candidate in reranked.get(query_id, ())}
        known = [candidate for candidate in candidates if candidate.document_id in scores]
        together = fuse(
            [scores[candidate.document_id] for candidate in known],
            [candidate.score for candidate in known],
            method=method,
            weight=weight,
        )
        fused[query_id] = best_first(
            Candidate(candidate.document_id, float(score)) for candidate, score in zip(known, together, strict=True)
        )
    return fused


def fingerprint_run(run: Run) -> str:
    """Return a short text that changes when a query, a candidate or their order changes."""
    return _fingerprint(
        part for query_id in sorted(run) for part in (query_id, *(item.document_id for item in run[query_id]))
    )


def _settings_of(data: EvaluationSet) -> dict[str, Any]:
    judged = (f"{query_id} {data.queries[query_id]} {dict(grades)}" for query_id, grades in data.qrels.items())
    return {
        "split": data.split,
        "documents": len(data.corpus),
        "modality": data.modality,
        "files": data.fingerprint,
        "queries": _fingerprint(judged),
    }


def _fingerprint(parts: Iterable[str]) -> str:
    digest = sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:16]
