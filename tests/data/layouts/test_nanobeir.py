import pytest

from crossrank.data.layouts.nanobeir import DEPTH, read
from crossrank.errors import DataError, InputError


@pytest.fixture
def nano(tmp_path, write_table):
    """As sentence-transformers/NanoBEIR-en: four tables, a split a set; qrels without grades; long BM25 lists."""
    documents = [{"_id": f"d{i}", "text": f"text {i}"} for i in range(DEPTH + 20)]
    for name in ("NanoMSMARCO", "NanoNQ"):
        write_table(tmp_path, "corpus", name, documents)
        write_table(tmp_path, "queries", name, [{"_id": "q1", "text": f"a question of {name}"}])
        write_table(tmp_path, "qrels", name, [{"query-id": "q1", "corpus-id": f"d{DEPTH + 1}"}])
        write_table(tmp_path, "bm25", name, [{"query-id": "q1", "corpus-ids": [row["_id"] for row in documents]}])
    return tmp_path


def test_one_set_is_read_with_the_first_100_of_bm25(nano):
    contents = read(nano, config="NanoNQ", split="test", revision=None)
    assert contents.queries == {"q1": "a question of NanoNQ"}
    assert contents.qrels == {"q1": {"d101": 1}}
    assert contents.candidates == {"q1": [f"d{i}" for i in range(100)]}, "the relevant one is missed, not added"
    assert len(list(contents.documents)) == 120


def test_a_set_has_to_be_named_and_to_exist(nano):
    with pytest.raises(InputError, match="name one, as in 'NanoMSMARCO'"):
        read(nano, config=None, split="test", revision=None)
    with pytest.raises(DataError, match="no split 'NanoX' in 'queries': there are NanoMSMARCO, NanoNQ"):
        read(nano, config="NanoX", split="test", revision=None)


def write_single(folder, write_table):
    write_table(folder, "corpus", "train", [{"_id": f"d{i}", "text": f"text {i}"} for i in range(3)])
    write_table(folder, "queries", "train", [{"_id": "q1", "text": "a question"}])
    return folder


@pytest.mark.parametrize("config", [None, "NanoNQ"])
def test_a_repository_of_one_set(tmp_path, write_table, config):
    """As zeta-alpha-ai/NanoNQ: one split, no lists."""
    folder = write_single(tmp_path, write_table)
    write_table(folder, "qrels", "train", [{"query-id": "q1", "corpus-id": "d2"}])
    contents = read(folder, config=config, split="test", revision=None)
    assert (contents.queries, contents.qrels, contents.candidates) == ({"q1": "a question"}, {"q1": {"d2": 1}}, None)


def test_a_repository_of_one_set_with_the_lists_of_bm25(tmp_path, write_table):
    """As sentence-transformers/NanoNQ-bm25: judgements and lists in one table."""
    folder = write_single(tmp_path, write_table)
    row = {"query-id": "q1", "positive-corpus-ids": ["d2"], "bm25-ranked-ids": ["d1", "d0"]}
    write_table(folder, "relevance", "train", [row])
    contents = read(folder, config=None, split="test", revision=None)
    assert (contents.qrels, contents.candidates) == ({"q1": {"d2": 1}}, {"q1": ["d1", "d0"]})
    write_table(folder, "relevance", "train", [{"query-id": "q1", "positive-corpus-ids": "d2"}])
    with pytest.raises(DataError, match=r"row 1: no list under 'positive-corpus-ids'"):
        read(folder, config=None, split="test", revision=None)
