"""A reranker without a model, for the tests of the command line: a score is the share of query words in the text.

Run as a script it is the `crossrank` command on this reranker. `RERANKER_SLEEP_S` makes each query take its time.
"""

import os
import sys
import time
import types
from pathlib import Path
from typing import ClassVar

from crossrank.errors import InputError
from crossrank.types import Document, Hit, Ranking


class Reranker:
    engine = types.SimpleNamespace(name="overlap", device="cpu", precision="float64")
    checkpoint = types.SimpleNamespace(folder=Path(__file__).with_name("no weights"), name="overlap", visual=None)
    loaded: ClassVar[list] = []
    queries: ClassVar[list] = []
    interrupt_after = None

    @classmethod
    def load(cls, model=None, **options):
        cls.loaded.append({"model": model} | options)
        return cls()

    def rank(
        self,
        query,
        documents,
        *,
        top_k=None,
        score_type="logit",
        on_overflow="truncate",
        first_stage_scores=None,
        instruction=None,
        show_progress=False,
    ):
        if not query.strip():
            raise InputError("the query is empty")
        if self.interrupt_after is not None and len(self.queries) >= self.interrupt_after:
            raise KeyboardInterrupt
        time.sleep(float(os.environ.get("RERANKER_SLEEP_S", "0")))
        self.queries.append(query)
        scores = [overlap(query, document) for document in documents]
        if first_stage_scores is not None:
            scores = [score + first for score, first in zip(scores, first_stage_scores, strict=True)]
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:top_k]
        hits = tuple(Hit(i, scores[i], documents[i]) for i in order)
        return Ranking(query, hits, score_type="fused" if first_stage_scores else score_type, model="overlap")


def overlap(query: str, document: Document) -> float:
    words = set(query.lower().split())
    text = set(f"{document.title or ''} {document.text}".lower().split())
    return len(words & text) / len(words)


def as_module() -> types.ModuleType:
    module = types.ModuleType("crossrank.reranker")
    module.Reranker = type("Reranker", (Reranker,), {"loaded": [], "queries": []})
    return module


if __name__ == "__main__":
    sys.modules["crossrank.reranker"] = as_module()
    from crossrank.cli.main import app

    app(prog_name="crossrank")
