from __future__ import annotations

import json

import pytest

from crossrank.data.beir import read_queries
from crossrank.data.grade_files import GradedPair, read_grades, write_grades
from crossrank.data.groups.build import check_data
from crossrank.data.groups.config import parse_data_config
from crossrank.data.qrels import read_qrels
from crossrank.errors import DataError, InputError
from crossrank.types import Document

PAIRS = [
    GradedPair("q1", "red planet", Document("Mars", id="d1", title="Planets"), 3, "It says so."),
    GradedPair("q2", "bread", Document("Flour", id="d2"), 0, teacher_score=0.25),
    GradedPair("q1", "red planet", Document("Venus", id="d2"), 1),
]


def test_a_folder_of_grades(tmp_path):
    folder = tmp_path / "labels"
    write_grades(folder, PAIRS, split="dev", report={"pairs": 3})
    assert read_qrels(folder / "qrels" / "dev.tsv") == {"q1": {"d1": 3, "d2": 1}, "q2": {"d2": 0}}
    assert read_queries(folder / "queries.jsonl") == {"q1": "red planet", "q2": "bread"}
    rows = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]
    assert rows[0] == {
        "query_id": "q1", "query": "red planet", "document_id": "d1", "label": 3, "reason": "It says so.",
        "title": "Planets", "document": "Mars",
    }  # fmt: skip
    assert rows[2]["teacher_score"] == 0.25
    expected = {("q1", "d1"): 3, ("q1", "d2"): 1, ("q2", "d2"): 0}
    assert (
        read_grades(folder) == read_grades(folder / "labels.jsonl") == read_grades(folder / "qrels/dev.tsv") == expected
    )
    assert not list(tmp_path.glob(".labels*"))
    with pytest.raises(InputError, match="there already"):
        write_grades(folder, PAIRS, split="dev", report={})


def test_the_folder_is_read_as_training_data(tmp_path):
    write_grades(tmp_path / "labels", PAIRS, split="dev", report={})
    source = {"path": str(tmp_path / "labels" / "labels.jsonl"), "positive_from": 2}
    store = check_data(parse_data_config({"train": [source], "cache_dir": str(tmp_path / "cache")})).train[0]
    group = store.group(0)
    documents = [store.document(int(row)) for row in group.rows]
    assert (len(store), group.query_id) == (1, "q1"), "q2 has no positive"
    assert [(document.title, document.text) for document in documents] == [("Planets", "Mars"), (None, "Venus")]
    assert list(group.grades) == [1, 0]


def test_an_id_that_no_qrels_can_hold_leaves_nothing_behind(tmp_path):
    with pytest.raises(InputError, match="white space"):
        write_grades(tmp_path / "x", [GradedPair("q 1", "q", Document("t", id="d"), 1)], split="dev", report={})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "query_id,document_id,label,comment\nq1,d1,3,sure\nq1,d2,1.0,\n"),
        ("a.csv", "grade,qid,docid\n3,q1,d1\n1,q1,d2\n"),
        ("a.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t3\nq1\td2\t1\n"),
        ("a.jsonl", '{"query_id": "q1", "document_id": "d1", "label": 3}\n{"qid": "q1", "docid": "d2", "grade": 1}\n'),
        ("a.qrels", "q1 0 d1 3\nq1 0 d2 1\n"),
    ],
)
def test_grades_of_people_in_any_table(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_grades(tmp_path / name) == {("q1", "d1"): 3, ("q1", "d2"): 1}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "query_id,label\nq1,3\n", r"a.csv:1: no document under 'document_id'"),
        ("a.csv", "query_id,document_id,label\nq1,d1,good\n", r"a.csv:2: the grade 'good' is not a whole number"),
        ("a.csv", "query_id,document_id,label\nq1,d1,1\nq1,d1,2\n", r"a.csv:3: .* judged twice"),
        ("a.csv", "query_id,document_id,label\nq1,d1,\n", r"a.csv:2: no grade"),
        ("a.csv", "query_id,document_id,label\n", "no labels in the file"),
        ("a.csv", "", "no labels in the file"),
        ("a.jsonl", '{"query_id": "q1", "document_id": "d1", "label": -1}\n', "a.jsonl:1: the grade '-1'"),
    ],
)
def test_bad_tables_name_file_and_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_grades(tmp_path / name)
