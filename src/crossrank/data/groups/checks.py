"""Checks that need more than one source, or what the recipe says about sampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from crossrank.data.groups.config import DataConfig, SourceConfig
from crossrank.data.groups.report import Kind, Problems
from crossrank.data.groups.same_document import UNKNOWN_DOCUMENT
from crossrank.data.groups.sampling import Keys
from crossrank.data.groups.store import GroupStore


def check_num_groups(store: GroupStore, num_samples: int | None, path: str, problems: Problems) -> None:
    """Report a source without a group, and one with fewer than the recipe asks for; all of them are used."""
    if not len(store):
        problems.add(Kind.no_group, "not a single group can be used", path)
    elif num_samples is not None and num_samples > len(store):
        problems.add(Kind.too_few_groups, f"num_samples is {num_samples}, there are {len(store)} groups", path)


def check_documents(
    stores: Sequence[GroupStore], sources: Sequence[SourceConfig], config: DataConfig, problems: Problems
) -> None:
    """Report positives that are pages of no known document, where negatives are to come from the same document.

    An error where that is all the images of a source, or no source knows a document; otherwise a warning: these pages
    get other negatives.
    """
    if not config.negatives.same_document:
        return
    advice = "give pages a 'doc_id', or name the field with document_field"
    nothing = f"negatives.same_document: nothing says which document a page belongs to: {advice}"
    if all(store.pages.is_empty for store in stores):
        problems.add(Kind.no_document, nothing, sources[0].path)
        return
    for store, source in zip(stores, sources, strict=True):
        if store.pages.is_empty and store.pages.has_images:
            problems.add(Kind.no_document, nothing, source.path)
            continue
        for index in range(len(store)):
            rows = store.positive_rows(index)
            if (unknown := rows[store.pages.keys[rows] == UNKNOWN_DOCUMENT]).size:
                group, name = store.group(index), store.document(int(unknown[0])).id
                message = f"nothing says which document the page {name or 'of this row'} belongs to: {advice}"
                problems.add(Kind.unknown_document, message, group.path, group.line)


def check_num_negatives(store: GroupStore, config: DataConfig, problems: Problems) -> npt.NDArray[np.bool_]:
    """Report the groups with too few negatives: all where that is an error, those that lose scores where not.

    Pages of the same document count as negatives, and have no scores.

    Returns:
        Which groups cannot be sampled for want of negatives, bool `(groups,)`: none where they are filled up.
    """
    wanted = _num_wanted(store, config)
    few = store.num_negatives() < wanted
    if config.negatives.when_too_few == "fill":
        kind, reported, unusable = Kind.lost_scores, few & store.has_scores(), np.zeros_like(few)
    else:
        kind, reported, unusable = Kind.too_few_negatives, few, few
    for index in np.flatnonzero(reported):
        group = store.group(int(index))
        found = len(group.rows) - group.num_positives
        problems.add(kind, f"{found} negatives, {wanted[index]} are wanted", group.path, group.line)
    return unusable


def _num_wanted(store: GroupStore, config: DataConfig) -> npt.NDArray[np.int64]:
    wanted = config.num_passages - np.minimum(store.num_positives(), config.num_positives)
    if config.negatives.same_document and not store.pages.is_empty:
        wanted -= np.minimum(_num_same_document(store), config.negatives.same_document)
    return wanted


def _num_same_document(store: GroupStore) -> npt.NDArray[np.int64]:
    """Return how many other pages of the document of its first positive each group has."""
    found = np.zeros(len(store), np.int64)
    for index in range(len(store)):
        positives = store.positive_rows(index)
        pages = store.pages.around(positives[:1])
        found[index] = len(np.setdiff1d(store.document_keys(pages), store.document_keys(positives)))
    return found


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
