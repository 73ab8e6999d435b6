"""Dev sets: their groups ranked by the model as it is now, and judged.

Shape letters: `P` pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object, send_to_device

from crossrank.data.groups.config import SourceConfig
from crossrank.data.groups.dataset import TrainingGroups
from crossrank.errors import NumericalError
from crossrank.training.batches import Block, Collator
from crossrank.training.checkpoints import DEV_MEAN
from crossrank.types import TrainingGroup

Qrels = Mapping[str, Mapping[str, int]]
Run = Mapping[str, Mapping[str, float]]
Blocks = tuple[list[Block], torch.Tensor]
Measure = Callable[[Qrels, Run], float]

# Pairs that are tokenised at once.
_WINDOW, _SHARDED_WINDOW = 1024, 64


@dataclass(frozen=True)
class DevSet:
    """Groups that a model is judged on; all documents of a group are ranked.

    Attributes:
        name: In the log.
        groups: One a query.
    """

    name: str
    groups: Sequence[TrainingGroup]


def make_dev_sets(sources: Sequence[SourceConfig], groups: TrainingGroups | None) -> list[DevSet]:
    """Return the groups of each dev source under a name of its own.

    Args:
        sources: The dev sources of a recipe.
        groups: Theirs, one source behind the other; None where there are none.
    """
    if groups is None:
        return []
    dev_sets: list[DevSet] = []
    start = 0
    for source, size in zip(sources, groups.source_sizes, strict=True):
        name = Path(source.path).name.partition(".")[0] or source.path
        taken = {dev_set.name for dev_set in dev_sets}
        names = chain([name], (f"{name}-{number}" for number in count(2)))
        free = next(candidate for candidate in names if candidate not in taken)
        dev_sets.append(DevSet(free, [groups.full(index) for index in range(start, start + size)]))
        start += size
    return dev_sets


class DevelopmentRanking:
    """Ranks dev sets with the model of a trainer, shared out over its processes.

    Args:
        dev_sets: At least one.
        measure: Qrels and a run to a number; higher is better.
        measure_name: In the log.
        collator: Of the trainer.
    """

    def __init__(self, dev_sets: Sequence[DevSet], *, measure: Measure, measure_name: str, collator: Collator) -> None:
        self._dev_sets = dev_sets
        self._measure = measure
        self._measure_name = measure_name
        self._collator = collator

    def __call__(self, trainer: Any) -> dict[str, float]:
        """Return the measure on each dev set, and the mean over them.

        Raises:
            NumericalError: If a score is NaN or infinite.
        """
        values = {}
        for dev_set in self._dev_sets:
            scores = self._scores(dev_set, trainer)
            qrels, run = _qrels_and_run(dev_set, scores)
            values[f"dev_{dev_set.name}_{self._measure_name}"] = float(self._measure(qrels, run))
        return values | {DEV_MEAN: sum(values.values()) / len(values)}

    def _scores(self, dev_set: DevSet, trainer: Any) -> list[list[float]]:
        """Return the scores of each group's documents, the same in all processes."""
        accelerator, is_sharded = trainer.accelerator, trainer.is_fsdp_enabled
        model = trainer.model_wrapped if is_sharded else trainer.model
        mine = list(range(accelerator.process_index, len(dev_set.groups), accelerator.num_processes)) or [0]
        windows = list(self._windows([dev_set.groups[i] for i in mine], _SHARDED_WINDOW if is_sharded else _WINDOW))
        num_passes = len(windows)
        if is_sharded:  # every process has to take part in as many forward passes
            num_passes = int(accelerator.gather(torch.tensor([num_passes], device=accelerator.device)).max())
        was_training = model.training
        model.eval()
        with torch.no_grad():
            passes = [_forward(model, windows[min(i, len(windows) - 1)], accelerator.device) for i in range(num_passes)]
        model.train(was_training)
        scores_P = torch.cat(passes[: len(windows)]).tolist()
        counts = [len(dev_set.groups[i].documents) for i in mine]
        ends = np.cumsum(counts).tolist()
        own = {i: scores_P[end - count : end] for i, count, end in zip(mine, counts, ends, strict=True)}
        everyone = {i: scores for part in gather_object([own]) for i, scores in part.items()}
        return [everyone[i] for i in range(len(dev_set.groups))]

    def _windows(self, groups: Sequence[TrainingGroup], size: int) -> Iterator[Blocks]:
        pairs = [(group.query, document) for group in groups for document in group.documents]
        for start in range(0, len(pairs), size):
            yield self._collator.make_blocks(self._collator.encoder.encode(pairs[start : start + size]))


def _forward(model: Any, window: Blocks, device: torch.device) -> torch.Tensor:
    blocks, order = window
    on_device = [send_to_device(block, device) for block in blocks]
    scores_P: torch.Tensor = model(on_device, order.to(device)).float().cpu()
    return scores_P


def _qrels_and_run(dev_set: DevSet, scores: Sequence[Sequence[float]]) -> tuple[Qrels, Run]:
    """Return the judgements and the ranking, which has no ties, of all groups.

    Queries and documents are named by their places, because ids may repeat across sources. Equal scores are ordered by
    a
    hash: groups list their positives first, and a model that cannot tell two documents apart must not gain by that.
    """
    qrels: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    for i, (group, values) in enumerate(zip(dev_set.groups, scores, strict=True)):
        if not np.isfinite(values).all():
            raise NumericalError(f"dev set {dev_set.name}: a score for query {group.query_id!r} is NaN or infinite")
        # Measures take whole grades; a label of 0.3, as from clicks, is still above 0.
        qrels[str(i)] = {str(j): round(label) or int(label > 0) for j, label in enumerate(group.labels)}
        order = sorted(range(len(values)), key=lambda j: (-values[j], _hash(group.query_id, j)))
        run[str(i)] = {str(j): -float(place) for place, j in enumerate(order)}
    return qrels, run


def _hash(query_id: str, place: int) -> bytes:
    return hashlib.blake2b(f"{query_id} {place}".encode(), digest_size=8).digest()
