import json

import pytest

from crossrank.data.beir import open_beir
from crossrank.data.beir_writer import write_beir
from crossrank.data.layouts.contents import Contents
from crossrank.errors import DataError
from crossrank.types import Document

QUERIES = {"q1": "Is Mars red?", "q2": "nothing is relevant", "q3": "not judged"}
QRELS = {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": 0}}
DOCUMENTS = [Document("Mars, “red”.", title="Mars", id="d1"), Document("", id="d2", image=b"\xff\xd8\xff picture")]


def test_what_is_written_is_read_again(tmp_path):
    folder = tmp_path / "deep" / "set"
    write_beir(Contents(QUERIES, QRELS, iter(DOCUMENTS), languages={"q1": "en"}), folder, split="dev", source="org/set")
    with open_beir(folder, split="dev") as data:
        assert data.queries == {"q1": "Is Mars red?"}, "where nothing is relevant nothing is measured"
        assert data.qrels == {"q1": {"d1": 2, "d2": 0}}
        assert data.corpus.get("d1") == DOCUMENTS[0]
        assert data.corpus.get("d2").image.name == "0000001.jpg"
        assert data.corpus.get("d2").image.read_bytes() == b"\xff\xd8\xff picture"
    assert json.loads((folder / "queries.jsonl").read_text()) == {"_id": "q1", "text": QUERIES["q1"], "language": "en"}
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (Contents({}, QRELS, DOCUMENTS), "query 'q1' is judged and has no text"),
        (Contents(QUERIES, {"q2": {"d1": 0}}, DOCUMENTS), "no query has a relevant document"),
        (Contents(QUERIES, QRELS, [Document("x")]), "document 1 has no id"),
        (Contents(QUERIES, QRELS, DOCUMENTS, {"q1": ["d1", "d9", "d8"]}), r"candidate 'd8' \(2 such\) is not among"),
        (Contents(QUERIES, {"q1": {"d7": 1}}, DOCUMENTS), r"judged document 'd7' \(1 such\) is not among"),
        (Contents(QUERIES, QRELS, [*DOCUMENTS, DOCUMENTS[0]]), "document 3: the id 'd1' comes twice"),
        (Contents(QUERIES, QRELS, [*DOCUMENTS, Document("x", id="d1")]), "document 3: the id 'd1' stands for another"),
    ],
)
def test_a_bad_set_leaves_nothing_behind(tmp_path, contents, message):
    with pytest.raises(DataError, match=f"^org/set: {message}"):
        write_beir(contents, tmp_path / "set", split="dev", source="org/set")
    assert not list(tmp_path.iterdir())


def test_an_interrupt_leaves_nothing_behind(tmp_path):
    def documents():
        yield DOCUMENTS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_beir(Contents(QUERIES, QRELS, documents()), tmp_path / "set", split="dev", source="org/set")
    assert not list(tmp_path.iterdir())


def test_the_faster_of_two_writers_wins(tmp_path):
    write_beir(Contents(QUERIES, QRELS, DOCUMENTS), tmp_path / "set", split="dev", source="org/set")
    write_beir(Contents(QUERIES, QRELS, DOCUMENTS), tmp_path / "set", split="dev", source="org/set")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
