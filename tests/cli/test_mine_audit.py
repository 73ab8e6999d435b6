import json
import subprocess
import sys

import pytest

ROWS = [
    {
        "query_id": "q1",
        "query": "red <planet>?",
        "positives": [{"id": "d1", "text": "mars", "score": 8.0}],
        "negatives": [
            {"id": "d2", "text": "<script>venus</script> \x1b[31m", "score": 7.9},
            {"id": "d3", "text": "mars", "score": 1.0},
        ],
    },
    {"query_id": "q2", "query": "food", "positives": [{"text": "bread", "score": 5.0}], "negatives": []},
]


@pytest.fixture
def groups(tmp_path, write_jsonl):
    return write_jsonl(tmp_path / "groups.jsonl", *ROWS)


def test_findings_histogram_and_examples_are_shown(crossrank, groups):
    result = crossrank("mine", "audit", groups)
    assert result.exit_code == 0, result.output
    assert "known positive among the negatives" in result.stdout and "50.0%" in result.stdout
    assert "Scores too close to a positive" in result.stdout and "7.9" in result.stdout and "█" in result.stdout
    assert "\x1b[31m" not in result.stdout


def test_the_page_needs_nothing_and_escapes_texts(crossrank, groups, tmp_path):
    result = crossrank("mine", "audit", groups, "--html", tmp_path / "audit.html")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "audit.html").read_text()
    assert "&lt;script&gt;venus" in page and "<script" not in page and "src=" not in page and "href=" not in page
    assert "\x1b" not in page


def test_json_and_judgements(crossrank, groups, tmp_path):
    (tmp_path / "qrels.tsv").write_text("q1\td2\t1\n")
    result = crossrank("mine", "audit", groups, "--json", "--qrels", tmp_path / "qrels.tsv")
    found = json.loads(result.stdout)["findings"]
    assert found["known positive among the negatives"] == 2 and found["group without negatives"] == 1


def test_bad_input_is_named(crossrank, groups, tmp_path):
    assert crossrank("mine", "audit", groups, "--html", groups).exit_code == 2
    assert len(groups.read_text().splitlines()) == 2
    (tmp_path / "bad.jsonl").write_text('{"query": "x"}\n')
    result = crossrank("mine", "audit", tmp_path / "bad.jsonl")
    assert result.exit_code == 2 and "bad.jsonl:1: no 'positives'" in result.stderr
    assert crossrank("mine", "audit", tmp_path / "none.jsonl").exit_code == 2
    assert crossrank("mine", "audit", groups, "--percent", "0").exit_code == 2


def test_an_empty_file_gives_empty_tables(crossrank, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    result = crossrank("mine", "audit", tmp_path / "empty.jsonl")
    assert result.exit_code == 0, result.output


def test_no_extra_is_needed(groups):
    """The page and the tables come without the packages of the extras."""
    blocked = ["ir_measures", "scipy", "matplotlib", "bm25s", "torch", "transformers"]
    code = f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
    code += "from crossrank.cli.main import app\napp()"
    page = str(groups.with_name("audit.html"))
    done = subprocess.run([sys.executable, "-c", code, "mine", "audit", str(groups), "--html", page], text=True)
    assert done.returncode == 0
