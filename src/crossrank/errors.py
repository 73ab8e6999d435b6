"""Every exception that crossrank raises on purpose.

RerankError
├── InputError (ValueError)        a query, a document or an option that cannot be used
├── DataError (ValueError)         a file or a line in it that cannot be read: names path and line
├── CheckpointError (ValueError)   a checkpoint that is broken, incomplete or unsafe
│   └── UnsupportedModel           a readable checkpoint of a kind that crossrank cannot score
├── NumericalError (ArithmeticError)  a score that is NaN or infinite: names the pair
├── WorkerError (RuntimeError)     another process of a run has died
├── ChatError (RuntimeError)       a language model's server gave no answer: names the kind of failure
└── MissingExtra (ImportError)     an optional dependency is not installed: names the pip line
"""

from __future__ import annotations

from pathlib import Path


class RerankError(Exception):
    """The root of every error that crossrank raises on purpose."""


class InputError(RerankError, ValueError):
    """A query, a document or an option cannot be used as given."""


class DataError(RerankError, ValueError):
    """A file, or one line of it, cannot be read.

    Attributes:
        message: What is wrong, without the place.
        path: The file, or `"<stdin>"`.
        line: The line, counted from 1, or None when the whole file is meant.
    """

    def __init__(self, message: str, *, path: str | Path, line: int | None = None) -> None:
        self.message = message
        self.path = str(path)
        self.line = line
        where = self.path if line is None else f"{self.path}:{line}"
        super().__init__(f"{where}: {message}")


class CheckpointError(RerankError, ValueError):
    """A checkpoint is broken, incomplete or unsafe to load."""


class UnsupportedModel(CheckpointError):
    """The checkpoint is readable, but of a kind that crossrank cannot score."""


class NumericalError(RerankError, ArithmeticError):
    """A model gave NaN or infinity for a pair."""


class WorkerError(RerankError, RuntimeError):
    """Another process, on which this one depends, has died."""


class ChatError(RerankError, RuntimeError):
    """A language model's server gave no answer, after all retries; no key is ever part of the message.

    Attributes:
        kind: `"connection"`, `"timeout"`, `"rate limit"`, `"server"`, `"key"` (refused), `"request"` (refused as it
            is, such as an unknown model), `"overflow"` (more tokens than the model reads) or `"answer"` (no chat
            completion).
    """

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class MissingExtra(RerankError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, *, extra: str) -> None:
        super().__init__(f"{what} needs an optional dependency: pip install 'crossrank[{extra}]'")
        self.extra = extra
