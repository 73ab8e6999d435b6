import pytest

from crossrank.data.layouts.mteb import read
from crossrank.errors import DataError

CORPUS = [{"id": "d1", "title": "Mars", "text": "Rot."}, {"id": "d2", "title": "", "text": "Brot."}]
QUERIES = [{"id": "q1", "text": "Welcher Planet ist rot?"}, {"id": "q2", "text": "not judged"}]
QRELS = [{"query-id": "q1", "corpus-id": "d1", "score": 1}, {"query-id": "q1", "corpus-id": "d2", "score": 0}]
CANDIDATES = [{"query-id": "q1", "corpus-ids": ["d2", "d1"]}]


@pytest.fixture
def reranking(tmp_path, write_table, write_card):
    """As mteb/MIRACLReranking: four tables a language, named in the card."""
    tables = {"de-corpus": CORPUS, "de-queries": QUERIES, "de-qrels": QRELS, "de-top_ranked": CANDIDATES}
    for config, rows in tables.items():
        write_table(tmp_path, config, "dev", rows)
    write_card(tmp_path, {config: {"dev": f"{config}/dev-*"} for config in tables})
    return tmp_path


def check(contents, *, candidates):
    print(contents.queries, contents.qrels, contents.candidates)
    assert contents.queries["q1"] == "Welcher Planet ist rot?"
    assert contents.qrels == {"q1": {"d1": 1, "d2": 0}}
    assert [(d.id, d.title, d.text, d.image) for d in contents.documents] == [
        ("d1", "Mars", "Rot.", None),
        ("d2", None, "Brot.", None),
    ]
    assert contents.candidates == candidates


def test_a_language_of_a_reranking_set_with_its_candidates(reranking):
    check(read(reranking, config="de", split="dev", revision=None), candidates={"q1": ["d2", "d1"]})


def test_the_only_split_stands_for_any(reranking):
    check(read(reranking, config="de", split="test", revision=None), candidates={"q1": ["d2", "d1"]})


def test_folders_without_a_card_are_found_by_their_names(reranking):
    (reranking / "README.md").unlink()
    check(read(reranking, config="de", split="dev", revision=None), candidates={"q1": ["d2", "d1"]})


def test_a_retrieval_set_of_lines_whose_judgements_are_the_default(tmp_path, write_lines, write_card):
    """As mteb/nq: one language, JSON lines and `_id`, judgements as the config `default`."""
    write_lines(tmp_path / "corpus.jsonl", [{"_id": row["id"]} | row for row in CORPUS])
    write_lines(tmp_path / "queries.jsonl", [{"_id": row["id"], "text": row["text"]} for row in QUERIES])
    write_lines(tmp_path / "qrels" / "test.jsonl", [row | {"score": float(row["score"])} for row in QRELS])
    card = {
        "default": {"test": "qrels/test.jsonl"},
        "corpus": {"corpus": "corpus.jsonl"},
        "queries": {"queries": "queries.jsonl"},
    }
    write_card(tmp_path, card)
    check(read(tmp_path, config=None, split="test", revision=None), candidates=None)


def test_judgements_as_a_table_with_tabs(tmp_path, write_lines):
    """As the older BEIR copies: no card, `qrels/test.tsv`."""
    write_lines(tmp_path / "corpus.jsonl.gz", CORPUS)
    write_lines(tmp_path / "queries.jsonl.gz", QUERIES)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\n")
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td1\t1\n")
    check(read(tmp_path, config=None, split="test", revision=None), candidates=None)
    with pytest.raises(DataError, match=r"no split 'dev' in 'qrels': there are test, train"):
        read(tmp_path, config=None, split="dev", revision=None)


def test_a_missing_language_says_what_is_missing(reranking):
    with pytest.raises(DataError, match="no table 'fr-qrels' with judgements"):
        read(reranking, config="fr", split="dev", revision=None)


def test_negative_grades_of_published_sets_are_not_relevant(reranking, write_table):
    write_table(reranking, "de-qrels", "dev", [{"query-id": "q1", "corpus-id": "d1", "score": -1}])
    assert read(reranking, config="de", split="dev", revision=None).qrels == {"q1": {"d1": 0}}


@pytest.mark.parametrize(
    ("table", "rows", "message"),
    [
        ("de-qrels", [{"query-id": "q1", "corpus-id": "d1", "score": 0.5}], "row 1: the grade 0.5 is not a whole"),
        ("de-qrels", [{"query-id": None, "corpus-id": "d1"}], "row 1: no id under 'query-id'"),
        ("de-queries", [{"id": "q1", "words": "x"}], r"row 1: no text under 'text' or 'query' \(columns: id, words\)"),
        ("de-top_ranked", [{"query-id": "q1", "corpus-ids": "d1"}], "row 1: no list under 'corpus-ids'"),
        ("de-qrels", [{"query-id": "q9", "corpus-id": "d1", "score": 1}], "row 1: query 'q9' is not among the queries"),
        ("de-queries", [QUERIES[0], {"id": "q1", "text": "x"}], "row 2: the id 'q1' stands for another query above"),
        ("de-corpus", [{"id": "d1", "title": 7, "text": "x"}], "row 1: the title is no text"),
        ("de-corpus", [{"id": "d1", "body": "x"}], "row 1: neither a text nor an image"),
    ],
)
def test_bad_rows_name_file_and_row(reranking, write_table, table, rows, message):
    write_table(reranking, table, "dev", rows)
    with pytest.raises(DataError, match=rf"{table}/dev-00000-of-00001\.parquet: {message}"):
        list(read(reranking, config="de", split="dev", revision=None).documents)
