"""The models that are served: by name, with a default, loaded and unloaded while requests come in."""

from __future__ import annotations

import gc
import hashlib
import threading
from dataclasses import asdict
from pathlib import Path

from crossrank.models.checkpoint import Checkpoint
from crossrank.reranker import Reranker
from crossrank.serving.metrics import Metrics
from crossrank.serving.options import ModelSpec, ServeOptions
from crossrank.serving.problems import Kind, Problem
from crossrank.serving.runtime import ModelRuntime, State

# What clients write when they mean whichever model is there.
_NAMES_OF_DEFAULT = (None, "", "default", "default/not-specified")
_FILES_OF_A_REVISION = ("*.safetensors", "*.bin", "crossrank.json", "config.json")


class Models:
    """The served models; safe to use from many threads.

    Args:
        options: How models are loaded and queued.
        metrics: What they report to.
    """

    def __init__(self, options: ServeOptions, metrics: Metrics) -> None:
        self._options = options
        self._metrics = metrics
        self._loading = threading.Lock()
        # Replaced and never changed, so that readers need no lock.
        self._runtimes: dict[str, ModelRuntime] = {}

    def load(self, spec: ModelSpec) -> ModelRuntime:
        """Load a model and serve it under its name.

        Raises:
            Problem: If the name is taken.
            RerankError: If it cannot be loaded.
        """
        with self._loading:
            self._check_free(spec.name)
            return self._add(spec.name, Reranker.load(spec.source, **asdict(self._options.load)))

    def add(self, name: str, reranker: Reranker) -> ModelRuntime:
        """Serve a model that is already loaded.

        Raises:
            Problem: If the name is taken.
        """
        with self._loading:
            self._check_free(name)
            return self._add(name, reranker)

    def unload(self, name: str) -> None:
        """Answer what the model has admitted, then drop it.

        Raises:
            Problem: If there is no such model, or it is the default.
        """
        with self._loading:
            runtime = self.get(name)
            if runtime is self.default:
                raise Problem(Kind.CONFLICT, f"{name!r} is the default model: it stays while the server runs")
            self._runtimes = {other: kept for other, kept in self._runtimes.items() if kept is not runtime}
        runtime.stop()
        del runtime
        # What was there when the server started is hidden from the collector, and may be what has just been dropped.
        gc.unfreeze()
        gc.collect()

    def get(self, name: str | None) -> ModelRuntime:
        """Return a model by its name; the default for those that mean any.

        Raises:
            Problem: If there is no such model.
        """
        if name in _NAMES_OF_DEFAULT:
            return self.default
        runtime = self._runtimes.get(name)
        if runtime is None:
            served = ", ".join(self._runtimes)
            raise Problem(Kind.UNKNOWN_MODEL, f"model {name!r} is not served here; there is: {served}")
        return runtime

    @property
    def default(self) -> ModelRuntime:
        """The model for requests that name none.

        Raises:
            Problem: If nothing has been loaded yet.
        """
        for runtime in self._runtimes.values():
            return runtime
        raise Problem(Kind.UNAVAILABLE, "no model has been loaded yet", retry_after_s=5)

    @property
    def all(self) -> list[ModelRuntime]:
        """All models, the default first."""
        return list(self._runtimes.values())

    @property
    def states(self) -> dict[str, State]:
        """The state of each model."""
        return {name: runtime.state for name, runtime in self._runtimes.items()}

    def stop(self, *, timeout_s: float | None = None) -> None:
        """Answer what was admitted, then stop all models and drop them: who starts again loads again."""
        for runtime in self.all:
            runtime.stop(timeout_s=timeout_s)
        self._runtimes = {}

    def _check_free(self, name: str) -> None:
        if name in self._runtimes or name in _NAMES_OF_DEFAULT:
            raise Problem(Kind.CONFLICT, f"a model named {name!r} is already served: choose another name")

    def _add(self, name: str, reranker: Reranker) -> ModelRuntime:
        revision = find_revision(reranker.checkpoint)
        runtime = ModelRuntime(name, reranker, self._options, self._metrics, revision=revision)
        runtime.start()
        self._runtimes = self._runtimes | {name: runtime}
        return runtime


def find_revision(checkpoint: Checkpoint) -> str:
    """Return which weights a checkpoint has: its commit on the hub, otherwise a hash of its files."""
    folder = checkpoint.folder.resolve()
    if folder.parent.name == "snapshots":
        return folder.name
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _FILES_OF_A_REVISION for path in folder.rglob(pattern)):
        digest.update(f"{path.relative_to(folder)}\n".encode())
        digest.update(_hash(path))
    return f"sha256:{digest.hexdigest()[:16]}"


def _hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
