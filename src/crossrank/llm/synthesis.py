"""Synthetic queries: what people might type to find a document."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from crossrank.llm.answers import read_queries
from crossrank.llm.asking import Asker
from crossrank.llm.client import Meter, Prices, count_tokens
from crossrank.llm.prompts import PassageWriter, Prompt, queries_prompt
from crossrank.types import Document, Usage

_TOKENS_PER_QUERY = 16


class QueryWriter:
    """A language model that writes queries for documents.

    Args:
        asker: The language model, and how much of a passage it reads.
        per_document: Queries for each document, at least 1.
    """

    def __init__(self, asker: Asker, *, per_document: int = 3) -> None:
        self._asker = asker
        self._per_document = per_document

    def write(self, document: Document, meter: Meter) -> list[str]:
        """Return at most `per_document` queries; none where no answer could be read, and `meter` says why.

        Raises:
            ChatError: If the server gives no answer.
        """
        read = partial(read_queries, count=self._per_document)
        return self._asker.ask(self._build(document), read, meter, subject=f"document {document.id!r}") or []

    def estimate(self, document: Document, prices: Prices | None) -> Usage:
        """Return about what the queries of a document will take, before anything is sent."""
        tokens = count_tokens(self._build(document)(self._asker.writer()).messages)
        written = _TOKENS_PER_QUERY * self._per_document
        cost = prices.cost(tokens, written) if prices else None
        return Usage(calls=1, input_tokens=tokens, output_tokens=written, estimated_calls=1, cost_usd=cost)

    def _build(self, document: Document) -> Callable[[PassageWriter], Prompt]:
        return lambda writer: queries_prompt(document, self._per_document, writer)
