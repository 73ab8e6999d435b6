import pytest

from crossrank.data.trec import Candidate
from crossrank.errors import DataError, InputError
from crossrank.retrieval.existing_run import ExistingRun
from crossrank.types import Document

CORPUS = [Document(letter, id=letter) for letter in "abc"]
RUN = """\
q2 Q0 a 1 1.0 x
q2 Q0 b 2 3.0 x
q2 Q0 c 3 1.0 x
q9 Q0 unknown 1 1.0 x
q1 Q0 c 1 7 x
"""


def test_candidates_come_by_score_and_equal_ones_in_file_order(tmp_path):
    path = tmp_path / "run.trec"
    path.write_text(RUN)
    retriever = ExistingRun(path)
    retriever.index(CORPUS)
    found = list(retriever.search({"q1": "", "q2": "", "q3": ""}, depth=2))
    assert found == [
        ("q2", (Candidate("b", 3.0), Candidate("a", 1.0))),
        ("q1", (Candidate("c", 7.0),)),
        ("q3", ()),
    ]


def test_an_unknown_document_names_its_line(tmp_path):
    path = tmp_path / "run.trec"
    path.write_text(RUN)
    retriever = ExistingRun(path)
    retriever.index(CORPUS)
    with pytest.raises(DataError, match=r"run\.trec:4: document 'unknown' is not in the corpus"):
        list(retriever.search({"q9": ""}, depth=2))


def test_searching_needs_an_index_and_a_depth(tmp_path):
    with pytest.raises(InputError, match="index"):
        ExistingRun(tmp_path / "run").search({}, depth=1)
    retriever = ExistingRun(tmp_path / "run")
    retriever.index(CORPUS)
    with pytest.raises(InputError, match="depth must be a whole number above 0, not 0"):
        retriever.search({}, depth=0)
