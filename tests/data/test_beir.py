import gzip
import json
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.data import beir
from crossrank.data.beir import open_beir, open_corpus, read_queries
from crossrank.data.text import SkippedLines
from crossrank.errors import DataError
from crossrank.types import Document


def write(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def jsonl(*records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


CORPUS = jsonl(
    {"_id": "d2", "title": "Mars 🪐", "text": "The red planet."},
    {"_id": "d1", "title": "", "text": "שלום עולם", "metadata": {}},
    {"_id": "d10", "text": "nul \x00", "url": "x"},
)


@pytest.mark.parametrize("name", ["queries.jsonl", "queries.jsonl.gz"])
def test_queries_keep_their_order(tmp_path, name):
    path = write(
        tmp_path / name, jsonl({"_id": "q2", "text": "b"}, {"_id": 1, "text": "a"}, {"_id": "q2", "text": "b"})
    )
    assert list(read_queries(path).items()) == [("q2", "b"), ("1", "a")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "no id"}', r"queries\.jsonl:2: no '_id'"),
        ('{"_id": "q1", "text": "other"}', r"queries\.jsonl:2: the id 'q1' stands for another query above"),
        ('{"_id": "q2"}', r"queries\.jsonl:2: no 'text'"),
        ("{", r"queries\.jsonl:2: malformed JSON"),
    ],
)
def test_a_bad_query_line_is_named_or_skipped(tmp_path, line, message):
    path = write(tmp_path / "queries.jsonl", f'{{"_id": "q1", "text": "one"}}\n{line}\n')
    with pytest.raises(DataError, match=message):
        read_queries(path)
    skipped = SkippedLines()
    assert read_queries(path, skipped=skipped) == {"q1": "one"}
    assert skipped.count == 1


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_documents_are_read_by_id(tmp_path, name, mark):
    with open_corpus(write(tmp_path / name, mark + CORPUS.encode())) as corpus:
        assert len(corpus) == 3
        assert corpus.get("d1") == Document("שלום עולם", id="d1")
        assert corpus.get("d2") == Document("The red planet.", title="Mars 🪐", id="d2")
        assert corpus.get("d10") == Document("nul \x00", id="d10", metadata={"url": "x"})
        assert corpus.get("d") is None


def test_an_empty_corpus(tmp_path):
    with open_corpus(write(tmp_path / "corpus.jsonl", "")) as corpus:
        assert len(corpus) == 0
        assert corpus.get("d1") is None


def test_the_same_document_twice_is_allowed_but_not_two_under_one_id(tmp_path):
    same = jsonl({"_id": "d1", "text": "x"}, {"_id": "d2", "text": "y"}, {"text": "x", "_id": "d1"})
    with open_corpus(write(tmp_path / "a.jsonl", same)) as corpus:
        assert corpus.get("d1") == Document("x", id="d1")
    other = same + "\n" + jsonl({"_id": "d2", "text": "z"})
    with (
        pytest.raises(DataError, match=r"b\.jsonl:5: the id 'd2' stands for another document above"),
        open_corpus(write(tmp_path / "b.jsonl", other)),
    ):
        pass


def test_a_corpus_that_is_searched_has_each_document_once(tmp_path):
    write(tmp_path / "queries.jsonl", jsonl({"_id": "q1", "text": "mars"}))
    write(
        tmp_path / "corpus.jsonl",
        jsonl({"_id": "d1", "text": "x"}, {"_id": "d2", "text": "y"}) + jsonl({"_id": "d1", "text": "x"}),
    )
    (tmp_path / "qrels").mkdir()
    write(tmp_path / "qrels" / "dev.tsv", "q1\td1\t1\n")
    with pytest.raises(DataError, match=r"corpus\.jsonl:3: the id 'd1' comes twice"), open_beir(tmp_path):
        pass


def test_ids_with_one_hash_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(beir, "_hash", lambda document_id: 7)
    with open_corpus(write(tmp_path / "corpus.jsonl", CORPUS)) as corpus:
        assert [corpus.get(key).id for key in ("d1", "d2", "d10")] == ["d1", "d2", "d10"]
        assert corpus.get("d3") is None


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_a_bad_corpus_line_is_named_or_skipped(tmp_path, name):
    path = write(tmp_path / name, CORPUS.encode() + b'{"_id": "bad", "text": "caf\xe9"}\n' + CORPUS.encode())
    with pytest.raises(DataError, match=rf"{name}:4: not valid UTF-8 at byte"), open_corpus(path):
        pass
    skipped = SkippedLines()
    with open_corpus(path, skipped=skipped) as corpus:
        assert corpus.get("bad") is None
        assert corpus.get("d10").id == "d10"
    assert skipped.count == 1


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(DataError, match="no such file"), open_corpus(tmp_path / "corpus.jsonl"):
        pass
    path = write(tmp_path / "corpus.jsonl.gz", CORPUS)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="broken gzip stream"), open_corpus(path):
        pass


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_every_document_is_found_and_nothing_else(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    write(path, jsonl(*({"_id": key, "text": text} for key, text in texts.items())))
    with open_corpus(path) as corpus:
        assert {key: corpus.get(key).text for key in texts} == texts
        assert corpus.get("".join(texts) + "x") is None


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "qrels").mkdir()
    write(tmp_path / "corpus.jsonl.gz", CORPUS)
    write(tmp_path / "queries.jsonl", jsonl({"_id": "q1", "text": "mars"}, {"_id": "q2", "text": "peace"}))
    write(tmp_path / "qrels" / "dev.tsv", "query-id\tcorpus-id\tscore\nq2\td1\t1\n")
    return tmp_path


def test_a_folder_is_an_evaluation_set(folder):
    with open_beir(folder, split="dev") as data:
        assert (data.name, data.split, data.queries) == (folder.name, "dev", {"q1": "mars", "q2": "peace"})
        assert data.qrels == {"q2": {"d1": 1}}
        assert [document.id for document in data.corpus] == ["d2", "d1", "d10"]
        assert data.corpus.get("d2") == Document("The red planet.", title="Mars 🪐", id="d2")
        assert "d10" in data.corpus
        assert "d11" not in data.corpus
        assert len(data.corpus) == 3
    with open_beir(folder, split="dev", name="tiny") as data:
        assert data.name == "tiny"


def test_a_copy_is_the_same_data_and_another_text_is_not(folder, tmp_path):
    def fingerprint(of):
        with open_beir(of) as data:
            return data.fingerprint

    copy = tmp_path.with_name("copy")
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)  # with the day of today
    assert fingerprint(copy) == fingerprint(folder)
    queries = copy / "queries.jsonl"
    times = queries.stat()
    queries.write_text(queries.read_text().replace("mars", "Mars"))
    os.utime(queries, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint(copy) != fingerprint(folder)


def test_what_a_folder_lacks_is_named(folder):
    with pytest.raises(DataError, match="no split 'test': there are dev"), open_beir(folder, split="test"):
        pass
    with pytest.raises(DataError, match="no such folder"), open_beir(folder / "nowhere"):
        pass
    with open_beir(folder) as data:
        assert data.split == "dev"  # the usual one that is there
    (folder / "queries.jsonl").unlink()
    with pytest.raises(DataError, match=r"queries\.jsonl: no such file"), open_beir(folder, split="dev"):
        pass
    with pytest.raises(DataError, match="a BEIR folder has qrels/SPLIT"), open_beir(folder / "qrels"):
        pass


def test_qrels_with_unknown_ids_are_an_error(folder):
    (folder / "qrels" / "dev.tsv").write_text("q2\td1\t1\nq2\td7\t1\n")
    with (
        pytest.raises(DataError, match=r"dev\.tsv:2: document 'd7' is not in the corpus"),
        open_beir(folder, split="dev"),
    ):
        pass


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("queries.jsonl", "", r"queries\.jsonl: no queries in the file"),
        ("corpus.jsonl", "", r"corpus\.jsonl: no documents in the file"),
        ("qrels/dev.tsv", "", r"dev\.tsv: no judgements in the file"),
        ("qrels/dev.tsv", "q2\td1\t0\n", r"dev\.tsv: no document is judged relevant"),
    ],
)
def test_what_is_empty_is_named_and_not_what_follows_from_it(folder, file, content, message):
    (folder / "corpus.jsonl.gz").unlink()
    write(folder / "corpus.jsonl", CORPUS)
    write(folder / file, content)
    with pytest.raises(DataError, match=message), open_beir(folder):
        pass


def test_a_packed_file_of_no_bytes_is_named(folder):
    (folder / "corpus.jsonl.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"corpus\.jsonl\.gz: no documents in the file"), open_beir(folder):
        pass


@pytest.mark.parametrize(("name", "expected"), [("arguana", True), ("quora", True), ("NanoQuoraRetrieval", True),
                                                ("fiqa", False)])  # fmt: skip
def test_collections_whose_queries_are_documents_are_known_by_name(folder, name, expected):
    renamed = folder.rename(folder.with_name(name))
    with open_beir(renamed) as data:
        assert data.queries_are_documents is expected
