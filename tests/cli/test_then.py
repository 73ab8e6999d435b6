"""`crossrank rerank --then` against a chat server on loopback, with a reranker without a model before it."""

from __future__ import annotations

import json
import re

import pytest

from chat_server import ScriptedChatServer, failure, prompt_of, refusal

KEY = "sk-secret-0123456789"
QUERY = "red planet"
THEN = ("--then", "llm:openai/tiny")


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ScriptedChatServer(reversed_order) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield server


def reversed_order(request):
    return json.dumps({"ranking": list(range(prompt_of(request).count("</passage>"), 0, -1))})


@pytest.fixture
def planets(tmp_path, write_jsonl):
    return write_jsonl(
        tmp_path / "planets.jsonl",
        {"id": "bread", "text": "flour"},
        {"id": "mars", "text": "the red planet"},
        {"id": "venus", "text": "a planet"},
        {"id": "rose", "text": "red"},
    )


def test_the_language_model_has_the_last_word_over_the_best(crossrank, reranker, server, planets):
    result = crossrank("rerank", QUERY, planets, *THEN, "--keep", 3, "--price", "1,1", "--json")
    assert result.exit_code == 0, result.output
    ranking = json.loads(result.stdout)
    assert [hit["document"]["id"] for hit in ranking["hits"]] == ["rose", "venus", "mars"]
    assert [hit["index"] for hit in ranking["hits"]] == [3, 2, 1]
    first, last = ranking["stages"]
    assert (first["model"], first["documents"], first["usage"]["calls"]) == ("overlap", 4, 0)
    assert (last["model"], last["documents"], last["usage"]["calls"]) == ("openai/tiny", 3, 1)
    assert last["usage"]["cost_usd"] > 0 and last["failures"] == []
    assert "openai/tiny: 1 call(s)" in result.stderr
    assert crossrank("rerank", QUERY, planets, *THEN, "-k", 1).stdout.split("\t")[2] == "bread"


def test_options_reach_the_first_stage(crossrank, reranker, server, planets, write_jsonl, tmp_path):
    scored = write_jsonl(
        tmp_path / "s.jsonl", {"id": "a", "text": "red", "score": 0}, {"id": "b", "text": "x", "score": 9}
    )
    result = crossrank("rerank", QUERY, scored, *THEN, "--fuse", "--keep", 1)
    assert result.stdout.split("\t")[2] == "b"


def test_a_failure_keeps_the_order_and_says_so(crossrank, reranker, server, planets):
    server.otherwise = lambda request: refusal()
    result = crossrank("rerank", QUERY, planets, *THEN, "--json")
    ranking = json.loads(result.stdout)
    assert [hit["document"]["id"] for hit in ranking["hits"]] == ["mars", "venus", "rose", "bread"]
    assert ranking["stages"][1]["failures"] == ["a list of 4: the model refused to answer"]
    assert "the order that came in was kept" in result.stderr
    server.otherwise = lambda request: failure(401, f"bad key {KEY}")
    result = crossrank("rerank", QUERY, planets, *THEN, "--llm-method", "single", "--keep", 2)
    assert result.exit_code == 0 and "refused the key" in result.stderr and KEY not in result.output


@pytest.fixture
def whole_run(tmp_path, write_jsonl):
    numbers = range(6)
    write_jsonl(tmp_path / "queries.jsonl", *({"_id": f"q{i}", "text": f"word{i} planet"} for i in numbers))
    write_jsonl(tmp_path / "corpus.jsonl", *({"_id": f"d{i}", "text": f"word{i}"} for i in numbers))
    lines = (f"q{i} Q0 d{j} {j + 1} {9 - j} t\n" for i in numbers for j in range(3))
    (tmp_path / "first.run").write_text("".join(lines))
    return [
        "rerank", "--queries", tmp_path / "queries.jsonl", "--corpus", tmp_path / "corpus.jsonl", "--run",
        tmp_path / "first.run", "-o", tmp_path / "out.run", *THEN,
    ]  # fmt: skip


def test_a_whole_run_in_order_with_several_queries_at_a_time(crossrank, reranker, server, whole_run, tmp_path):
    result = crossrank(*whole_run)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in (tmp_path / "out.run").read_text().splitlines()]
    assert [line[0] for line in lines[::3]] == [f"q{i}" for i in range(6)]
    assert [line[2] for line in lines[:3]] == ["d2", "d1", "d0"], "the best came first and is turned to the end"
    assert "6 call(s)" in result.stderr and len(server.requests) == 6


def test_a_run_stops_where_the_server_does_and_goes_on_for_free(crossrank, reranker, server, whole_run, tmp_path):
    down = failure(400, "no more credit")
    server.otherwise = lambda request: (
        down if re.search(r"<query>\nword4", prompt_of(request)) else reversed_order(request)
    )
    result = crossrank(*whole_run)
    assert result.exit_code == 1 and "no more credit" in result.stderr
    assert not (tmp_path / "out.run").exists() and (tmp_path / "out.run.part").exists()
    assert KEY not in (tmp_path / "out.run.part.json").read_text()
    server.otherwise = reversed_order
    assert len(server.requests) >= 5
    result = crossrank(*whole_run)
    assert result.exit_code == 0, result.output
    assert len(server.requests) == 7, "an answer was paid for twice"
    assert len((tmp_path / "out.run").read_text().splitlines()) == 18


@pytest.mark.parametrize("name", ["openai/tiny", "llm:tiny", "llm:"])
def test_a_wrong_name(crossrank, reranker, server, planets, name):
    result = crossrank("rerank", QUERY, planets, "--then", name)
    assert result.exit_code == 2 and "openai/MODEL" in result.stderr and result.stdout == ""
