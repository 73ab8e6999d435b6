import pytest

from crossrank.data.layouts.mldr import read
from crossrank.errors import DataError, InputError


@pytest.fixture
def mldr(tmp_path, write_lines):
    """As Shitao/MLDR: packed lines in a folder a language."""
    folder = tmp_path / "mldr-v1.0-it"
    passages = [{"docid": f"doc-it-{i}", "text": f"Testo lungo {i}."} for i in range(3)]
    question = {"query_id": "q-it-1", "query": "Quanto è lungo?"}
    question |= {"positive_passages": passages[:1], "negative_passages": passages[1:2]}
    write_lines(folder / "test.jsonl.gz", [question])
    write_lines(folder / "corpus.jsonl.gz", passages)
    return tmp_path


def test_one_language_over_its_whole_corpus(mldr):
    contents = read(mldr, config="it", split="test", revision=None)
    assert contents.queries == {"q-it-1": "Quanto è lungo?"}
    assert contents.qrels == {"q-it-1": {"doc-it-0": 1}}
    assert [(d.id, d.text) for d in contents.documents][2] == ("doc-it-2", "Testo lungo 2.")
    assert contents.candidates is None, "its negatives and its positive are no first stage"


def test_what_is_missing_is_named(mldr):
    with pytest.raises(InputError, match="13 languages"):
        read(mldr, config=None, split="test", revision=None)
    with pytest.raises(DataError, match=r"mldr-v1\.0-it/dev\.jsonl\.gz: no such file"):
        read(mldr, config="it", split="dev", revision=None)


def test_a_bad_line_is_named(mldr, write_lines):
    write_lines(mldr / "mldr-v1.0-it" / "test.jsonl.gz", [{"query_id": "q", "query": "?", "positive_passages": ["x"]}])
    with pytest.raises(DataError, match=r"test\.jsonl\.gz:1: a positive passage is no object"):
        read(mldr, config="it", split="test", revision=None)
