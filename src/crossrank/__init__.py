"""Cross-encoder rerankers: one call scores documents for a query."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from crossrank.errors import RerankError
from crossrank.types import Document, Hit, Pair, Ranking

if TYPE_CHECKING:
    from crossrank.cascade import Cascade
    from crossrank.llm.reranker import LLMReranker
    from crossrank.reranker import Reranker

__version__ = "0.1.0"
__all__ = [
    "Cascade",
    "Document",
    "Hit",
    "LLMReranker",
    "Pair",
    "Ranking",
    "RerankError",
    "Reranker",
    "__version__",
]

_LAZY = {
    "Cascade": "crossrank.cascade",
    "LLMReranker": "crossrank.llm.reranker",
    "Reranker": "crossrank.reranker",
}


def __getattr__(name: str) -> Any:
    """Import what ranks on first use: it brings the tokenizer and the runtime."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'crossrank' has no attribute {name!r}")
