import pytest

from crossrank.errors import InputError
from crossrank.retrieval.selection import open_retriever


@pytest.mark.parametrize(("name", "expected"), [("bm25", "bm25"), ("run:some/dir/run.trec.gz", "run:run.trec.gz")])
def test_a_name_opens_its_retriever(name, expected):
    assert open_retriever(name).name == expected


@pytest.mark.parametrize("name", ["", "bm26", "bm25:x", "run:", "run", "dense:", "Dense:m"])
def test_other_names_are_an_error(name):
    with pytest.raises(InputError, match=r"one of bm25, dense:MODEL, run:FILE, not "):
        open_retriever(name)
