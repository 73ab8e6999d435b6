import json
import os

import pytest

from crossrank.cli.bench_worker import measure_apart
from crossrank.cli.loading import LoadOptions
from crossrank.errors import WorkerError


@pytest.fixture
def folder(tmp_path, write_jsonl):
    folder = tmp_path / "words"
    (folder / "qrels").mkdir(parents=True)
    write_jsonl(folder / "queries.jsonl", *({"_id": f"q{i}", "text": f"the river {i}"} for i in range(4)))
    write_jsonl(folder / "corpus.jsonl", *({"_id": f"d{i}", "text": f"a river of number {i}"} for i in range(6)))
    (folder / "qrels" / "test.tsv").write_text("".join(f"q{i}\td{i}\t1\n" for i in range(4)))
    return folder


@pytest.mark.slow
def test_quality_beside_cost(crossrank, exported, tiny_checkpoint, folder, tmp_path):
    out = tmp_path / "out"
    command = ["bench", "--models", exported, tiny_checkpoint("bert"), "--documents", "4", "--requests", "5"]
    command += ["--shape", "cross-encoder/ms-marco-TinyBERT-L2-v2", "-d", folder, "-o", out]
    result = crossrank(*command)
    print(result.stdout)
    assert result.exit_code == 0, result.stderr
    facts = json.loads((out / "bench.json").read_text())
    models = {model["model"]: model for model in facts["models"]}
    assert list(models) == ["tiny", "bert", "cross-encoder/ms-marco-TinyBERT-L2-v2 (random weights)"]
    assert models["tiny"]["quality"] == pytest.approx(models["bert"]["quality"])
    shape = models["cross-encoder/ms-marco-TinyBERT-L2-v2 (random weights)"]
    assert (shape["random_weights"], shape["quality"], shape["parameters"]) == (True, None, 4_386_049)
    for model in models.values():
        assert 0 < model["latency"]["p50_ms"] <= model["latency"]["p95_ms"]
        assert model["peak_memory_bytes"] > 10e6
        assert model["latency"]["documents"] == 4
    assert "random weights: latency only" in (out / "bench.md").read_text()
    assert "<svg" in (out / "bench.html").read_text()


def test_one_model_without_files(crossrank, exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = crossrank("bench", exported, "--documents", "2", "--requests", "2")
    print(result.stdout, result.stderr)
    assert result.exit_code == 0, result.stderr
    for part in ("p50 ms", "p95 ms", "pairs/s", "peak MB", "parameters", "bert 2x32"):
        assert part in result.stdout
    assert list(tmp_path.iterdir()) == [] or not list(tmp_path.glob("bench*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shape", "gpt-9"], "no shape 'gpt-9'"),
        (["nowhere/at-all/there"], "nowhere/at-all/there"),
        (["--run", "a", "--first-stage", "bm25"], "exclude each other"),
    ],
)
def test_what_cannot_be_measured_is_said(crossrank, options, message):
    result = crossrank("bench", *options)
    print(result.stderr)
    assert result.exit_code in (1, 2)
    assert message in result.stderr


def test_a_missing_model_is_said_before_the_first_is_measured(crossrank, exported, tmp_path):
    result = crossrank("bench", exported, tmp_path / "absent", "--documents", "2", "--requests", "2")
    assert result.exit_code == 1
    assert "absent" in result.stderr
    assert "p50" not in result.stderr


class Deadly:
    """Ends the process that reads it."""

    def __reduce__(self):
        return os._exit, (9,)


def test_a_process_that_dies_is_an_error_with_a_way_out():
    with pytest.raises(WorkerError, match=r"measured org/huge died, .* take --dtype bfloat16 or fewer --documents"):
        measure_apart(LoadOptions(model="org/huge"), [Deadly()])
