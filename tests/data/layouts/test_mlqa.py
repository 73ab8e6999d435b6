import json

import pytest

from crossrank.data.layouts.mlqa import CROSS_PAIRS, LANGUAGES, read
from crossrank.errors import DataError, InputError

PARAGRAPH = "زحل كوكب."


@pytest.fixture
def squad(tmp_path):
    """As the released folder: English questions on Arabic paragraphs; one paragraph comes twice."""
    paragraphs = [
        {"context": PARAGRAPH, "qas": [{"id": "x1", "question": "What is Saturn?", "answers": []}]},
        {"context": "خبز.", "qas": [{"id": "x2", "question": "What is baked?", "answers": []}]},
        {"context": PARAGRAPH, "qas": [{"id": "x3", "question": "Which planet?", "answers": []}]},
    ]
    file = tmp_path / "MLQA_V1" / "test" / "test-context-ar-question-en.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"data": [{"title": "زحل", "paragraphs": paragraphs}]}), encoding="utf-8")
    return tmp_path


def test_42_pairs_cross_a_border():
    assert len(LANGUAGES) == 7
    assert len(set(CROSS_PAIRS)) == 42
    assert "ar.en" in CROSS_PAIRS
    assert "en.en" not in CROSS_PAIRS


def test_paragraphs_stand_first_in_the_name_of_a_pair(squad):
    contents = read(squad, config="ar.en", split="test", revision=None)
    assert contents.queries == {"x1": "What is Saturn?", "x2": "What is baked?", "x3": "Which planet?"}
    documents = {document.id: document.text for document in contents.documents}
    assert documents == {"a0p0": PARAGRAPH, "a0p1": "خبز."}
    assert contents.qrels == {"x1": {"a0p0": 1}, "x2": {"a0p1": 1}, "x3": {"a0p0": 1}}


def test_the_tables_of_mteb_hold_the_same_pair(tmp_path, write_table):
    write_table(tmp_path, "ara-eng-corpus", "validation", [{"id": "d", "title": "", "text": PARAGRAPH}])
    write_table(tmp_path, "ara-eng-queries", "validation", [{"id": "q", "text": "What is Saturn?"}])
    write_table(tmp_path, "ara-eng-qrels", "validation", [{"query-id": "q", "corpus-id": "d", "score": 1}])
    contents = read(tmp_path, config="ar.en", split="dev", revision=None)
    assert contents.queries == {"q": "What is Saturn?"}
    assert [document.text for document in contents.documents] == [PARAGRAPH]


@pytest.mark.parametrize("config", ["mlqa.ar.en", "MLQA.ar.en"])
def test_a_table_a_pair_with_a_question_a_row(tmp_path, write_table, config):
    """As facebook/mlqa and google/xtreme."""
    rows = [
        {"context": text, "question": question, "answers": {"text": ["x"], "answer_start": [0]}, "id": f"x{i}"}
        for i, (text, question) in enumerate(
            [(PARAGRAPH, "What is Saturn?"), ("خبز.", "Baked?"), (PARAGRAPH, "Which?")]
        )
    ]
    write_table(tmp_path, config, "validation", rows)
    contents = read(tmp_path, config="ar.en", split="dev", revision=None)
    assert contents.queries == {"x0": "What is Saturn?", "x1": "Baked?", "x2": "Which?"}
    assert {document.id: document.text for document in contents.documents} == {"p0": PARAGRAPH, "p1": "خبز."}
    assert contents.qrels == {"x0": {"p0": 1}, "x1": {"p1": 1}, "x2": {"p0": 1}}


@pytest.mark.parametrize("pair", [None, "ar", "ar.fr", "ar-en"])
def test_only_pairs_of_mlqa(squad, pair):
    with pytest.raises(InputError, match=r"as in 'ar\.en'"):
        read(squad, config=pair, split="test", revision=None)


def test_a_file_of_another_kind_is_named(squad):
    file = squad / "MLQA_V1" / "test" / "test-context-ar-question-en.json"
    for text in ('{"data": [{"title": "x"}]}', "[]", "{"):
        file.write_text(text)
        with pytest.raises(DataError, match=r"question-en\.json: not in SQuAD's JSON format"):
            read(squad, config="ar.en", split="test", revision=None)
