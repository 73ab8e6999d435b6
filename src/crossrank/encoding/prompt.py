"""The prompt: which text of a query and of a document a checkpoint reads. Saved in `crossrank.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from crossrank.errors import CheckpointError
from crossrank.types import Document


@dataclass(frozen=True)
class PromptTemplate:
    """The two sides of a text pair, before the tokenizer adds its special tokens.

    Attributes:
        query: Format of the query side; holds `{query}` once.
        document: Format of the document side when there is a title; holds `{title}` and `{text}` once, `{text}` last,
            so that truncation cuts the text and not the title.
    """

    query: str = "{query}"
    document: str = "{title} {text}"

    def __post_init__(self) -> None:
        if self.query.count("{query}") != 1:
            raise CheckpointError(f"prompt: the query format must hold {{query}} once, not {self.query!r}")
        if self.document.count("{title}") != 1 or not self.document.endswith("{text}"):
            raise CheckpointError(
                f"prompt: the document format must hold {{title}} and end with {{text}}, not {self.document!r}"
            )

    def render_query(self, query: str) -> str:
        """Return the query side."""
        return self.query.replace("{query}", query)

    def render_document(self, document: str | Document) -> str:
        """Return the document side: the text alone where there is no title."""
        if isinstance(document, str):
            return document
        return self.document_prefix(document) + document.text

    def document_prefix(self, document: Document) -> str:
        """Return what stands before the text: the title and its separator, or nothing."""
        if not document.title:
            return ""
        return self.document.removesuffix("{text}").replace("{title}", document.title)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)
