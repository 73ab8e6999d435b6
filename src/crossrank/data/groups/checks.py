"""Checks that need more than one source, or what the recipe says about sampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from crossrank.data.groups.config import DataConfig
from crossrank.data.groups.report import Kind, Problems
from crossrank.data.groups.sampling import Keys
from crossrank.data.groups.store import GroupStore


def check_num_groups(store: GroupStore, num_samples: int | None, path: str, problems: Problems) -> None:
    """Report a source without a group, and one with fewer than the recipe asks for; all of them are used."""
    if not len(store):
        problems.add(Kind.no_group, "not a single group can be used", path)
    elif num_samples is not None and num_samples > len(store):
        problems.add(Kind.too_few_groups, f"num_samples is {num_samples}, there are {len(store)} groups", path)


def check_num_negatives(store: GroupStore, config: DataConfig, problems: Problems) -> None:
    """Report the groups with too few negatives: all where that is an error, those that lose scores where not."""
    wanted = config.num_passages - np.minimum(store.num_positives(), config.num_positives)
    few = store.num_negatives() < wanted
    kind = Kind.too_few_negatives
    if config.negatives.when_too_few == "fill":
        few, kind = few & store.has_scores(), Kind.lost_scores
    for index in np.flatnonzero(few):
        group = store.group(int(index))
        found = len(group.rows) - group.num_positives
        problems.add(kind, f"{found} negatives, {wanted[index]} are wanted", group.path, group.line)


def check_leakage(
    train: Sequence[GroupStore], dev: Sequence[GroupStore], problems: Problems
) -> tuple[npt.NDArray[np.bool_], ...]:
    """Report train queries that stand in dev by their text, and shared positives; return the leaks of each store."""
    dev_queries = _joined([store.query_keys() for store in dev])
    dev_positives = _joined([store.positive_keys() for store in dev])
    leaked = []
    for store in train:
        leaks = np.isin(store.query_keys(), dev_queries)
        for index in np.flatnonzero(leaks):
            group = store.group(int(index))
            problems.add(Kind.leakage, f"the query {group.query_id!r} is also in dev", group.path, group.line)
        shared = np.isin(store.positive_keys(), dev_positives)
        if shared.any():
            group = store.group(0)
            message = f"{int(shared.sum())} positives are a positive in dev too"
            problems.add(Kind.shared_positive, message, group.path)
        leaked.append(leaks)
    return tuple(leaked)


def _joined(keys: Sequence[Keys]) -> Keys:
    return np.unique(np.concatenate(keys)) if keys else np.zeros(0, np.uint64)
