"""From the `data:` section of a recipe to groups: each source converted once and kept, all checked before the first."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossrank.data.groups.beir_groups import FirstStage
from crossrank.data.groups.checks import check_documents, check_leakage, check_num_groups, check_num_negatives
from crossrank.data.groups.config import DataConfig, SourceConfig
from crossrank.data.groups.dataset import MixedSource, TrainingGroups, mix_source
from crossrank.data.groups.formats import describe_inputs, read_source, resolve_format
from crossrank.data.groups.images import CheckImage, images_are_unchanged, images_digest
from crossrank.data.groups.report import Problems
from crossrank.data.groups.store import GroupStore
from crossrank.data.groups.store_writer import OnProgress, StoreWriter
from crossrank.errors import DataError

# Counts up whenever the files of a store, or what is read into them, change.
_STORE_VERSION = 3
_ABANDONED_AFTER_S = 24 * 3600


@dataclass(frozen=True)
class OpenedGroups:
    """The groups of a recipe.

    Attributes:
        train: What is trained on.
        dev: What it is judged on (`full`), or None where the recipe has no `dev`.
        problems: What is wrong or worth knowing.
    """

    train: TrainingGroups
    dev: TrainingGroups | None
    problems: Problems


@dataclass(frozen=True)
class CheckedData:
    """The converted sources of a recipe, and what is wrong in them.

    Attributes:
        train: A store a source.
        dev: A store a dev source.
        leaked: For each train store, which of its groups ask a query of dev.
        too_few: For each train store, which of its groups cannot be sampled for want of negatives.
        problems: What is wrong or worth knowing.
    """

    train: tuple[GroupStore, ...]
    dev: tuple[GroupStore, ...]
    leaked: tuple[npt.NDArray[np.bool_], ...]
    too_few: tuple[npt.NDArray[np.bool_], ...]
    problems: Problems


def check_data(
    config: DataConfig,
    *,
    first_stage: Callable[[], FirstStage] | None = None,
    check_image: CheckImage | None = None,
    on_progress: OnProgress | None = None,
) -> CheckedData:
    """Convert and check all sources of a recipe; what is wrong in their rows is collected, not raised.

    A source is converted to Arrow files in the cache folder when it is first seen, or has changed since.

    Args:
        config: The sources, and how they are sampled.
        first_stage: Makes the retriever that searches a BEIR folder for negatives (`run: bm25`).
        check_image: Decodes an image once, to find what is broken; without it only the files must be there.
        on_progress: Called with the number of documents that were converted since the last call.

    Raises:
        DataError: If a source cannot be read at all.
        InputError: If a key of a source does not fit its format.
        MissingExtra: If pyarrow, or what a format needs, is not installed.
    """
    cache = cache_folder(config)
    options: dict[str, Any] = {"first_stage": first_stage, "check_image": check_image, "on_progress": on_progress}
    train = tuple(open_store(source, cache, **options) for source in config.train)
    dev = tuple(open_store(source, cache, **options) for source in config.dev)
    problems = Problems()
    for source, store in zip((*config.train, *config.dev), (*train, *dev), strict=True):
        problems.merge(store.problems)
        check_num_groups(store, source.num_samples, source.path, problems)
    check_documents(train, config.train, config, problems)
    too_few = tuple(check_num_negatives(store, config, problems) for store in train)
    leaked = check_leakage(train, dev, problems)
    return CheckedData(train, dev, leaked, too_few, problems)


def open_groups(
    config: DataConfig,
    *,
    first_stage: Callable[[], FirstStage] | None = None,
    check_image: CheckImage | None = None,
    on_progress: OnProgress | None = None,
) -> OpenedGroups:
    """Return the groups of a recipe, all of them checked.

    Args:
        config: The sources, and how they are sampled.
        first_stage: Makes the retriever that searches a BEIR folder for negatives (`run: bm25`).
        check_image: Decodes an image once, to find what is broken; without it only the files must be there.
        on_progress: Called with the number of documents that were converted since the last call.

    Raises:
        DataError: If a source cannot be read; or if anything is wrong in it, unless `on_bad_row` is `"drop"`.
        InputError: If a key of a source does not fit its format.
        MissingExtra: If pyarrow, or what a format needs, is not installed.
    """
    checked = check_data(config, first_stage=first_stage, check_image=check_image, on_progress=on_progress)
    if config.on_bad_row == "error":
        checked.problems.raise_errors()
    train = [
        _mix(config, source, store, np.flatnonzero(~leaks & ~few), weight=source.weight)
        for source, store, leaks, few in zip(config.train, checked.train, checked.leaked, checked.too_few, strict=True)
    ]
    # A dev set is gone through once, whatever the weights.
    dev = [
        _mix(config, source, store, np.arange(len(store)), weight=1.0)
        for source, store in zip(config.dev, checked.dev, strict=True)
    ]
    return OpenedGroups(_groups(config, train), _groups(config, dev) if dev else None, checked.problems)


def _mix(
    config: DataConfig, source: SourceConfig, store: GroupStore, usable: npt.NDArray[np.int64], *, weight: float
) -> MixedSource:
    if not len(usable):
        raise DataError("not a single group can be used", path=source.path)
    return mix_source(store, usable, weight=weight, num_samples=source.num_samples, seed=config.seed)


def _groups(config: DataConfig, sources: Sequence[MixedSource]) -> TrainingGroups:
    return TrainingGroups(sources, negatives=config.negatives, num_positives=config.num_positives, seed=config.seed)


def cache_folder(config: DataConfig) -> Path:
    """Return where converted sources are kept: `cache_dir`, or a folder of the user's cache."""
    if config.cache_dir is not None:
        return Path(config.cache_dir)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossrank" / "groups"


def open_store(
    source: SourceConfig,
    cache: Path,
    *,
    first_stage: Callable[[], FirstStage] | None = None,
    check_image: CheckImage | None = None,
    on_progress: OnProgress | None = None,
) -> GroupStore:
    """Return the groups of a source, converted where the cache does not hold them yet.

    The folder appears in one step: an interrupted conversion leaves nothing that is ever read.

    Raises:
        DataError: If the source cannot be read.
        InputError: If a key does not fit the format.
    """
    format = resolve_format(source)
    source.check_keys(format)
    name = _fingerprint(source, format, checks_images=check_image is not None)
    folder = _find(cache, name)
    if folder is None:
        try:
            temporary = _temporary_folder(cache)
        except OSError as error:
            raise _unwritable(cache, error) from error
        try:
            with StoreWriter(
                temporary,
                positive_from=source.positive_from,
                modality=source.modality,
                document_field=source.document_field,
                check_image=check_image,
                on_progress=on_progress,
            ) as writer:
                read_source(source, format, writer, first_stage)
            folder = _publish(temporary, cache, name)
        except OSError as error:
            raise _unwritable(cache, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return GroupStore(folder)


def _find(cache: Path, name: str) -> Path | None:
    """Return the store of a source, if there is one and its image files are as they were."""
    folders = (folder for folder in (cache / name, *cache.glob(f"{name}-*")) if folder.is_dir())
    return next((folder for folder in folders if images_are_unchanged(folder)), None)


def _temporary_folder(cache: Path) -> Path:
    """Return a new folder in the cache; those that killed conversions have left behind are removed."""
    cache.mkdir(parents=True, exist_ok=True)
    for left in cache.glob(".converting-*"):
        if time.time() - left.stat().st_mtime > _ABANDONED_AFTER_S:
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=".converting-", dir=cache))


def _unwritable(cache: Path, error: OSError) -> DataError:
    return DataError(f"the cache cannot be written: {error.strerror or error}", path=cache)


def _publish(temporary: Path, cache: Path, name: str) -> Path:
    digest = images_digest(temporary)
    folder = cache / (f"{name}-{digest}" if digest else name)
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster, with the same content
            raise
    return folder


def _fingerprint(source: SourceConfig, format: str, *, checks_images: bool) -> str:
    """Return a name for what a source is converted from: its files, as they are now, and how they are read."""
    read_keys = source.model_dump(exclude={"weight", "num_samples", "format"})
    inputs = [_STORE_VERSION, format, read_keys, describe_inputs(source, format), checks_images]
    content = json.dumps(inputs, sort_keys=True)
    return f"{format}-{hashlib.sha256(content.encode()).hexdigest()[:24]}"
