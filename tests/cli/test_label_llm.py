"""`crossrank label llm`, `agreement` and `queries` against a chat server on loopback."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import pytest

from chat_server import (
    Reply,
    ScriptedChatServer,
    answer,
    failure,
    prompt_of,
    rate_limited,
    refusal,
    server_error,
    slow,
)
from crossrank.data.qrels import read_qrels

KEY = "sk-secret-0123456789"


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ScriptedChatServer(grade) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield server


def grade(request):
    """Grade by how many words of the query the passage has."""
    text = prompt_of(request)
    query = re.search(r"<query>\n(.*?)\n</query>", text, re.DOTALL)[1]
    passage = re.search(r"<passage>\n(.*?)\n</passage>", text, re.DOTALL)[1]
    shared = len(set(query.lower().split()) & set(re.findall(r"\w+", passage.lower())))
    return json.dumps({"intent": query, "match": 1, "trust": 1, "reason": f"{shared} words", "grade": min(shared, 3)})


@pytest.fixture
def data(tmp_path, write_jsonl):
    write_jsonl(tmp_path / "queries.jsonl", {"_id": "q1", "text": "red planet"}, {"_id": "q2", "text": "bread flour"})
    write_jsonl(
        tmp_path / "corpus.jsonl",
        {"_id": "mars", "title": "Mars", "text": "Mars is the red planet of the solar system, and very cold."},
        {"_id": "venus", "text": "Venus is the hottest planet of the solar system by far, with clouds."},
        {"_id": "bread", "text": "Bread needs flour, water, salt and yeast, and an hour of rest."},
    )
    (tmp_path / "a.run").write_text(
        "q1 Q0 venus 1 3 t\nq1 Q0 mars 2 2 t\nq1 Q0 bread 3 1 t\nq2 Q0 bread 1 3 t\nq2 Q0 mars 2 2 t\n"
    )
    return tmp_path


def label(crossrank, data, *options, out="labels"):
    return crossrank(
        "label", "llm", "--queries", data / "queries.jsonl", "--corpus", data / "corpus.jsonl", "--run",
        data / "a.run", "-o", data / out, *options,
    )  # fmt: skip


LLM = ("-m", "openai/tiny")


def test_grades_with_reasons_and_a_report(crossrank, server, data):
    result = label(crossrank, data, *LLM, "--price", "1,2", "--json")
    assert result.exit_code == 0, result.output
    assert read_qrels(data / "labels/qrels/dev.tsv") == {
        "q1": {"venus": 1, "mars": 2, "bread": 0},
        "q2": {"bread": 2, "mars": 0},
    }
    rows = [json.loads(line) for line in (data / "labels/labels.jsonl").read_text().splitlines()]
    assert {row["reason"] for row in rows} == {"0 words", "1 words", "2 words"}
    report = json.loads(result.stdout)
    assert report["grades"] == {"0": 2, "1": 1, "2": 2, "3": 0} and report["usage"]["calls"] == 5
    read = sum(len(prompt_of(request).split()) for request in server.requests)
    assert report["usage"]["input_tokens"] == read
    assert report["usage"]["cost_usd"] == pytest.approx((read + 2 * report["usage"]["output_tokens"]) / 1e6)
    assert report["estimate"]["calls"] == 5 and report["estimate"]["cost_usd"] > 0
    estimate, actual = result.stderr.splitlines()[:2]
    assert estimate.startswith("estimated without the cache: 5 call(s)") and "$" in estimate and "$" in actual


def test_a_dry_run_sends_nothing(crossrank, server, data):
    result = label(crossrank, data, *LLM, "--dry-run")
    assert result.exit_code == 0 and "estimated" in result.stderr
    assert server.requests == [] and not (data / "labels").exists()


def test_an_interrupted_run_goes_on_and_pays_for_nothing_twice(crossrank, server, data):
    server.script += [answer('{"reason": "a", "grade": 1}')] * 2
    server.otherwise = lambda request: failure(400, f"credit exhausted for {KEY}")
    result = label(crossrank, data, *LLM, "--concurrency", 1)
    assert result.exit_code == 1
    assert "credit exhausted" in result.stderr and "give the same command again" in result.stderr
    assert not (data / "labels").exists()
    server.otherwise = grade
    asked = len(server.requests)
    result = label(crossrank, data, *LLM, "--concurrency", 1)
    assert result.exit_code == 0, result.output
    assert len(server.requests) - asked == 3 and "3 call(s), 2 from the cache" in result.stderr
    for file in data.rglob("*"):
        assert file.is_dir() or KEY.encode() not in file.read_bytes()
    assert KEY not in result.output


def test_a_server_that_misbehaves_is_repaired_and_what_stays_unreadable_is_left_out(crossrank, server, data):
    server.script += [rate_limited(), server_error(), answer("I think the grade: 2"), refusal(), refusal()]
    result = label(crossrank, data, *LLM, "--concurrency", 1, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["pairs"] == 4 and len(report["failures"]) == 1
    assert report["repairs"] == {"prose": 1, "refusal": 2} and report["usage"]["retries"] == 2
    assert "1 pair(s) left out, the first because of document" in result.stderr


def test_a_pair_that_the_server_will_not_take_is_left_out(crossrank, server, data):
    """Were it an error, the same command could never go on behind it."""
    server.script += [failure(400, "prompt flagged", code="unsafe"), Reply(body='{"error": {"code": 502}}')]
    server.otherwise = grade
    result = label(crossrank, data, *LLM, "--concurrency", 1, "--json")
    print(result.output)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["pairs"] == 3 and ["prompt flagged" in failure for failure in report["failures"]] == [True, False]
    assert "the server's answer is no chat completion" in report["failures"][1]
    assert "2 pair(s) left out, the first because of document" in result.stderr


def test_nothing_but_refusals_is_an_error(crossrank, server, data):
    server.otherwise = lambda request: refusal()
    result = label(crossrank, data, *LLM)
    assert result.exit_code == 1 and "no pair could be labelled" in result.stderr and not (data / "labels").exists()


def test_a_teacher_labels_the_same_way(crossrank, data):
    result = label(crossrank, data, "--teacher", "crossrank-mini-en-v1", "--split", "test")
    assert result.exit_code == 0, result.output
    assert "not calibrated" not in result.stderr
    grades = read_qrels(data / "labels/qrels/test.tsv")
    assert grades["q1"]["mars"] > grades["q1"]["bread"] and grades["q2"]["bread"] > grades["q2"]["mars"]
    row = json.loads((data / "labels/labels.jsonl").read_text().splitlines()[0])
    assert 0 <= row["teacher_score"] <= 1


def test_a_teacher_that_is_not_calibrated_is_named(crossrank, data, exported):
    result = label(crossrank, data, "--teacher", exported)
    assert result.exit_code == 0, result.output
    assert "is not calibrated: check the shares of the grades" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name one assessor"),
        (("-m", "openai/x", "--teacher", "y"), "name one assessor"),
        (("-m", "mistral/x"), "a language model is one of openai/MODEL, anthropic/MODEL"),
        (("-m", "openai/x", "--price", "free"), "--price takes two numbers"),
        (("-m", "openai/x", "--sample", "disagreeing"), "at least two"),
        (("-m", "openai/x", "--base-url", "localhost"), "must start with http"),
        (("--teacher", "x", "--cuts", "1,2"), "three"),
        (("-m", "openai/x", "--budget", "0"), "--budget"),
    ],
)
def test_wrong_options(crossrank, server, data, options, message):
    result = label(crossrank, data, *options)
    assert result.exit_code == 2 and message in result.stderr and not (data / "labels").exists()


def test_no_key(crossrank, data, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    result = label(crossrank, data, *LLM)
    assert result.exit_code == 2 and "set OPENAI_API_KEY in the environment" in result.stderr


def test_a_run_that_does_not_fit(crossrank, server, data):
    (data / "a.run").write_text("q9 Q0 mars 1 1 t\n")
    result = label(crossrank, data, *LLM)
    assert result.exit_code == 2 and "a.run:1: no text for query 'q9'" in result.stderr
    (data / "a.run").write_text("q1 Q0 pluto 1 1 t\n")
    result = label(crossrank, data, *LLM)
    assert result.exit_code == 2 and "'pluto' of query 'q1' is not in the corpus" in result.stderr
    (data / "a.run").write_text("")
    result = label(crossrank, data, *LLM)
    assert result.exit_code == 1 and "the runs hold no candidate" in result.stderr


def test_agreement_with_a_table_of_people(crossrank, server, data):
    assert label(crossrank, data, *LLM).exit_code == 0
    people = data / "people.csv"
    people.write_text("query_id,document_id,label\nq1,mars,3\nq1,venus,0\nq1,bread,0\nq2,bread,3\nq9,x,1\n")
    result = crossrank("label", "agreement", people, data / "labels", "--json")
    report = json.loads(result.stdout)
    assert (report["pairs"], report["only_first"], report["only_second"]) == (4, 1, 1)
    assert report["kappa_binary"]["value"] == 1.0
    assert report["confusion"] == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0]]
    shown = crossrank("label", "agreement", people, data / "labels")
    assert "kappa, quadratic weights" in shown.stdout and "Confusion" in shown.stdout
    assert "-0.25 against" in shown.stderr
    result = crossrank("label", "agreement", people, data / "queries.jsonl")
    assert result.exit_code == 2 and "queries.jsonl:1: no query under" in result.stderr


def test_synthetic_queries_and_their_round_trip(crossrank, server, data):
    def write(request):
        text = prompt_of(request)
        queries = ["red planet"] if "Mars" in text else ["solar system"] if "Venus" in text else ["bread", "salt yeast"]
        return json.dumps({"queries": ["zebra", *queries]})

    server.otherwise = write
    command = ["label", "queries", "--corpus", data / "corpus.jsonl", *LLM, "-o", data / "synthetic"]
    assert crossrank(*command, "--dry-run").exit_code == 0 and server.requests == []
    result = crossrank(*command, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    kept = [json.loads(line)["text"] for line in (data / "synthetic/queries.jsonl").read_text().splitlines()]
    assert {"red planet", "bread", "salt yeast"} <= set(kept) and "zebra" not in kept
    qrels = read_qrels(data / "synthetic/qrels/train.tsv")
    assert all(query_id.startswith(next(iter(grades))) for query_id, grades in qrels.items())
    assert report["kept"] == len(kept) < report["written"] and report["usage"]["calls"] == 3
    dropped = [json.loads(line) for line in (data / "synthetic/dropped.jsonl").read_text().splitlines()]
    assert "zebra" in {row["text"] for row in dropped}
    result = crossrank(*command[:-1], data / "x", "--retriever", "run:a.run")
    assert result.exit_code == 2 and "bm25 or dense:MODEL" in result.stderr


def test_ctrl_c_keeps_what_was_answered(crossrank, server, data):
    server.otherwise = lambda request: slow(0.3, '{"reason": "a", "grade": 1}')
    command = [
        sys.executable, "-c", "from crossrank.cli.main import app; app(prog_name='crossrank')", "label", "llm",
        "--queries", data / "queries.jsonl", "--corpus", data / "corpus.jsonl", "--run", data / "a.run",
        "-o", data / "labels", "--concurrency", "1", *LLM,
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while len(server.requests) < 2 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "give the same command again to go on" in errors
    assert not (data / "labels").exists() and "Traceback" not in errors
    assert label(crossrank, data, *LLM, "--concurrency", 1).exit_code == 0
    assert len(server.requests) == 5, "an answer was paid for twice"
