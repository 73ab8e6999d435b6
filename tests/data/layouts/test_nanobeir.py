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
