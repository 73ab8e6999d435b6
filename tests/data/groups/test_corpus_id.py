import json

import pytest

from crossrank.errors import DataError

METADATA = json.dumps({"class": "TextQADataset", "corpus_id": "wiki"})
CORPUS = [{"id": "d1", "text": "Mars"}, {"id": 2, "text": "Venus", "title": "T"}, {"id": "d3", "text": "Pluto"}]


def row(**changes):
    base = {"question_id": "q1", "question": "red?", "corpus_id": "wiki", "pos_doc": [{"id": "d1"}], "neg_doc": [2]}
    return {**base, **changes}


def write(folder, rows, **files):
    value = {"corpus": {"path": "wiki_corpus"}, "data": rows}
    defaults = {
        "train.json": json.dumps(value, indent=1),
        "wiki_corpus__merlin_metadata.json": METADATA,
        "wiki_corpus__train.jsonl": CORPUS,
    }
    return str(folder(**{**defaults, **files}) / "train.json")


def test_rows_name_documents_of_a_corpus(folder, check):
    rows = [row(), row(question_id="q2", question="cold?", pos_doc=["d3"], neg_doc=[{"id": "d1", "score": 0.5}, "2"])]
    groups, problems = check(write(folder, rows))
    assert groups == [
        ("q1", "red?", [("Mars", 1), ("Venus", 0)]),
        ("q2", "cold?", [("Pluto", 1), ("Mars", 0), ("Venus", 0)]),
    ]
    assert problems == []


def test_a_corpus_may_be_parquet_and_the_data_may_stand_before_it(folder, check):
    import pyarrow
    from pyarrow import parquet

    text = json.dumps({"data": [row()], "corpus": [{"path": "wiki_corpus"}]})
    path = write(folder, [], **{"train.json": text, "wiki_corpus__train.jsonl": "not read: it is Parquet that counts"})
    root = folder()
    (root / "wiki_corpus/train.jsonl").unlink()
    parquet.write_table(
        pyarrow.table({"id": ["d1", "2"], "text": ["Mars", "Venus"]}), root / "wiki_corpus/train-0.parquet"
    )
    assert check(path)[0] == [("q1", "red?", [("Mars", 1), ("Venus", 0)])]


def test_images_of_a_corpus(folder, check, opened):
    import pyarrow
    from pyarrow import parquet

    rows = [row(pos_doc=["a.png"], neg_doc=["b.png"])]
    metadata = json.dumps({"class": "ColPaliDataset", "corpus_id": "wiki"})
    path = write(folder, rows, **{"wiki_corpus__merlin_metadata.json": metadata})
    root = folder()
    (root / "wiki_corpus/train.jsonl").unlink()
    images = [{"bytes": b"A", "path": None}, {"bytes": b"B", "path": None}]
    parquet.write_table(
        pyarrow.table({"image_filename": ["a.png", "b.png"], "image": images}), root / "wiki_corpus/train.parquet"
    )
    group = opened(path, negatives={"num": 1}).sample(0, epoch=0)
    assert [(document.id, document.image) for document in group.documents] == [("a.png", b"A"), ("b.png", b"B")]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (row(neg_doc=["d1", "d9"]), "missing id 3: document 'd9' is not in the corpus"),
        (row(corpus_id="other"), "malformed row 3: unknown corpus_id 'other'; known are 'wiki'"),
        (row(pos_doc=[]), "malformed row 3: there is no positive"),
        ({"question": "x"}, "malformed row 3: no 'query_id' among the fields"),
        (row(neg_doc=["d1"]), "positive among the negatives 3: 1 document"),
        ([], "malformed row 3: expected a JSON object, found a list"),
    ],
)
def test_a_bad_row_is_reported_with_its_line(folder, check, bad, problem):
    text = (
        '{"corpus": {"path": "wiki_corpus"}, "data": [\n' + json.dumps(row(question_id="ok")) + ",\n" + json.dumps(bad)
    )
    groups, problems = check(write(folder, [], **{"train.json": text + "\n]}"}))
    assert groups[0][0] == "ok"
    assert any(found.startswith(problem) for found in problems), problems


def test_an_id_that_stands_for_two_documents_is_reported(folder, check):
    corpus = [*CORPUS, {"id": "d1", "text": "Another"}, {"id": "d3", "text": "Pluto"}]
    groups, problems = check(write(folder, [row()], **{"wiki_corpus__train.jsonl": corpus}))
    assert problems == ["duplicate id 4: the document id 'd1' stands for another document above"]
    assert groups == [("q1", "red?", [("Mars", 1), ("Venus", 0)])]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wiki_corpus__merlin_metadata.json": "{}"}, "no 'corpus_id' in the metadata"),
        (
            {"wiki_corpus__merlin_metadata.json": '{"class": "X", "corpus_id": "w"}'},
            "unknown class 'X'; known are Text",
        ),
        ({"wiki_corpus__merlin_metadata.json": "{"}, r"merlin_metadata\.json: malformed JSON"),
        ({"train.json": '{"corpus": {"path": "nowhere"}, "data": []}'}, r"train\.json:1: no corpus folder .*nowhere"),
        ({"train.json": '{"corpus": {"path": "wiki_corpus"}, "data": [{]}'}, r"train\.json:1: malformed JSON"),
        ({"wiki_corpus__train.jsonl": ""}, "not a single document in the corpus"),
    ],
)
def test_what_cannot_be_read_at_all_is_an_error(folder, check, files, message):
    with pytest.raises(DataError, match=message):
        check(write(folder, [row()], **files))
