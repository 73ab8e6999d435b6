"""Small training data that can be learned, and recipes over tiny checkpoints."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TOPICS = (
    "mars planet red sky",
    "bread yeast flour oven",
    "paris france river city",
    "search sorted list halves",
    "password reset account page",
    "rain cloud wind storm",
)


def make_rows(num_rows: int, *, first: int = 0, num_negatives: int = 4) -> list[dict[str, Any]]:
    """Queries of two words of a topic; the positive is of that topic and says "answer", which is easy to learn; the
    negatives are of other topics."""
    rows = []
    for i in range(first, first + num_rows):
        rng = random.Random(i)
        topic = TOPICS[i % len(TOPICS)].split()
        others = [TOPICS[(i + k) % len(TOPICS)].split() for k in range(1, len(TOPICS))]
        text = lambda words: " ".join(rng.choices(words, k=rng.randint(3, 30)))  # noqa: B023, E731
        negatives = [text(other) for other in rng.sample(others, num_negatives)]
        rows.append(
            {
                "query": f"{' '.join(rng.sample(topic, 2))} {i}",
                "pos_doc": ["answer answer " + text(topic)],
                "neg_doc": negatives,
            }
        )
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def training_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """48 groups to train on, 12 to judge on."""
    folder = tmp_path_factory.mktemp("groups")
    return write_rows(folder / "train.jsonl", make_rows(48)), write_rows(folder / "dev.jsonl", make_rows(12, first=500))


@pytest.fixture(scope="session")
def still_checkpoint(tiny_checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT reranker without dropout, so that only arithmetic decides its losses."""
    folder = tmp_path_factory.mktemp("still") / "bert"
    shutil.copytree(tiny_checkpoint("bert"), folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def recipe_values(training_files: tuple[Path, Path], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Plain values of a small recipe; keyword arguments replace or extend its sections."""

    def make(model: Path | str, **sections: Any) -> dict[str, Any]:
        train, dev = training_files
        values: dict[str, Any] = {
            "output": str(tmp_path / "out"),
            "model": {"name": str(model)},
            "data": {
                "train": [str(train)],
                "dev": [str(dev)],
                "negatives": {"num": 3},
                "cache_dir": str(train.parent / "cache"),
            },
            "training": {
                "max_steps": 6,
                "global_batch_size": 8,
                "local_batch_size": 2,
                "learning_rate": 1e-3,
                "warmup_steps": 1,
                "precision": "fp32",
            },
            "evaluation": {"every_steps": 100, "at_start": False},
            "checkpoints": {"every_steps": 100},
            "logging": {"every_steps": 1},
        }
        for name, section in sections.items():
            values[name] = values.get(name, {}) | section if isinstance(section, dict) else section
        return values

    return make


def read_log(output: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(output, "log.jsonl").read_text().splitlines()]


def losses_of(output: str | Path) -> list[float]:
    return [entry["loss"] for entry in read_log(output) if "loss" in entry]


def ndcg(qrels: Any, run: Any) -> float:
    """What the command hands in."""
    import ir_measures

    measure = ir_measures.parse_measure("nDCG@10")
    return ir_measures.calc_aggregate([measure], qrels, run)[measure]
