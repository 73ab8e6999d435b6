import gzip
import shutil

import pytest

from crossrank.errors import DataError, InputError
from crossrank.retrieval.bm25 import BM25

QUERIES = [{"_id": "q1", "text": "red planet"}, {"_id": "q2", "text": "gas giant"}, {"_id": "q3", "text": "dev"}]
CORPUS = [
    {"_id": "mars", "title": "Mars", "text": "is the red planet"},
    {"_id": "venus", "text": "is no red planet"},
    {"_id": "jupiter", "text": "is a gas giant planet"},
    {"_id": "bread", "text": "needs flour"},
]
QRELS = "query-id\tcorpus-id\tscore\nq1\tmars\t2\nq1\tbread\t0\nq2\tjupiter\t1\n"
RUN = "".join(
    f"{query} Q0 {document} {rank} {score} x\n"
    for query, document, rank, score in [
        ("q1", "jupiter", 1, 3.0),
        ("q1", "venus", 2, 5.0),
        ("q1", "mars", 3, 2.0),
        ("q3", "mars", 1, 1.0),
    ]
)
MARS, VENUS, JUPITER, BREAD = (document["text"] for document in CORPUS)


@pytest.fixture
def beir(folder):
    def write(**files):
        defaults = {"queries.jsonl": QUERIES, "corpus.jsonl": CORPUS, "qrels__train.tsv": QRELS, "run.trec": RUN}
        return str(folder(**{**defaults, **files}))

    return write


def test_judged_documents_alone(beir, check):
    groups, problems = check(beir())
    assert groups == [("q1", "red planet", [(MARS, 2), (BREAD, 0)]), ("q2", "gas giant", [(JUPITER, 1)])]
    assert problems == []


def test_negatives_of_a_run_in_the_order_of_its_scores(beir, check):
    path = beir()
    groups, problems = check({"path": path, "run": f"{path}/run.trec"})
    assert groups[0][2] == [(MARS, 2), (BREAD, 0), (VENUS, 0), (JUPITER, 0)]
    assert groups[1][2] == [(JUPITER, 1)]  # not in the run
    assert problems == []
    groups, _ = check({"path": path, "run": f"{path}/run.trec", "depth": 1})
    assert groups[0][2] == [(MARS, 2), (BREAD, 0), (VENUS, 0)]


def test_negatives_by_searching_the_corpus(beir, check):
    groups, _ = check({"path": beir(), "run": "bm25", "depth": 2}, first_stage=BM25)
    assert groups[0][2] == [(MARS, 2), (BREAD, 0), (VENUS, 0), (JUPITER, 0)]
    assert groups[1][2] == [(JUPITER, 1)]  # no other document has a word of the query
    with pytest.raises(InputError, match="run: bm25 needs a first stage"):
        check({"path": beir(), "run": "bm25", "depth": 3})


def test_what_a_search_finds_is_no_negative_where_it_is_relevant_under_another_id(beir, check):
    corpus = [*CORPUS, {"_id": "copy", "text": "Mars is the  RED planet"}, {"_id": "copy2", "text": VENUS}]
    queries = [*QUERIES, {"_id": "q4", "text": "Red planet"}]
    run = RUN + "q4 Q0 mars 1 2.0 x\nq4 Q0 copy2 2 1.5 x\nq4 Q0 bread 2 1.0 x\n"
    files = {"corpus.jsonl": corpus, "queries.jsonl": queries, "qrels__train.tsv": QRELS + "q4\tcopy2\t1\n"}
    path = beir(**files, **{"run.trec": run.replace("q1 Q0 mars 3", "q1 Q0 copy 3")})
    groups, problems = check({"path": path, "run": f"{path}/run.trec"})
    # Query q4 is q1 again: what is relevant for one is no negative of the other.
    assert groups[0][2] == [(MARS, 2), (BREAD, 0), (JUPITER, 0)]
    assert groups[1] == ("q4", "Red planet", [(VENUS, 1), (BREAD, 0)])
    assert [problem.split(":")[0] for problem in problems] == ["repeated query 5"]


def test_packed_files_and_other_splits(beir, check, tmp_path):
    path = beir()
    for name in ("queries.jsonl", "corpus.jsonl", "qrels/train.tsv"):
        with gzip.open(tmp_path / f"{name}.gz", "wb") as packed:
            packed.write((tmp_path / name).read_bytes())
        (tmp_path / name).unlink()
    assert [group[0] for group in check(path)[0]] == ["q1", "q2"]
    with pytest.raises(DataError, match="no split 'test'; there are train"):
        check({"path": path, "split": "test"})


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"qrels__train.tsv": QRELS + "q9\tmars\t1\n"}, "missing id 5: query 'q9' is not among the queries"),
        ({"qrels__train.tsv": QRELS + "q2\tpluto\t1\n"}, "missing id 5: document 'pluto' is not in the corpus"),
        ({"qrels__train.tsv": QRELS + "q1\tmars\t0\n"}, "positive among the negatives 2: 1 document"),
        ({"qrels__train.tsv": QRELS + "q3\tmars\t0\n"}, "no positive 5: no document is relevant"),
        ({"corpus.jsonl": [*CORPUS, {"text": "x"}]}, "missing id 5: a document without an id"),
        ({"corpus.jsonl": [*CORPUS, {"_id": "mars", "text": "x"}]}, "duplicate id 5: the document id 'mars'"),
        ({"queries.jsonl": [*QUERIES, {"_id": "q1", "text": "x"}]}, "malformed row 4: the id 'q1' stands for another"),
        ({"run.trec": RUN.replace("venus", "pluto")}, "missing id 2: document 'pluto' is not in the corpus"),
        ({"run.trec": RUN + "q4 Q0 mars 1\n"}, "malformed row 5: 4 fields where a TREC run has 6"),
    ],
)
def test_what_is_wrong_is_reported_with_its_line(beir, check, files, problem):
    path = beir(**files)
    _, problems = check({"path": path, "run": f"{path}/run.trec"})
    assert any(found.startswith(problem) for found in problems), problems


def test_what_cannot_be_read_at_all_is_an_error(beir, check, tmp_path):
    path = beir(**{"dev.trec": "q3 Q0 mars 1 1.0 x\n"})
    with pytest.raises(DataError, match=r"dev\.trec: not a single query of the split is in this run"):
        check({"path": path, "run": f"{path}/dev.trec"})
    (tmp_path / "corpus.jsonl").unlink()
    with pytest.raises(DataError, match=r"corpus\.jsonl: no such file"):
        check(path)
    shutil.rmtree(tmp_path / "qrels")
    with pytest.raises(DataError, match=r"neither a BEIR folder"):
        check(path)
