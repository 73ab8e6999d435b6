"""Whether the loss has a meaning for the data is known before the first step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crossrank.data.groups.build import OpenedGroups, open_groups
from crossrank.data.groups.config import parse_data_config
from crossrank.errors import InputError
from crossrank.training.loss_data import check_loss_data

SCORED = {"query": "one", "documents": ["a", "b", "c"], "labels": [1, 0, 0], "scores": [3.0, 1.0, 2.0]}
GRADED = {"query": "two", "documents": ["d", "e", "f"], "labels": [2, 1, 0]}
SHARED = {"query": "three", "documents": ["g", "h", "i"], "labels": [0.5, 0, 0]}
SHORT = {"query": "four", "documents": ["j", "k"], "labels": [1, 0], "scores": [1.0, 0.0]}


def opened(folder: Path, *rows: dict[str, Any], num: int = 2) -> OpenedGroups:
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    negatives = {"num": num}
    return open_groups(
        parse_data_config({"train": [str(path)], "negatives": negatives, "cache_dir": str(folder / "c")})
    )


@pytest.mark.parametrize(
    ("loss", "rows", "said"),
    [
        ("softmax_cross_entropy", [SCORED, GRADED], ":2: query 'train.jsonl:2': .* knows relevant .1. and not .* is 2"),
        ("binary_cross_entropy", [SCORED, SHARED, GRADED], ":3: .* needs labels from 0 to 1, but one is 2"),
        ("kl_divergence", [SCORED, GRADED], ":2: .* needs a teacher score for every candidate, and one is missing"),
        ("mse", [SCORED, SHORT], ":2: .* filled up .* 2 documents of its own, 3 are wanted; lower negatives.num"),
    ],
)
def test_one_group_in_the_middle_is_found(tmp_path: Path, loss: str, rows: list[dict[str, Any]], said: str) -> None:
    groups = opened(tmp_path, *rows).train
    with pytest.raises(InputError, match=said) as error:
        check_loss_data(loss, groups)
    print(error.value)


@pytest.mark.parametrize(
    ("loss", "rows"),
    [("lambda_loss", [GRADED, SHARED]), ("binary_cross_entropy", [SCORED, SHARED]), ("margin_mse", [SCORED])],
)
def test_what_a_loss_has_a_meaning_for_passes(tmp_path: Path, loss: str, rows: list[dict[str, Any]]) -> None:
    check_loss_data(loss, opened(tmp_path, *rows).train)


def test_a_negative_that_another_row_knows_as_a_positive_counts_as_missing(tmp_path: Path) -> None:
    """It is never sampled, so the group is filled up, and what fills it up has no score."""
    other = {"query": "ONE", "documents": ["c", "x", "y"], "labels": [1, 0, 0], "scores": [3.0, 1.0, 2.0]}
    files = []
    for name, row in (("a", SCORED), ("b", other)):
        files.append(str(tmp_path / f"{name}.jsonl"))
        Path(files[-1]).write_text(json.dumps(row) + "\n")
    config = parse_data_config({"train": files, "negatives": {"num": 2}, "cache_dir": str(tmp_path / "c")})
    groups = open_groups(config).train
    assert groups.sample(0, epoch=0).teacher_scores is None
    with pytest.raises(InputError, match=r"a.jsonl:1: .* filled up"):
        check_loss_data("mse", groups)
