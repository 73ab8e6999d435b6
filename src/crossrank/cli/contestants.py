"""The models of a grid: known before one is loaded, and in memory one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from crossrank.cli.evaluation_sources import short_names
from crossrank.cli.info import describe, images_of
from crossrank.cli.loading import LoadOptions
from crossrank.cli.options import OnOverflow
from crossrank.cli.rerank_run import fingerprint_files

if TYPE_CHECKING:
    from crossrank.evaluation.grid import Contestant
    from crossrank.models.checkpoint import Checkpoint
    from crossrank.reranker import Reranker
    from crossrank.types import Document, Ranker, Ranking, Scorer


class WithOverflow:
    """A ranker that does with long documents what it was told."""

    def __init__(self, reranker: Reranker, on_overflow: OnOverflow) -> None:
        self._reranker = reranker
        self._on_overflow = on_overflow

    def rank(
        self, query: str, documents: Sequence[str | Document | Mapping[str, Any]], *, top_k: int | None = None
    ) -> Ranking:
        """Return the documents by their best windows, or refuse one that is too long."""
        return self._reranker.rank(query, documents, top_k=top_k, on_overflow=self._on_overflow.value)


class LastModel:
    """Keeps the model that was asked for last, so that one of a grid is in memory at a time."""

    def __init__(self) -> None:
        self._loading: LoadOptions | None = None
        self._reranker: Reranker | None = None

    def load(self, loading: LoadOptions) -> Reranker:
        """Return the model, and let the one before go."""
        if self._reranker is None or self._loading != loading:
            self._reranker = None
            self._reranker = loading.load()
            self._loading = loading
        return self._reranker


def open_contestants(
    names: Sequence[str], loading: LoadOptions, on_overflow: OnOverflow, *, memory: LastModel | None = None
) -> list[tuple[Contestant, dict[str, Any]]]:
    """Return the models of a grid, none of them loaded yet, each with what is known of it.

    Args:
        names: Folders, hub names.
        loading: How they are loaded.
        on_overflow: What they do with long documents.
        memory: Shared with other contestants where they are the same models.

    Raises:
        RerankError: If one of them cannot be found or is broken.
    """
    memory = memory or LastModel()
    return [
        _contestant(label, replace(loading, model=name), on_overflow, memory)
        for label, name in zip(short_names(names), names, strict=True)
    ]


def _contestant(
    label: str, loading: LoadOptions, on_overflow: OnOverflow, memory: LastModel
) -> tuple[Contestant, dict[str, Any]]:
    from crossrank.evaluation.grid import Contestant
    from crossrank.inference.selection import choose_engine, resolve
    from crossrank.models.locating import checkpoint_files
    from crossrank.models.settings import SETTINGS_FILE

    checkpoint = loading.open()
    engine = choose_engine(checkpoint, backend=loading.backend.value, device=loading.device)
    device, precision = resolve(engine, device=loading.device, dtype=loading.dtype.value)
    options = {
        "backend": engine.backend,
        "device": device,
        "precision": precision,
        "max_length": checkpoint.max_length,
        "label": loading.label,
        "family": checkpoint.family.name,
        "on_overflow": on_overflow.value,
        **({"images": images_of(checkpoint)} if checkpoint.visual else {}),
    }
    # Of crossrank.json only what a raw score depends on: a new calibration or fusion leaves the scores as they are.
    files = fingerprint_files(path for path in checkpoint_files(checkpoint.folder) if path.name != SETTINGS_FILE)
    stated = checkpoint.settings.model_dump(mode="json", exclude={"calibration", "fusion", "activation", "provenance"})

    def load() -> Scorer | Ranker:
        reranker = memory.load(loading)
        return reranker if on_overflow is OnOverflow.truncate else WithOverflow(reranker, on_overflow)

    fusion = checkpoint.settings.fusion
    contestant = Contestant(
        label,
        options | {"checkpoint": files, "settings": stated},
        load,
        (fusion.method, fusion.weight) if fusion else None,
    )
    return contestant, _facts(checkpoint) | options


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    known = describe(checkpoint)
    parameters = known["weights"].get("num_parameters")
    return {
        "checkpoint": checkpoint.name,
        **({"parameters": parameters} if parameters else {}),
        **{key: known["sizes"][key] for key in ("hidden_size", "num_layers") if key in known["sizes"]},
    }
