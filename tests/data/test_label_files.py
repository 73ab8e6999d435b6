from __future__ import annotations

import json

import pytest

from crossrank.data.label_files import LabelledPair, write_labels
from crossrank.errors import InputError
from crossrank.types import Document

PAIRS = [
    LabelledPair("q1", "red planet", "d1", 0.75, True, impressions=8, clicks=6),
    LabelledPair("q1", "red planet", "d2", 0.0, False, impressions=9, clicks=0),
]
CORPUS = {"d1": Document("Mars looks red.", title="Mars", id="d1")}


def test_a_folder_that_training_and_mining_read(tmp_path):
    out = tmp_path / "labels"
    assert write_labels(out, PAIRS, report={"pages": 9}) == 0
    rows = [json.loads(line) for line in (out / "labels.jsonl").read_text().splitlines()]
    assert [(row["query"], row["document_id"], row["label"]) for row in rows] == [
        ("red planet", "d1", 0.75),
        ("red planet", "d2", 0.0),
    ]
    assert (out / "queries.jsonl").read_text() == '{"_id": "q1", "text": "red planet"}\n'
    assert (out / "qrels" / "train.tsv").read_text() == "query-id\tcorpus-id\tscore\nq1\td1\t1\n"
    assert json.loads((out / "report.json").read_text()) == {"pages": 9}


def test_with_a_corpus_every_row_has_its_text(tmp_path):
    unknown = write_labels(tmp_path / "labels", PAIRS, report={}, find_document=CORPUS.get)
    assert unknown == 1, "d2 is not in the corpus"
    (row,) = [json.loads(line) for line in (tmp_path / "labels" / "labels.jsonl").read_text().splitlines()]
    assert (row["document"], row["title"]) == ("Mars looks red.", "Mars")


def test_nothing_is_overwritten_and_nothing_is_left_half_written(tmp_path):
    bad = [*PAIRS, LabelledPair("q 2", "venus", "d1", 0.5, True, impressions=5, clicks=3)]
    with pytest.raises(InputError, match="'q 2' is empty or holds white space"):
        write_labels(tmp_path / "labels", bad, report={})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "mine.txt").touch()
    with pytest.raises(InputError, match="is there already"):
        write_labels(tmp_path / "labels", PAIRS, report={})
