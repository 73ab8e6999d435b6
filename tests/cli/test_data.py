import json

import pytest
from typer.testing import CliRunner

from crossrank.cli.main import app

ROWS = [{"query": f"q{i}", "positives": [f"p{i}"], "negatives": [f"n{i}"]} for i in range(3)]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return lambda *arguments: CliRunner().invoke(app, ["data", "check", *arguments])


def test_good_data_ends_with_0(run):
    done = run("a.jsonl")
    print(done.output)
    assert done.exit_code == 0
    assert "no errors" in done.output and "1 to 1, mean 1.0" in done.output


def test_broken_data_ends_with_2_and_says_where(run, tmp_path):
    bad = {"query": "q9", "positives": ["p"], "negatives": ["p"]}
    (tmp_path / "b.jsonl").write_text(json.dumps(bad) + "\n{\n")
    done = run("a.jsonl", "b.jsonl")
    print(done.output)
    assert done.exit_code == 2
    assert "b.jsonl:1" in done.output and "b.jsonl:2" in done.output and "positive among the negatives" in done.output
    report = json.loads(run("b.jsonl", "--json").stdout)
    assert report["broken"] is True
    assert report["problems"][0] == {"kind": "positive among the negatives", "count": 1, "is_error": True}
    assert [example["line"] for example in report["examples"]] == [1, 2]


def test_leakage_into_dev_and_too_few_negatives(run):
    assert "train query in dev" in run("a.jsonl", "--dev", "a.jsonl").output
    report = json.loads(run("a.jsonl", "--num-negatives", "2", "--json").stdout)
    assert report["problems"] == [{"kind": "too few negatives", "count": 3, "is_error": True}]


def test_a_recipe_is_checked_by_its_data_section(run, tmp_path):
    (tmp_path / "r.yaml").write_text(
        "model: {}\ndata:\n  train: [a.jsonl]\n  negatives: {num: 1, when_too_few: error}\n"
    )
    assert run("r.yaml").exit_code == 0
    (tmp_path / "r.yaml").write_text("data:\n  train: [a.jsonl]\n  negative: {num: 1}\n")
    done = run("r.yaml")
    assert done.exit_code == 2 and "did you mean 'negatives'?" in done.output
    assert "a recipe is checked alone" in run("r.yaml", "a.jsonl").output
    (tmp_path / "r.yaml").write_text("model: {}\n")
    assert "r.yaml: a recipe without a 'data' section" in run("r.yaml").output


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "none.jsonl: no such file or folder"),
        ("e.jsonl", "", "not a single group can be used"),
        ("x.bin", "x", "unknown kind of file: name its format"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(run, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    done = run(name)
    assert done.exit_code == 2 and message in done.output and "Traceback" not in done.output
