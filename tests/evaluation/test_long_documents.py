import json

import pytest

from crossrank.data.trec import Candidate
from crossrank.errors import InputError
from crossrank.evaluation.long_documents import (
    PositionCurve,
    far_relevant_sets,
    position_table,
    write_position_report,
)

QRELS = {"q1": {"d1": 1}, "q2": {"d2": 1}, "q3": {"d99": 1}}
CANDIDATES = {
    "q1": (Candidate("d1", 2.0), Candidate("d5", 1.0)),
    "q2": (Candidate("d5", 2.0), Candidate("d2", 1.0)),
    "q3": (Candidate("d5", 2.0),),
}


def build(make_set, *, positions=(0.0, 0.5, 1.0), words=60, num_documents=100):
    data = make_set(QRELS, num_documents=num_documents)
    return far_relevant_sets(data, CANDIDATES, positions=positions, words=words)


def test_the_paragraph_stands_where_it_was_asked_for_among_the_same_others(make_set):
    sets = build(make_set)
    found = {position: data.corpus.get("d1") for position, data in sets.items()}
    print(found[0.5])
    texts = {position: document.text.split("\n\n") for position, document in found.items()}
    assert texts[0.0][0] == texts[1.0][-1] == "words of d1"
    assert (len(texts[0.5]), texts[0.5].index("words of d1")) == (20, 10)
    assert sorted(texts[0.0]) == sorted(texts[0.5]) == sorted(texts[1.0])
    for document in found.values():
        assert 60 <= len(document.text.split()) < 60 + 3
        assert (document.id, document.title) == ("d1", None)
    assert texts == {p: d.corpus.get("d1").text.split("\n\n") for p, d in build(make_set).items()}


def test_no_other_candidate_and_nothing_relevant_fills_a_document_up(make_set):
    for data in build(make_set).values():
        assert set(data.qrels) == {"q1", "q2"}  # the answer of q3 was not found
        assert data.candidates == {"q1": ["d1", "d5"], "q2": ["d5", "d2"]}
        assert sorted(document.id for document in data.corpus) == ["d1", "d2", "d5"]
        assert len(data.corpus) == 3
        assert "d7" not in data.corpus
        assert data.corpus.get("d7") is None
        for document in data.corpus:
            inside = [text for text in document.text.split("\n\n") if text != f"words of {document.id}"]
            assert not {"words of d1", "words of d2", "words of d5", "words of d99"} & set(inside)


def test_what_cannot_be_made_is_said(make_set):
    with pytest.raises(InputError, match=r"between 0 \(the beginning\) and 1 \(the end\), not 1.5"):
        build(make_set, positions=(0.0, 1.5))
    with pytest.raises(InputError, match="has 17 paragraphs that are no candidates, and 20 are needed"):
        build(make_set, num_documents=20)
    with pytest.raises(InputError, match="no query of tiny has a relevant paragraph"):
        far_relevant_sets(make_set({"q3": {"d99": 1}}), CANDIDATES, positions=[0.0], words=10)


def test_the_report(tmp_path):
    curves = [
        PositionCurve("truncate", ((0.0, 0.9), (1.0, 0.4))), PositionCurve("chunk", ((0.0, 0.9), (1.0, 0.85))),
    ]  # fmt: skip
    table = position_table(curves, title="t", note="n")
    assert table.rows == (("0", "0.9000", "0.9000"), ("1", "0.4000", "0.8500"))
    write_position_report(tmp_path, curves, {"model": "m"}, title="t", note="n")
    facts = json.loads((tmp_path / "far_relevant.json").read_text())
    assert facts["nDCG@10"] == {"truncate": {"0.0": 0.9, "1.0": 0.4}, "chunk": {"0.0": 0.9, "1.0": 0.85}}
    page = (tmp_path / "far_relevant.html").read_text()
    assert page.count("<svg") == 1
    assert ">truncate<" in page
