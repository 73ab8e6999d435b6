import pytest


@pytest.fixture
def folder(tmp_path, write_jsonl):
    folder = tmp_path / "words"
    (folder / "qrels").mkdir(parents=True)
    write_jsonl(folder / "queries.jsonl", {"_id": "q1", "text": "a red planet"}, {"_id": "q2", "text": "a river"})
    write_jsonl(folder / "corpus.jsonl", {"_id": "d1", "text": "Mars is red."}, {"_id": "d2", "text": "The Seine."})
    (folder / "qrels" / "test.tsv").write_text("q1\td1\t1\nq2\td2\t1\n")
    (folder / "a.trec").write_text("q1 Q0 d1 1 2 a\nq1 Q0 d2 2 1 a\nq2 Q0 d1 1 2 a\nq2 Q0 d2 2 1 a\n")
    (folder / "b.trec").write_text("q1 Q0 d1 1 2 a\nq1 Q0 d2 2 1 a\nq2 Q0 d2 1 2 a\nq2 Q0 d1 2 1 a\n")
    return folder


def test_a_page_is_written(crossrank, folder, tmp_path):
    page = tmp_path / "page.html"
    result = crossrank("compare", folder / "a.trec", folder / "b.trec", "-d", folder, "-o", page)
    print(result.stdout)
    assert result.exit_code == 0, result.stderr
    assert "b.trec against a.trec, 2 queries" in result.stdout
    assert "1/0/1" in result.stdout
    text = page.read_text()
    assert "a river" in text
    assert "The Seine." in text
    assert "a red planet" not in text


def test_what_cannot_be_compared_is_said(crossrank, folder, tmp_path):
    (folder / "c.trec").write_text("q1 Q0 d9 1 2 a\n")
    result = crossrank("compare", folder / "a.trec", folder / "c.trec", "-d", folder, "-o", tmp_path / "page.html")
    assert result.exit_code == 2
    assert "c.trec:1: document 'd9' is not in the corpus of words" in result.stderr
    assert not (tmp_path / "page.html").exists()
    result = crossrank("compare", folder / "a.trec", folder / "b.trec", "-d", folder, "-o", tmp_path / "no" / "p.html")
    assert result.exit_code == 2
    assert "no such folder" in result.stderr
    result = crossrank("compare", folder / "a.trec", folder / "b.trec", "-d", folder, "-o", folder)
    assert result.exit_code == 2
    assert "it is a folder" in result.stderr
