import json

import pytest

from crossrank.data.beir import open_corpus
from crossrank.data.first_stage import RerankingTask, read_tasks
from crossrank.data.text import SkippedLines
from crossrank.errors import DataError
from crossrank.types import Document

RUN = """\
q1 Q0 d2 1 9 t
q1 Q0 d1 2 8 t
q2 Q0 d1 1 7 t
"""


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"_id": f"d{i}", "text": f"text {i}"}) + "\n" for i in (1, 2)))
    with open_corpus(path) as opened:
        yield opened


def tasks(tmp_path, corpus, run, queries, **options):
    path = tmp_path / "run.trec"
    path.write_text(run)
    return list(read_tasks(path, queries, corpus, **options))


def test_ids_become_texts_in_the_order_of_the_run(tmp_path, corpus):
    one, two = Document("text 1", id="d1"), Document("text 2", id="d2")
    assert tasks(tmp_path, corpus, RUN, {"q1": "first", "q2": "second", "q3": "unused"}) == [
        RerankingTask("q1", "first", (two, one), (9.0, 8.0)),
        RerankingTask("q2", "second", (one,), (7.0,)),
    ]


def test_unknown_queries_and_documents_are_named_or_left_out(tmp_path, corpus):
    queries = {"q1": "first", "q2": "second"}
    run = "q0 Q0 d1 1 1 t\n" + RUN + "q3 Q0 d1 1 1 t\n"
    with pytest.raises(DataError, match=r"run\.trec:1: no text for query 'q0'"):
        tasks(tmp_path, corpus, run, queries)
    run = RUN.replace("q1 Q0 d1", "q1 Q0 d7").replace("q2 Q0 d1", "q2 Q0 d8")
    with pytest.raises(DataError, match=r"run\.trec:2: document 'd7' is not in the corpus"):
        tasks(tmp_path, corpus, run, queries)
    skipped = SkippedLines()
    assert [
        (task.query_id, task.first_stage_scores) for task in tasks(tmp_path, corpus, run, queries, skipped=skipped)
    ] == [("q1", (9.0,))]
    assert [error.line for error in skipped.errors] == [2, 3]
