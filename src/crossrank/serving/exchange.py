"""What the dialects are translated to and from: one request, one result."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from crossrank.encoding.pairs import WHAT_FITS, Truncation
from crossrank.inference.overflow import OnOverflow
from crossrank.types import Document, Hit

# `"probability"` is calibrated and always from 0 to 1; `"activation"` is what the checkpoint states, which may be none.
Scale = Literal["logit", "sigmoid", "activation", "probability"]


@dataclass(frozen=True)
class RerankRequest:
    """What a client wants, in no dialect.

    Attributes:
        pairs: Query and document, in the client's order; a rerank request has one query for all.
        model: The name that the client gave, or None for the default.
        top_k: How many results to answer; all if None.
        scale: Of the scores in the answer.
        on_overflow: For documents that are too long; the server's default if None.
        truncation: To read less of a pair than the model can.
        instruction: What the model should judge by, for models that take one.
        priority: Lower is computed earlier.
        return_documents: Whether the answer repeats the documents.
        verbose: Whether the answer says more.
    """

    pairs: tuple[tuple[str, Document], ...]
    model: str | None = None
    top_k: int | None = None
    scale: Scale = "probability"
    on_overflow: OnOverflow | None = None
    truncation: Truncation = WHAT_FITS
    instruction: str | None = None
    priority: int = 0
    return_documents: bool = False
    verbose: bool = False

    @property
    def query(self) -> str:
        """The query of the first pair."""
        return self.pairs[0][0]

    @property
    def documents(self) -> tuple[Document, ...]:
        """The documents, in the client's order."""
        return tuple(document for _, document in self.pairs)

    def with_documents(self, documents: list[Document]) -> RerankRequest:
        """Return the request with other documents in the same order."""
        pairs = tuple((query, document) for (query, _), document in zip(self.pairs, documents, strict=True))
        return replace(self, pairs=pairs)


@dataclass(frozen=True)
class Timings:
    """Where the time of a request went, in seconds."""

    tokenise_s: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    total_s: float = 0.0

    def in_milliseconds(self) -> dict[str, float]:
        """Return the stages by their names, as answers and logs show them."""
        return {
            "tokenise": round(1000 * self.tokenise_s, 3),
            "queue": round(1000 * self.queue_s, 3),
            "compute": round(1000 * self.compute_s, 3),
            "total": round(1000 * self.total_s, 3),
        }


@dataclass(frozen=True)
class RerankResult:
    """What the model says, in no dialect.

    Attributes:
        hits: All documents, best first; equal scores in the client's order.
        score_type: The scale that the scores are on: `"logit"`, `"sigmoid"` or `"probability"`.
        model: The name that the model is served under.
        revision: Which weights it has.
        num_tokens: Of all pairs that were computed, special tokens included.
        device: Where it was computed.
        timings: Where the time went.
        warnings: What the client should know: truncated documents, options that had no effect.
        id: Of this answer.
        created: Unix time.
    """

    hits: tuple[Hit, ...]
    score_type: str
    model: str
    revision: str | None = None
    num_tokens: int = 0
    device: str = "cpu"
    timings: Timings = Timings()
    warnings: tuple[str, ...] = ()
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def hex_id(self) -> str:
        """The id without its hyphens."""
        return self.id.replace("-", "")

    @property
    def in_input_order(self) -> list[Hit]:
        """The hits in the client's order."""
        return sorted(self.hits, key=lambda hit: hit.index)

    @property
    def truncated(self) -> list[int]:
        """The documents that lost text, by their position in the request."""
        return sorted(hit.index for hit in self.hits if hit.truncated)

    def details(self) -> dict[str, Any]:
        """Return what a verbose answer says more than its dialect does."""
        return {
            "model": self.model,
            "revision": self.revision,
            "score_type": self.score_type,
            "tokens": self.num_tokens,
            "truncated": self.truncated,
            "spans": {str(hit.index): list(hit.span) for hit in self.in_input_order if hit.span},
            "warnings": list(self.warnings),
            "milliseconds": self.timings.in_milliseconds(),
        }
