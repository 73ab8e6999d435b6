"""Cross-encoder rerankers: one call scores documents for a query."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from crossrank.errors import RerankError
from crossrank.types import Document, Hit, Pair, Ranking

if TYPE_CHECKING:
    from crossrank.reranker import Reranker

__version__ = "0.1.0"
__all__ = ["Document", "Hit", "Pair", "Ranking", "RerankError", "Reranker", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the front door on first use: it brings the tokenizer and the runtime."""
    if name == "Reranker":
        return import_module("crossrank.reranker").Reranker
    raise AttributeError(f"module 'crossrank' has no attribute {name!r}")
