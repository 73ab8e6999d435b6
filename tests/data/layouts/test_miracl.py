import pytest

from crossrank.data.layouts.miracl import read
from crossrank.errors import DataError, InputError


@pytest.fixture
def miracl(tmp_path, write_lines):
    """As miracl/miracl and miracl/miracl-corpus side by side."""
    tree = tmp_path / "miracl" / "miracl-v1.0-sw"
    (tree / "topics").mkdir(parents=True)
    (tree / "qrels").mkdir()
    (tree / "topics" / "topics.miracl-v1.0-sw-dev.tsv").write_text("1#0\tMji mkuu ni upi?\n2#0\tNani?\n")
    (tree / "qrels" / "qrels.miracl-v1.0-sw-dev.tsv").write_text("1#0\tQ0\t39#0\t1\n1#0\tQ0\t40#1\t0\n")
    corpus = tmp_path / "miracl-corpus" / "miracl-corpus-v1.0-sw"
    write_lines(corpus / "docs-0.jsonl.gz", [{"docid": "39#0", "title": "Dodoma", "text": "Mji mkuu."}])
    write_lines(corpus / "docs-1.jsonl.gz", [{"docid": "40#1", "title": "", "text": "Bahari."}])
    return tmp_path / "miracl"


def check(folder):
    contents = read(folder, config="sw", split="dev", revision=None)
    assert contents.queries == {"1#0": "Mji mkuu ni upi?", "2#0": "Nani?"}
    assert contents.qrels == {"1#0": {"39#0": 1, "40#1": 0}}
    documents = [(d.id, d.title, d.text) for d in contents.documents]
    assert documents == [("39#0", "Dodoma", "Mji mkuu."), ("40#1", None, "Bahari.")]


def test_topics_judgements_and_the_passages_beside_them(miracl):
    check(miracl)
    check(f"{miracl}/")


def test_both_trees_in_one_folder(miracl):
    (miracl.parent / "miracl-corpus" / "miracl-corpus-v1.0-sw").rename(miracl / "miracl-corpus-v1.0-sw")
    check(miracl)


def test_bad_and_missing_files_are_named(miracl):
    with pytest.raises(InputError, match="18 languages"):
        read(miracl, config=None, split="dev", revision=None)
    with pytest.raises(DataError, match=r"topics\.miracl-v1\.0-sw-train\.tsv: no such file"):
        read(miracl, config="sw", split="train", revision=None)
    (miracl / "miracl-v1.0-sw" / "topics" / "topics.miracl-v1.0-sw-dev.tsv").write_text("1#0 no tab\n")
    with pytest.raises(DataError, match=r"dev\.tsv:1: a topic is an id, a tab and a text"):
        read(miracl, config="sw", split="dev", revision=None)
