import json

import numpy as np
import pytest

from crossrank.cli.loading import LoadOptions

TEXTS = ["red planet mars", "red dwarf star", "blue planet earth", "bread and butter", "a red planet probe", "planet"]


class Overlap:
    """A teacher: the number of words that query and document share. May be interrupted."""

    def __init__(self, interrupt_after=None):
        self.left = interrupt_after

    def score(self, pairs):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return np.array([len({*query.split()} & {*document.text.split()}) for query, document in pairs], np.float32)


@pytest.fixture
def beir(tmp_path, write_jsonl):
    """40 queries in turn: "red planet" wants d0, "bread" wants d3."""
    numbers = range(40)
    queries = ({"_id": f"q{i}", "text": f"{'bread' if i % 2 else 'red planet'} {i}"} for i in numbers)
    (tmp_path / "qrels.tsv").write_text("".join(f"q{i}\t{'d3' if i % 2 else 'd0'}\t1\n" for i in numbers))
    return {
        "--queries": write_jsonl(tmp_path / "queries.jsonl", *queries),
        "--corpus": write_jsonl(tmp_path / "corpus.jsonl", *({"_id": f"d{i}", "text": t} for i, t in enumerate(TEXTS))),
        "--qrels": tmp_path / "qrels.tsv",
        "-o": tmp_path / "groups.jsonl",
    }


@pytest.fixture
def corpus_id(tmp_path, write_jsonl):
    (tmp_path / "data" / "wiki").mkdir(parents=True)
    about = {"class": "TextQADataset", "corpus_id": "wiki"}
    (tmp_path / "data" / "wiki" / "merlin_metadata.json").write_text(json.dumps(about))
    write_jsonl(tmp_path / "data" / "wiki" / "train.jsonl", *({"id": f"d{i}", "text": t} for i, t in enumerate(TEXTS)))
    row = {"question_id": "q1", "question": "red planet", "corpus_id": "wiki", "note": "kept"}
    rows = [row | {"pos_doc": [{"id": "d0"}, {"id": "d4"}], "neg_doc": ["d3"]}]
    path = tmp_path / "data" / "train.json"
    path.write_text(json.dumps({"corpus": {"path": "wiki"}, "data": rows}))
    return path


def command(files, *more):
    return ["mine", *(part for item in files.items() for part in item), *more]


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def ids(documents):
    return [document["id"] for document in documents]


def test_groups_are_mined_and_training_reads_them(crossrank, beir):
    result = crossrank(*command(beir, "--json", "--percent", "0"))
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["questions"], report["positives"], report["queries without a positive"]) == (40, 40, 0)
    first, second, *_ = read(beir["-o"])
    assert (first["query"], ids(first["pos_doc"])) == ("red planet 0", ["d0"])
    assert set(ids(first["neg_doc"])) == {"d1", "d2", "d4", "d5"} and second["neg_doc"] == []
    assert first["neg_doc"][0]["source"] == "retrieved" and "score" not in first["neg_doc"][0]
    checked = crossrank("data", "check", str(beir["-o"]), "--json")
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.stdout)["problems"] == []


def test_a_teacher_scores_what_is_written(crossrank, beir, monkeypatch):
    monkeypatch.setattr(LoadOptions, "load", lambda self: Overlap())
    monkeypatch.setattr("crossrank.cli.mine._describe_teacher", lambda teacher: teacher.model)
    result = crossrank(*command(beir, "--teacher", "overlap", "--random-share", "0.5", "-n", "4"))
    assert result.exit_code == 0, result.stderr
    first = read(beir["-o"])[0]
    assert first["pos_doc"][0]["score"] == 2.0
    by_id = {document["id"]: document["score"] for document in first["neg_doc"]}
    assert "d4" not in by_id and by_id["d1"] == 1.0  # the probe shares both words, as the positive does
    assert {document["source"] for document in first["neg_doc"]} == {"retrieved", "random"}


def test_an_interrupted_run_goes_on_and_ends_the_same(crossrank, beir, monkeypatch, tmp_path):
    monkeypatch.setattr("crossrank.cli.mine._describe_teacher", lambda teacher: teacher.model)
    more = ("--teacher", "overlap", "--random-share", "0.5")
    monkeypatch.setattr(LoadOptions, "load", lambda self: Overlap())
    crossrank(*command(beir | {"-o": tmp_path / "whole.jsonl"}, *more))
    monkeypatch.setattr(LoadOptions, "load", lambda self: Overlap(interrupt_after=2))
    result = crossrank(*command(beir, *more))
    assert result.exit_code == 130 and "after 32 of 40 queries" in result.stderr and not beir["-o"].exists()
    result = crossrank(*command(beir, *more, "--seed", "1"))
    assert result.exit_code == 2 and "seed was 0, is 1" in result.stderr
    monkeypatch.setattr(LoadOptions, "load", lambda self: Overlap(interrupt_after=1))
    result = crossrank(*command(beir, *more, "--json"))
    assert result.exit_code == 0 and "32 of 40 queries are already" in result.stderr
    assert json.loads(result.stdout)["questions"] == 40
    assert beir["-o"].read_text() == (tmp_path / "whole.jsonl").read_text()


def test_automodel_goes_in_and_comes_out(crossrank, corpus_id, tmp_path):
    before, out = corpus_id.read_bytes(), tmp_path / "mined.json"
    result = crossrank("mine", "--data", corpus_id, "-o", out, "--keep-given", "--percent", "0", "--unroll")
    assert result.exit_code == 0, result.stderr
    mined = json.loads(out.read_text())
    assert mined["corpus"] == {"path": "data/wiki"} and mined["mining"]["args"]["unroll"] is True
    first, second = mined["data"]
    assert (first["question_id"], second["question_id"], first["note"]) == ("q1_0", "q1_1", "kept")
    assert (ids(first["pos_doc"]), ids(second["pos_doc"])) == (["d0", "d4"], ["d4", "d0"])
    assert first["neg_doc"][0] == {"id": "d3"} and set(ids(first["neg_doc"][1:])) == {"d1", "d2", "d5"}
    assert all(np.isfinite(document["score"]) for document in first["neg_doc"][1:])
    assert corpus_id.read_bytes() == before
    assert crossrank("data", "check", str(out)).exit_code == 0
    again = crossrank("mine", "--data", out, "-o", tmp_path / "again.jsonl", "--percent", "0")
    assert again.exit_code == 0, again.stderr
    assert not {"d0", "d4"} & set(ids(read(tmp_path / "again.jsonl")[0]["neg_doc"]))


def test_every_row_is_searched_in_its_own_corpus(crossrank, corpus_id, tmp_path, write_jsonl):
    (tmp_path / "data" / "news").mkdir()
    about = {"class": "TextQADataset", "corpus_id": "news"}
    (tmp_path / "data" / "news" / "merlin_metadata.json").write_text(json.dumps(about))
    write_jsonl(tmp_path / "data" / "news" / "train.jsonl", *({"id": f"n{i}", "text": t} for i, t in enumerate(TEXTS)))
    row = {"question_id": "q1", "question": "red planet", "corpus_id": "wiki", "pos_doc": ["d0"], "neg_doc": []}
    rows = [row, row | {"question_id": "q2", "corpus_id": "news", "pos_doc": ["n0"]}]
    corpus_id.write_text(json.dumps({"corpus": [{"path": "wiki"}, {"path": "news"}], "data": rows}))
    out = tmp_path / "mined.json"
    assert crossrank("mine", "--data", corpus_id, "-o", out, "--percent", "0", "--random-share", "0.2").exit_code == 0
    mined = json.loads(out.read_text())
    assert mined["corpus"] == [{"path": "data/wiki"}, {"path": "data/news"}]
    assert [{key[0] for key in ids(row["neg_doc"])} for row in mined["data"]] == [{"d"}, {"n"}]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--ranks", "10"), "--ranks is FIRST-LAST"),
        (("--ranks", "9-3"), "1 <= first <= last"),
        (("--percent", "1.5"), "at most 1"),
        (("--retriever", "google"), "a retriever is one of"),
        (("--retriever", "bm25", "--retriever", "run:none.trec", "--sampling", "stratified"), "one scale"),
        (("--data", "CORPUS_ID"), "leave out --queries"),
    ],
)
def test_wrong_options_leave_nothing_behind(crossrank, beir, corpus_id, tmp_path, more, message):
    before = sorted(tmp_path.rglob("*"))
    (tmp_path / "none.trec").touch()
    result = crossrank(*command(beir, *(str(corpus_id) if part == "CORPUS_ID" else part for part in more)))
    assert result.exit_code == 2 and message in result.stderr, result.output
    (tmp_path / "none.trec").unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_files_and_outputs_that_exist_are_refused(crossrank, beir):
    result = crossrank("mine", "-o", beir["-o"], "--queries", beir["--queries"])
    assert result.exit_code == 2 and "--corpus, --qrels is missing" in result.stderr
    assert crossrank(*command(beir | {"-o": beir["-o"].with_suffix(".json")})).exit_code == 2
    beir["-o"].write_text("precious")
    result = crossrank(*command(beir))
    assert result.exit_code == 2 and "is there already" in result.stderr and beir["-o"].read_text() == "precious"
