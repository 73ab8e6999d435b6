"""Seeded, English-like reranking workloads: W is 1 query with 100 passages, W2 is 64 queries with 20 each.

Zipf-distributed words of MiniLM's own vocabulary, sentences, topics that query and passages share or not, lengths
log-normal with about 120 tokens on average and a tail up to 512.
"""

from __future__ import annotations

import importlib.util
import json
import random
from itertools import accumulate
from pathlib import Path

Workload = list[tuple[str, list[str]]]

STOP_WORDS = "the of and to in a is that for it as was with on by at from are this be or an which has".split()  # noqa: SIM905
SUFFIXES = ("ize", "ation", "ness", "ology", "like", "wards", "ism")


def load_workloads(path: Path | None) -> dict[str, Workload]:
    """Return W and W2 of this file, or of another Python file that defines `W()` and `W2()`."""
    if path is None:
        return {"W": make(1, 100, seed=7), "W2": make(64, 20, seed=8)}
    spec = importlib.util.spec_from_file_location("external_workload", path)
    assert spec and spec.loader, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {"W": module.W(), "W2": module.W2()}


def make(num_queries: int, num_passages: int, *, seed: int) -> Workload:
    """Make queries with passages; the same seed gives the same texts."""
    rng = random.Random(seed)
    words = _content_words()
    cum_weights = list(accumulate(1 / (rank + 20) for rank in range(len(words))))

    def topic() -> list[str]:
        return rng.choices(words, cum_weights=cum_weights, k=12)

    def word(about: list[str]) -> str:
        draw = rng.random()
        if draw < 0.35:
            return rng.choice(STOP_WORDS)
        if draw < 0.60:
            return rng.choice(about)
        return rng.choices(words, cum_weights=cum_weights)[0] + (rng.choice(SUFFIXES) if rng.random() < 0.06 else "")

    def passage(about: list[str]) -> str:
        count = max(6, min(460, int(rng.lognormvariate(4.43, 0.62))))
        sentences = []
        while count > 0:
            size = min(rng.randint(6, 22), count)
            sentences.append(" ".join(word(about) for _ in range(size)).capitalize() + ".")
            count -= size
        return " ".join(sentences)

    workload = []
    for _ in range(num_queries):
        about = topic()
        query = " ".join(rng.sample(about, 4) + [word(about) for _ in range(5)])
        near = [about if rng.random() < 0.3 else about[:6] + topic()[:6] for _ in range(num_passages // 2)]
        topics = near + [topic() for _ in range(num_passages - len(near))]
        rng.shuffle(topics)
        workload.append((query, [passage(t) for t in topics]))
    return workload


def _content_words() -> list[str]:
    vocabulary = Path(__file__).parents[1] / "src/crossrank/assets/crossrank-mini-en-v1/tokenizer.json"
    entries = sorted(json.loads(vocabulary.read_text(encoding="utf-8"))["model"]["vocab"].items(), key=lambda e: e[1])
    return [w for w, number in entries if number >= 1996 and w.isascii() and w.isalpha() and len(w) > 2]
