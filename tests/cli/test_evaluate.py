import gc
import gzip
import json
import weakref

import pytest

from crossrank.cli.contestants import LastModel
from crossrank.cli.loading import LoadOptions
from crossrank.data.trec import read_run


def test_a_first_evaluation(crossrank, exported, make_folder, tmp_path):
    out = tmp_path / "out"
    result = crossrank("evaluate", "-m", exported, "-d", make_folder("words"), "-o", out, "--fuse", "zscore:0.5")
    print(result.stdout)
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "per_query.jsonl", "report.html", "report.md", "results.json", "run.trec.gz", "runs",
    ]  # fmt: skip
    found = json.loads((out / "results.json").read_text())["datasets"]["words"]
    assert (found["queries"], found["depth"], found["first_stage_name"]) == (6, 100, "bm25")
    assert found["first_stage"] == found["bm25"]
    assert list(found["reranked"]) == ["nDCG@10", "RR@10", "R@5", "AP@100"]
    run = list(read_run(out / "run.trec.gz"))
    assert sum(len(query.candidates) for query in run) == found["pairs"]
    assert any(candidate.score < 0 or candidate.score > 1 for query in run for candidate in query.candidates)  # logits
    for part in ("BM25 (no reranking)", "95% interval", "won/lost/tied", "pairs/s", "Judged@10 before", "zscore:0.5"):
        assert part in result.stdout
    assert f"written: {out}" in result.stderr


def test_a_grid_over_runs_of_the_folders(crossrank, exported, tiny_checkpoint, make_folder, tmp_path):
    folders = [make_folder("a/words"), make_folder("b/words", split="test")]
    out = tmp_path / "out"
    command = ["evaluate", "-m", exported, "-m", tiny_checkpoint("bert"), "-o", out, "--run", "first.trec"]
    command += ["--measures", "RR@10", "--depth", "2"] + [part for folder in folders for part in ("-d", folder)]
    result = crossrank(*command)
    assert result.exit_code == 0, result.stderr
    assert not (out / "run.trec.gz").exists()
    assert len(list(out.glob("runs/*/*.trec.gz"))) == 2 * (2 + 2)
    found = json.loads((out / "results.json").read_text())["models"]
    assert list(found) == ["tiny", "bert"]
    first = found["tiny"]["datasets"]["a/words"]
    assert first["first_stage_name"] == "run:first.trec"
    # The sixth query is not in the run and counts as 0.
    assert first["first_stage"]["RR@10"] == pytest.approx(5 / 12)
    assert first["bm25"]["RR@10"] == pytest.approx(6 / 12)
    assert (first["split"], found["tiny"]["datasets"]["b/words"]["split"]) == ("dev", "test")
    # The packed tiny checkpoint and its CPU form are the same model.
    assert found["bert"]["datasets"]["b/words"]["reranked"] == found["tiny"]["datasets"]["b/words"]["reranked"]
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*")}
    assert crossrank(*command).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*")} == before
    result = crossrank(*command, "--max-length", "64")
    assert result.exit_code == 2
    assert "made with other settings (max_length was 128, is 64)" in result.stderr
    assert crossrank(*command, "--max-length", "64", "--restart").exit_code == 0


def test_a_sample_and_windows(crossrank, exported, make_folder, tmp_path):
    out = tmp_path / "out"
    command = ["evaluate", "-m", exported, "-d", make_folder("words"), "-o", out, "--num-queries", "3"]
    result = crossrank(*command, "--on-overflow", "chunk", "--oracle-positives", "--run", "first.trec")
    assert result.exit_code == 0, result.stderr
    found = json.loads((out / "results.json").read_text())
    assert found["datasets"]["words"]["queries"] == 3
    assert found["datasets"]["words"]["queries_of_set"] == 6
    assert found["datasets"]["words"]["oracle_positives"]["note"].startswith("optimistic")
    assert found["model"]["on_overflow"] == "chunk"
    assert "positives added (optimistic)" in (out / "report.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--measures", "nDCG@0"], "'nDCG@0' is no measure"),
        (["--first-stage", "bm26"], "a retriever is one of bm25"),
        (["--first-stage", "run:first.trec"], "an existing run is given as --run first.trec"),
        (["--first-stage", "bm25", "--run", "first.trec"], "--run and --first-stage exclude each other"),
        (["--run", "second.trec"], "no run second.trec, and no file of this name in"),
        (["--split", "train"], "no split 'train': there are dev"),
        (["--fuse", "sum"], "a fusion is 'checkpoint' or METHOD:WEIGHT"),
        (["--fuse", "checkpoint"], "states no fusion"),
        (["-d", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_what_cannot_be_done_is_said(crossrank, exported, make_folder, tmp_path, options, message):
    out = tmp_path / "out"
    result = crossrank("evaluate", "-m", exported, "-d", make_folder("words"), "-o", out, *options)
    print(result.stderr)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not list(out.glob("*.*"))


@pytest.mark.parametrize(
    ("missing", "options", "message"),
    [
        ("corpus.jsonl", [], "last/corpus.jsonl: no such file"),
        ("qrels/dev.tsv", [], "last: no split 'test'"),
        ("first.trec", ["--run", "first.trec"], "no run first.trec, and no file of this name in"),
    ],
)
def test_a_grid_looks_at_its_last_data_set_before_it_scores_the_first(
    crossrank, exported, make_folder, tmp_path, missing, options, message
):
    first, last, out = make_folder("first"), make_folder("last"), tmp_path / "out"
    (last / missing).unlink()
    result = crossrank("evaluate", "-m", exported, "-d", first, "-d", last, "-o", out, *options)
    print(result.stderr)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("qrels/dev.tsv", "q1\tgood99\t1\n", r"dev.tsv:8: document 'good99' is not in the corpus"),
        ("qrels/dev.tsv", "q99\tgood1\t1\n", r"dev.tsv:8: query 'q99' is not among the queries"),
        ("qrels/dev.tsv", "q1\tother1\t-1\n", r"dev.tsv:8: the grade -1 is negative"),
        ("qrels/dev.tsv", "q1\tgood1\t1\n", r"dev.tsv:8: query 'q1' and document 'good1' are judged twice"),
        ("first.trec", "q5 Q0 good99 1 1 t\n", r"first.trec:11: document 'good99' is not in the corpus"),
        ("first.trec", "q4 Q0 good4 1 1 t\n", r"first.trec:11: query 'q4' has 'good4' twice"),
        ("first.trec", "garbage\n", r"first.trec:11: 1 fields where a TREC run has 6"),
    ],
)
def test_a_corrupt_file_is_named_with_its_line(crossrank, exported, make_folder, tmp_path, file, line, message):
    folder = make_folder("words")
    with (folder / file).open("a") as stream:
        stream.write(line)
    result = crossrank("evaluate", "-m", exported, "-d", folder, "-o", tmp_path / "out", "--run", "first.trec")
    print(result.stderr)
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_empty_split(crossrank, exported, make_folder, tmp_path):
    folder = make_folder("words")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n")
    result = crossrank("evaluate", "-m", exported, "-d", folder, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "test.tsv: no judgements in the file" in result.stderr


def test_a_broken_packed_run(crossrank, exported, make_folder, tmp_path):
    folder = make_folder("words")
    packed = gzip.compress((folder / "first.trec").read_bytes())
    (folder / "cut.trec.gz").write_bytes(packed[:-9])
    result = crossrank("evaluate", "-m", exported, "-d", folder, "-o", tmp_path / "out", "--run", "cut.trec.gz")
    assert result.exit_code == 2
    assert "cut.trec.gz: broken gzip stream" in result.stderr


def test_texts_that_changed_are_not_taken_for_those_that_were_scored(crossrank, exported, make_folder, tmp_path):
    folder = make_folder("words")
    command = ["evaluate", "-m", exported, "-d", folder, "-o", tmp_path / "out", "--run", "first.trec"]
    assert crossrank(*command).exit_code == 0
    corpus = folder / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("All about the planet", "Nothing about a planet"))
    result = crossrank(*command)
    print(result.stderr)
    assert result.exit_code == 2
    assert "was made with other settings (files was 'queries.jsonl" in result.stderr


def test_a_document_that_is_too_long_can_be_an_error(crossrank, exported, make_folder, tmp_path):
    folder = make_folder("words")
    (folder / "corpus.jsonl").write_text(
        (folder / "corpus.jsonl")
        .read_text()
        .replace("All about the river", "All about the river " + "and so on " * 100)
    )
    command = ["evaluate", "-m", exported, "-d", folder, "-o", tmp_path / "out", "--on-overflow", "error"]
    result = crossrank(*command)
    print(result.stderr)
    assert result.exit_code == 2
    assert "does not fit in max_length=128 tokens" in result.stderr


def test_one_model_is_in_memory_at_a_time(exported, tiny_checkpoint):
    first, second = (LoadOptions(str(path)) for path in (exported, tiny_checkpoint("bert")))
    memory = LastModel()
    model = weakref.ref(memory.load(first))
    assert memory.load(first) is model()
    memory.load(second)
    gc.collect()
    assert model() is None


@pytest.mark.parametrize("inside", ["", "sub"])
def test_a_report_needs_a_folder(crossrank, exported, make_folder, tmp_path, inside):
    file = tmp_path / "out"
    file.write_text("kept")
    result = crossrank("evaluate", "-m", exported, "-d", make_folder("words"), "-o", file / inside)
    assert result.exit_code == 2
    assert "out" in result.stderr
    assert "give a folder to write the report into" in " ".join(result.stderr.split())
    assert file.read_text() == "kept"
