from __future__ import annotations

import json

from typer.testing import CliRunner

from crossrank.cli.main import app
from crossrank.data.qrels import read_qrels
from crossrank.mining.click_simulator import simulate_clicks


def write_log(path, num_pages=400):
    rankings = {"q1": ["d1", "d2", "d3"], "q2": ["d3", "d2"]}
    queries = {"q1": "red planet", "q2": "bread"}
    qrels = {"q1": {"d2": 1}, "q2": {"d3": 1}}
    pages = simulate_clicks(rankings, qrels, queries=queries, num_pages=num_pages, shuffle=0.5)
    with path.open("w") as log:
        for page in pages:
            clicks = [
                {"id": shown.document_id, "dwell_s": shown.dwell_s} for shown in page.impressions if shown.clicked
            ]
            row = {"session": page.session, "query_id": page.query_id, "query": page.query, "clicks": clicks}
            log.write(json.dumps(row | {"documents": [shown.document_id for shown in page.impressions]}) + "\n")


def test_a_log_becomes_qrels_and_a_report(tmp_path):
    write_log(tmp_path / "log.jsonl")
    out = tmp_path / "labels"
    result = CliRunner().invoke(app, ["label", "clicks", str(tmp_path / "log.jsonl"), "-o", str(out), "--model", "pbm"])
    assert result.exit_code == 0, result.output
    assert "400 pages" in result.stderr and "propensity" in result.stdout
    assert read_qrels(out / "qrels" / "train.tsv") == {"q1": {"d2": 1}, "q2": {"d3": 1}}


def test_bad_rows_end_with_file_and_line_or_are_counted(tmp_path):
    log, out = tmp_path / "log.jsonl", tmp_path / "labels"
    write_log(log, num_pages=50)
    log.write_text(log.read_text() + '{"query": "mars"}\n')
    result = CliRunner().invoke(app, ["label", "clicks", str(log), "-o", str(out)])
    assert result.exit_code == 2 and f"{log}:51: no document was shown" in result.stderr
    assert not out.exists()
    result = CliRunner().invoke(app, ["label", "clicks", str(log), "-o", str(out), "--skip-bad", "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["bad_rows"] == 1


def test_an_empty_log_gives_empty_files(tmp_path):
    (tmp_path / "log.jsonl").touch()
    result = CliRunner().invoke(app, ["label", "clicks", str(tmp_path / "log.jsonl"), "-o", str(tmp_path / "labels")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "labels" / "labels.jsonl").read_text() == ""
