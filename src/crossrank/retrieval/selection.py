"""Which retriever a name stands for: `bm25`, `dense:MODEL`, `run:FILE`."""

from __future__ import annotations

from pathlib import Path

from crossrank.errors import InputError
from crossrank.retrieval.retriever import Retriever

RETRIEVERS = ("bm25", "dense:MODEL", "run:FILE")


def open_retriever(name: str, *, language: str = "english") -> Retriever:
    """Return the retriever that a user named; nothing is indexed yet.

    Args:
        name: One of `RETRIEVERS`.
        language: Of the corpus, for BM25.

    Raises:
        InputError: If the name stands for none.
        CheckpointError: If the bi-encoder cannot be loaded.
        MissingExtra: If what it needs is not installed.
    """
    kind, _, argument = name.partition(":")
    match kind, bool(argument):
        case "bm25", False:
            from crossrank.retrieval.bm25 import BM25

            return BM25(language=language)
        case "dense", True:
            from crossrank.retrieval.dense import Dense
            from crossrank.retrieval.embedders import open_embedder

            return Dense(open_embedder(argument))
        case "run", True:
            from crossrank.retrieval.existing_run import ExistingRun

            return ExistingRun(Path(argument))
    raise InputError(f"a retriever is one of {', '.join(RETRIEVERS)}, not {name!r}")
