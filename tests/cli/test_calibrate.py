import json
import shutil

import numpy as np
import pytest

from crossrank import Reranker
from crossrank.types import Document


@pytest.fixture
def folder(tmp_path, write_jsonl, exported):
    """Twelve queries whose labels are the model's own preferences, two times out of three."""
    folder = tmp_path / "words"
    (folder / "qrels").mkdir(parents=True)
    queries = [f"where is number {i}" for i in range(24)]
    documents = [Document(f"number {i} " + "of the river " * (i % 5), id=f"d{i}") for i in range(8)]
    write_jsonl(folder / "queries.jsonl", *({"_id": f"q{i}", "text": text} for i, text in enumerate(queries)))
    write_jsonl(folder / "corpus.jsonl", *({"_id": d.id, "text": d.text} for d in documents))
    lines, run = [], []
    reranker = Reranker.load(exported)
    for i, query in enumerate(queries):
        ranking = reranker.rank(query, documents)
        lines.append(f"q{i}\t{ranking[0 if i % 3 else 4].document.id}\t1\n")
        run += [f"q{i} Q0 {document.id} {r + 1} {-r} x\n" for r, document in enumerate(documents)]
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    (folder / "first.trec").write_text("".join(run))
    return folder


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_the_calibration_is_stored_and_no_rank_changes(crossrank, exported, folder, tmp_path, method):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(exported, checkpoint)
    command = ["calibrate", "-m", checkpoint, "-d", folder, "--run", "first.trec", "-o", tmp_path / "out"]
    result = crossrank(*command, "--method", method, "--precision", "0.5")
    print(result.stdout, result.stderr)
    assert result.exit_code == 0, result.stderr
    stored = json.loads((checkpoint / "crossrank.json").read_text())["calibration"]
    assert stored["method"] == method
    assert stored["slope"] > 0
    assert (stored["intercept"] == 0) == (method == "temperature")
    facts = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert facts["slope"] == stored["slope"]
    assert facts["fitted_on"]["queries"] == facts["held_out"]["queries"] == 12
    if method == "platt":
        assert facts["after"]["log_loss"] < facts["before"]["log_loss"]
    for part in ("ECE", "Brier", "before", "after", "keep from probability"):
        assert part in result.stdout

    documents = [f"number {i} of the river" for i in range(30)]
    before, after = (Reranker.load(path) for path in (exported, checkpoint))
    plain = before.rank("where is number 7", documents)
    calibrated = after.rank("where is number 7", documents, score_type="probability")
    assert [hit.index for hit in plain] == [hit.index for hit in calibrated]
    logits = np.array([hit.score for hit in plain])
    expected = 1 / (1 + np.exp(-(stored["slope"] * logits + stored["intercept"])))
    assert [hit.score for hit in calibrated] == pytest.approx(expected, abs=1e-5)

    # A second time nothing is scored again, although crossrank.json has changed.
    before = (tmp_path / "out" / "runs" / "words" / "checkpoint.trec.gz").stat().st_mtime_ns
    assert crossrank(*command).exit_code == 0
    assert (tmp_path / "out" / "runs" / "words" / "checkpoint.trec.gz").stat().st_mtime_ns == before


def test_a_model_that_is_not_the_users_is_copied(crossrank, exported, folder, tmp_path):
    out = tmp_path / "out"
    result = crossrank("calibrate", "-d", folder, "-o", out)
    assert result.exit_code == 2
    assert "crossrank-mini-en-v1 is not a folder of yours to write into: --save FOLDER" in result.stderr
    copy = tmp_path / "new" / "copy"
    command = ["calibrate", "-m", exported, "-d", folder, "--run", "first.trec", "-o", out, "--save", copy]
    assert crossrank(*command).exit_code == 0
    assert Reranker.load(copy).checkpoint.settings.calibration is not None
    assert Reranker.load(exported).checkpoint.settings.calibration is None
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]
    result = crossrank(*command)
    assert result.exit_code == 2
    assert "is not an empty folder" in result.stderr
