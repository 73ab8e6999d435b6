import base64
import json

import pytest

from crossrank.data.groups.build import open_groups

ROWS = [
    {"query_id": 7, "query": "red planet?", "positives": ["Mars"], "negatives": ["Venus", {"text": "Pluto"}]},
    # The names of NeMo AutoModel.
    {"question_id": "n1", "question": "gas giant?", "pos_doc": {"text": "Jupiter"}, "neg_doc": [], "corpus_id": "x"},
    {"query": "ring?", "pos_doc": "Saturn", "neg_doc": ["Earth"]},
    {"id": "i4", "query": "ice?", "positive": "Uranus", "negative": "Sun"},
]
GROUPS = [
    ("7", "red planet?", [("Mars", 1), ("Venus", 0), ("Pluto", 0)]),
    ("n1", "gas giant?", [("Jupiter", 1)]),
]


LAST = ("i4", "ice?", [("Uranus", 1), ("Sun", 0)])


def test_json_lines(folder, check):
    path = folder(**{"a.jsonl": ROWS}) / "a.jsonl"
    assert check(str(path)) == ([*GROUPS, ("a.jsonl:3", "ring?", [("Saturn", 1), ("Earth", 0)]), LAST], [])


@pytest.mark.parametrize("value", [ROWS, {"version": 1, "data": ROWS}])
def test_one_json_value(folder, check, value):
    path = folder(**{"a.json": json.dumps(value, indent=1)}) / "a.json"
    groups, problems = check(str(path))
    assert groups[:2] == GROUPS and groups[2][0].startswith("a.json:") and problems == []


def test_parquet(tmp_path, check):
    import pyarrow
    from pyarrow import parquet

    rows = {"query": ["q"], "positives": [["p"]], "negatives": [["n", "m"]]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet")
    assert check(str(tmp_path / "a.parquet")) == ([("a.parquet:1", "q", [("p", 1), ("n", 0), ("m", 0)])], [])


def test_teacher_scores_are_kept_where_every_document_has_one(folder, check, config):
    rows = [
        {"query": "a", "documents": ["low", "high", "mid"], "scores": [-3.5, 9, 1]},
        {"query": "b", "documents": ["x", "y"], "scores": [2, 1], "labels": [0, 1]},
        {"query": "c", "positives": [{"text": "p", "score": 3.0}], "negatives": [{"text": "n", "score": -1.0}]},
        {"query": "d", "positives": ["p"], "negatives": [{"text": "n", "score": -1.0}]},
    ]
    path = folder(**{"a.jsonl": rows}) / "a.jsonl"
    groups, problems = check(str(path))
    assert [problem.split(":")[0] for problem in problems] == [
        f"teacher scores lost by filling up {n}" for n in (1, 2, 3)
    ]
    assert [group[2] for group in groups] == [
        [("high", 9), ("mid", 1), ("low", -3.5)],  # the best score counts as the positive
        [("y", 1), ("x", 2)],
        [("p", 3), ("n", -1)],
        [("p", 1), ("n", 0)],  # labels: the positive has no score
    ]
    opened = open_groups(config(str(path), negatives={"num": 1}, num_positives=1))
    assert next(opened.train.without_scores(), None) is not None
    scored = next(g for i in range(4) if (g := opened.train.sample(i, epoch=0)).query == "c")
    assert scored.teacher_scores == (3.0, -1.0) and scored.labels == (1.0, 0.0)


def test_graded_labels_put_the_best_first(folder, check):
    rows = [{"query": "a", "documents": ["none", "some", "all"], "labels": [0, 1, 3]}]
    path = str(folder(**{"a.jsonl": rows}) / "a.jsonl")
    assert check(path)[0][0][2] == [("all", 3), ("some", 1), ("none", 0)]
    # Grades are 1 from `positive_from` on and 0 below, so that losses for two labels take them.
    assert check({"path": path, "positive_from": 2})[0][0][2] == [("all", 1), ("none", 0), ("some", 0)]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{", "malformed row 2: malformed JSON"),
        ("[]", "malformed row 2: expected a JSON object, found a list"),
        ({"positives": ["p"], "negatives": []}, "malformed row 2: no 'query' among the fields"),
        (
            {"query": 5, "positives": ["p"], "negatives": []},
            "malformed row 2: the query must be a string, not a number",
        ),
        ({"query": "q", "positives": ["p"], "negative_docs": []}, "malformed row 2: no 'negatives' among the fields"),
        ({"query": "q", "positives": [], "negatives": ["n"]}, "malformed row 2: there is no positive"),
        (
            {"query": "q", "positives": [5], "negatives": []},
            "malformed row 2: a document must be a string or an object",
        ),
        (
            {"query": "q", "positives": [{"id": 1}], "negatives": []},
            "malformed row 2: no 'text' among the fields ('id')",
        ),
        ({"query": "q", "documents": ["a"]}, "malformed row 2: 'documents' need 'labels', or 'scores', or both"),
        (
            {"query": "q", "documents": ["a"], "scores": [1, 2]},
            "malformed row 2: 'scores' must be a list of one number",
        ),
        ('{"query": "q", "documents": ["a"], "scores": [1e999]}', "malformed row 2: a score must be a finite number"),
        ({"query": " ", "positives": ["p"], "negatives": []}, "empty text 2: the query is empty"),
        ({"query": "q", "positives": ["p"], "negatives": ["\n"]}, "empty text 2: a document is empty"),
        (
            {"query": "q", "positives": ["P p"], "negatives": ["n", " p  P"]},
            "positive among the negatives 2: 1 document",
        ),
        ({"query": "q", "positives": ["p"], "negatives": ["n", "n"]}, "repeated document 2: 1 document(s) come more"),
        ({"query": "q", "documents": ["a"], "labels": [0]}, "no positive 2: no document is relevant"),
        ({"query_id": "ok", "query": "q", "positives": ["p"], "negatives": []}, "duplicate id 2: the query id 'ok'"),
        ({"query": "FINE ", "positives": ["x"], "negatives": []}, "repeated query 2: the same query as in another row"),
        ({"query": "fine", "positives": ["x"], "negatives": ["p1"]}, "positive among the negatives 2: a negative is a"),
        ({"query": "q", "positives": [{"image": "none.png"}], "negatives": []}, "unreadable image 2: no image file"),
        (
            {"query": "q", "positives": [{"image": "http://x/y"}], "negatives": []},
            "unreadable image 2: the image 'http://x/y'",
        ),
    ],
)
def test_what_is_wrong_is_reported_with_its_line(folder, check, row, problem):
    fine = {"query_id": "ok", "query": "fine", "positives": ["p1"], "negatives": ["n1"]}
    text = "\n".join([json.dumps(fine), row if isinstance(row, str) else json.dumps(row), ""])
    groups, problems = check(str(folder(**{"a.jsonl": text}) / "a.jsonl"))
    assert groups[0] == ("ok", "fine", [("p1", 1), ("n1", 0)])
    assert any(found.startswith(problem) for found in problems), problems


def test_images_stand_beside_or_instead_of_texts(folder, config):
    data_url = "data:image/png;base64," + base64.b64encode(b"png").decode()
    rows = [{"query": "q", "positives": [{"image": "page.png"}], "negatives": [{"text": "t", "image": data_url}]}]
    root = folder(**{"a.jsonl": rows, "page.png": b"pixels"})
    group = open_groups(config(str(root / "a.jsonl"), negatives={"num": 1})).train.sample(0, epoch=0)
    assert [(document.text, document.image) for document in group.documents] == [
        ("", str(root / "page.png")),
        ("t", data_url),
    ]
