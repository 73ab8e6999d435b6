"""`crossrank score`: the scores of `Reranker.score`, whatever the file, the shards and the interruptions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet
from safetensors.numpy import save_file

from crossrank.cli.loading import LoadOptions
from crossrank.cli.score import _settings
from crossrank.data import pair_files
from crossrank.errors import DataError
from crossrank.inference.bulk import BulkJob
from crossrank.reranker import Reranker
from crossrank.types import Document
from tiny_vision import save_tiny_nemotron_vl

TEXTS = ["Mars is called the red planet.", "Bread needs flour.", "", "The city lies on a river. " * 60]


@pytest.fixture
def rows():
    return [
        {"query": f"which planet is red {i % 3}", "text": TEXTS[i % 4], "title": f"t{i % 5}", "document_id": f"d{i}"}
        for i in range(50)
    ]


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(pair_files, "SHARD_ROWS", 16)


def scores_of(folder):
    """Read a folder as any tool would; checks the manifest on the way."""
    table = parquet.read_table(folder)
    manifest = json.loads((folder / "_manifest.json").read_text())
    assert manifest["complete"] and manifest["rows"] == table.num_rows
    assert [shard["file"] for shard in manifest["shards"]] == sorted(p.name for p in folder.glob("*.parquet"))
    assert not list(folder.glob("*.tmp"))
    return table.to_pylist()


def test_the_scores_are_those_of_the_reranker(crossrank, exported, tmp_path, write_jsonl, rows, small_shards):
    path = write_jsonl(tmp_path / "pairs.jsonl", *rows)
    result = crossrank("score", path, "-o", tmp_path / "out", "--model", exported)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert result.stderr == f"50 pairs scored, 12 with a truncated document: {tmp_path / 'out'}\n"
    found = scores_of(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 4
    pairs = [(row["query"], Document(row["text"], title=row["title"])) for row in rows]
    np.testing.assert_allclose([row["score"] for row in found], Reranker.load(exported).score(pairs), atol=1e-4)
    assert [row["truncated"] for row in found] == [i % 4 == 3 for i in range(50)]
    assert [(row["row"], row["document_id"], row["query_id"]) for row in found] == [
        (i + 1, f"d{i}", None) for i in range(50)
    ]


def test_parquet_in_gives_the_same_out(crossrank, exported, tmp_path, write_jsonl, rows, small_shards):
    import pyarrow

    lines = write_jsonl(tmp_path / "pairs.jsonl", *rows)
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "pairs.parquet", row_group_size=9)
    for path in (lines, tmp_path / "pairs.parquet"):
        out = tmp_path / f"out-{path.suffix}"
        assert crossrank("score", path, "-o", out, "--model", exported).exit_code == 0
    assert scores_of(tmp_path / "out-.jsonl") == scores_of(tmp_path / "out-.parquet")


def test_an_interrupted_job_goes_on(crossrank, exported, tmp_path, write_jsonl, rows, small_shards, monkeypatch):
    path = write_jsonl(tmp_path / "pairs.jsonl", *rows)
    command = ["score", path, "--model", exported, "-o"]
    assert crossrank(*command, tmp_path / "whole").exit_code == 0
    run, done = BulkJob.run, []

    def interrupt(self, scorer, shard):
        if len(done) == 2:
            (self.folder / "part-00002.parquet.tmp").write_bytes(b"half a shard")
            raise KeyboardInterrupt
        done.append(shard.index)
        return run(self, scorer, shard)

    monkeypatch.setattr(BulkJob, "run", interrupt)
    result = crossrank(*command, tmp_path / "out")
    assert result.exit_code == 130
    assert f"interrupted after 32 of 50 pairs, which are kept in {tmp_path / 'out.part'}" in result.stderr
    assert not (tmp_path / "out").exists()
    other = crossrank(*command, tmp_path / "out", "--max-length", 64)
    assert other.exit_code == 2 and "max_length was None, is 64" in other.stderr and "--restart" in other.stderr
    done[:] = []
    monkeypatch.setattr(
        BulkJob, "run", lambda self, scorer, shard: (done.append(shard.index), run(self, scorer, shard))[1]
    )
    result = crossrank(*command, tmp_path / "out", "--num-threads", 1)
    assert result.exit_code == 0 and "32 of 50 pairs are already in" in result.stderr
    assert done == [2, 3]
    assert scores_of(tmp_path / "out") == scores_of(tmp_path / "whole")
    assert not (tmp_path / "out.part").exists()


def test_another_base_below_an_adapter_is_another_job(tiny_reranker, tmp_path, write_jsonl, rows):
    adapter, path = tmp_path / "adapter", write_jsonl(tmp_path / "pairs.jsonl", *rows)
    base = shutil.copytree(tiny_reranker(), tmp_path / "base")
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "../base"}')
    save_file({"lora": np.zeros(1, np.float32)}, adapter / "adapter_model.safetensors")

    def settings():
        return _settings(path, LoadOptions(model=str(adapter)), instruction=None, skip_bad=False)

    before = settings()
    assert settings() == before
    os.utime(base / "model.safetensors", (2e9, 2e9))  # trained on
    assert settings()["checkpoint"] != before["checkpoint"]


def test_a_signal_in_the_middle(exported, tmp_path, write_jsonl, rows):
    """A process of its own that sends itself SIGINT while the second shard is scored, and is then called again."""
    path = write_jsonl(tmp_path / "pairs.jsonl", *rows)
    script = (
        "import os, signal, sys\n"
        "from crossrank.data import pair_files\n"
        "from crossrank.inference import bulk\n"
        "pair_files.SHARD_ROWS = 16\n"
        "write = bulk.write_shard\n"
        "def stop(folder, index, *rest):\n"
        "    if index == 1 and 'STOP' in os.environ: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return write(folder, index, *rest)\n"
        "bulk.write_shard = stop\n"
        "from crossrank.cli.main import app\n"
        "app(prog_name='crossrank')\n"
    )
    command = [sys.executable, "-c", script, "score", path, "-o", tmp_path / "out", "--model", exported]
    stopped = subprocess.run(command, env=os.environ | {"STOP": "1"}, capture_output=True, text=True, timeout=120)
    assert stopped.returncode == 130 and "interrupted after 16 of 50" in stopped.stderr, stopped.stderr
    assert "Traceback" not in stopped.stderr
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0 and "16 of 50 pairs are already in" in again.stderr, again.stderr
    assert [row["row"] for row in scores_of(tmp_path / "out")] == list(range(1, 51))


def test_what_the_model_cannot_read_is_named_or_left_out(crossrank, exported, tmp_path, write_jsonl, rows):
    rows[20]["query"] = "planet " * 500
    path = write_jsonl(tmp_path / "pairs.jsonl", *rows)
    result = crossrank("score", path, "-o", tmp_path / "out", "--model", exported)
    assert result.exit_code == 2 and f"{path}:21: " in result.stderr and "leaves no room" in result.stderr
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()
    path.write_text(path.read_text() + "no json\n")
    result = crossrank("score", path, "-o", tmp_path / "out", "--model", exported, "--skip-bad")
    assert result.exit_code == 0, result.stderr
    assert "1 bad line(s) skipped" in result.stderr and "1 pair(s) skipped that the model cannot read" in result.stderr
    assert [row["row"] for row in scores_of(tmp_path / "out")] == [i for i in range(1, 51) if i != 21]
    assert json.loads((tmp_path / "out" / "_manifest.json").read_text())["skipped"] == 1


def test_the_images_of_the_rows_are_read(crossrank, exported, tmp_path, write_jsonl):
    save_tiny_nemotron_vl(tmp_path / "visual")
    (tmp_path / "pages").mkdir()
    for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        Image.new("RGB", (40, 30), colour).save(tmp_path / "pages" / f"{name}.png")
    texts = {"query": "red planet", "text": "a page"}
    rows = [texts | {"image": "pages/red.png"}, {"query": "red planet", "document": {"image": "pages/blue.png"}}, texts]
    path = write_jsonl(tmp_path / "pairs.jsonl", *rows)
    result = crossrank("score", path, "-o", tmp_path / "out", "--model", tmp_path / "visual", "--backend", "torch")
    assert result.exit_code == 0, result.stderr
    documents = [
        Document("a page", image=tmp_path / "pages/red.png"), Document("", image=tmp_path / "pages/blue.png"), "a page"
    ]  # fmt: skip
    expected = Reranker.load(tmp_path / "visual", backend="torch").score([("red planet", doc) for doc in documents])
    found = [row["score"] for row in scores_of(tmp_path / "out")]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert len({round(score, 4) for score in found}) == 3, "the images count"

    write_jsonl(path, *rows, texts | {"image": "pages/none.png"})
    result = crossrank("score", path, "-o", tmp_path / "lost", "--model", tmp_path / "visual", "--backend", "torch")
    assert result.exit_code == 2 and f"{path}:4: " in result.stderr and "none.png" in result.stderr
    result = crossrank("score", path, "-o", tmp_path / "text", "--model", exported)
    assert result.exit_code == 2 and f"{path}:2: " in result.stderr and "this model reads text" in result.stderr


def test_no_pairs_give_an_empty_folder(crossrank, exported, tmp_path):
    (tmp_path / "pairs.jsonl").touch()
    result = crossrank("score", tmp_path / "pairs.jsonl", "-o", tmp_path / "out", "--model", exported)
    assert result.exit_code == 0 and "0 pairs scored" in result.stderr
    assert json.loads((tmp_path / "out" / "_manifest.json").read_text())["shards"] == []


def test_wrong_calls_are_one_line(crossrank, exported, tmp_path, write_jsonl, rows):
    path = write_jsonl(tmp_path / "pairs.jsonl", *rows)
    (tmp_path / "taken").mkdir()
    calls = {
        "is there already": (path, "-o", tmp_path / "taken"),
        "no such folder": (path, "-o", tmp_path / "no" / "out"),
        "no plain file": (tmp_path, "-o", tmp_path / "out"),
        "no place for an instruction": (path, "-o", tmp_path / "out", "--instruction", "be kind"),
        "--actors needs --engine ray": (path, "-o", tmp_path / "out", "--actors", 2),
        "does not exist": (tmp_path / "nothing.jsonl", "-o", tmp_path / "out"),
    }
    for message, arguments in calls.items():
        result = crossrank("score", *arguments, "--model", exported)
        assert result.exit_code == 2, message
        assert message in " ".join(result.stderr.replace("│", "").split()), result.stderr
        assert not (tmp_path / "out.part").exists()


@pytest.mark.slow
def test_ray_goes_on_with_a_local_job(crossrank, exported, tmp_path, write_jsonl, rows, small_shards, monkeypatch):
    pytest.importorskip("ray")
    path = write_jsonl(tmp_path / "pairs.jsonl", *rows)
    command = ["score", path, "--model", exported, "-o"]
    assert crossrank(*command, tmp_path / "whole").exit_code == 0
    with monkeypatch.context() as stopped:
        run = BulkJob.run
        stopped.setattr(
            BulkJob, "run", lambda self, scorer, shard: run(self, scorer, shard) if shard.index < 1 else 1 / 0
        )
        assert isinstance(crossrank(*command, tmp_path / "out").exception, ZeroDivisionError)
    result = crossrank(*command, tmp_path / "out", "--engine", "ray", "--actors", 1, "--num-threads", 1)
    assert result.exit_code == 0, result.stderr
    assert "16 of 50 pairs are already in" in result.stderr
    found, expected = scores_of(tmp_path / "out"), scores_of(tmp_path / "whole")
    np.testing.assert_allclose([r.pop("score") for r in found], [r.pop("score") for r in expected], atol=1e-4)
    assert found == expected


def test_two_writers_of_one_folder_are_refused(tmp_path):
    from crossrank.data.score_folder import open_score_folder

    with open_score_folder(tmp_path / "out", settings={}):
        for restart in (False, True):
            with (
                pytest.raises(DataError, match=r"out\.part: another process is writing it"),
                open_score_folder(tmp_path / "out", settings={}, restart=restart),
            ):
                pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    """One million pairs with a scorer that costs nothing: what is measured is reading, planning and writing."""
    script = (
        "import json, resource, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from crossrank.data.pair_files import plan_shards\n"
        "from crossrank.data.score_folder import open_score_folder\n"
        "from crossrank.inference.bulk import BulkJob, run_here\n"
        "class Free:\n"
        "    def score_with_truncation(self, pairs, *, instruction=None):\n"
        "        return np.zeros(len(pairs), np.float32), np.zeros(len(pairs), bool)\n"
        "path, out = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "with open_score_folder(out, settings={}) as scores:\n"
        "    for record in run_here(BulkJob(path, scores.folder), Free(), list(plan_shards(path))):\n"
        "        scores.add(record)\n"
        "print(sum(r.rows for r in scores.records.values()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = []
    for count in (20_000, 1_000_000):
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as file:
            file.writelines(
                f'{{"query": "red planet {i}", "document": "{"Mars rusts. " * 25}"}}\n' for i in range(count)
            )
        command = [sys.executable, "-c", script, path, tmp_path / f"out-{count}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows, peak_kb = map(int, done.stdout.split())
        assert rows == count
        peaks.append(peak_kb / 1024)
    assert peaks[1] < peaks[0] + 40, peaks
    print(peaks)
