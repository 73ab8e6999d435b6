import json

import pytest

from crossrank.data.audited_groups import open_groups_to_audit
from crossrank.errors import DataError


def read(path):
    with open_groups_to_audit(path) as groups:
        first = list(groups())
        assert list(groups()) == first  # may be read again
        return first


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_field_that_an_audit_needs(tmp_path):
    place = {"bm25": {"rank": 2, "score": 3.5}}
    row = {
        "query_id": 7,
        "query": "red?",
        "positives": [{"id": "d1", "title": "Mars", "text": "red", "score": 8, "found_by": place}],
        "negatives": ["Venus", {"text": "Pluto", "source": "random", "found_by": place}],
    }
    (group,) = read(write(tmp_path / "groups.jsonl", row))
    assert (group.query_id, group.query) == ("7", "red?")
    assert group.positives == (("d1", "Mars red", {"score": 8.0}, None),)
    assert group.negatives == ((None, "Venus", {}, None), (None, "Pluto", {"bm25": 3.5}, "random"))


def test_rows_of_automodel_with_infinite_scores(tmp_path):
    (tmp_path / "wiki").mkdir()
    (tmp_path / "wiki" / "merlin_metadata.json").write_text('{"class": "TextQADataset", "corpus_id": "wiki"}')
    write(tmp_path / "wiki" / "train.jsonl", {"id": "d1", "text": "Mars"}, {"id": "d2", "text": "Venus"})
    row = {"question_id": "q1", "question": "red?", "corpus_id": "wiki", "pos_doc": ["d1"]}
    row["neg_doc"] = [{"id": "d2", "score": float("-inf")}, {"id": "d1", "score": 0.5}]
    (tmp_path / "mined.json").write_text(json.dumps({"corpus": {"path": "wiki"}, "data": [row]}))
    (group,) = read(tmp_path / "mined.json")
    assert [(d.id, d.text, d.scores["score"]) for d in group.negatives] == [
        ("d2", "Venus", float("-inf")),
        ("d1", "Mars", 0.5),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "a", "negatives": []}, "no 'positives'"),
        ({"query": "a", "positives": [], "negatives": []}, "there is no positive"),
        ({"query": 3, "positives": ["x"], "negatives": []}, "the query must be a string"),
        ({"query": "a", "positives": [{"text": 5}], "negatives": []}, "'text' must be a string"),
        ([1], "expected a JSON object"),
    ],
)
def test_bad_rows_name_their_line(tmp_path, row, message):
    good = {"query": "a", "positives": ["x"], "negatives": []}
    with pytest.raises(DataError, match=rf"groups\.jsonl:2: .*{message}"):
        read(write(tmp_path / "groups.jsonl", good, row))
