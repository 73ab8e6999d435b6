import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("overlap_reranker.py")

QUERY = "red planet"


@pytest.fixture
def planets(tmp_path, write_jsonl):
    return write_jsonl(
        tmp_path / "planets.jsonl",
        {"id": "venus", "text": "Venus is the hottest planet", "score": 3.0},
        {"id": "mars", "title": "Mars", "text": "the red planet", "score": 1.5, "lang": "en"},
        {"id": "bread", "text": "flour\tand\nwater", "score": 0.5},
    )


def test_lines_when_stdout_is_no_terminal(crossrank, reranker, planets):
    result = crossrank("rerank", QUERY, planets)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "1\t1\tmars\tMars\tthe red planet",
        "2\t0.5\tvenus\t\tVenus is the hottest planet",
        "3\t0\tbread\t\tflour and water",
    ]


def test_json(crossrank, reranker, planets):
    result = crossrank("rerank", QUERY, planets, "--json", "-k", 1)
    assert json.loads(result.stdout) == {
        "query": QUERY,
        "model": "overlap",
        "score_type": "logit",
        "hits": [
            {
                "rank": 1,
                "index": 1,
                "score": 1.0,
                "document": {
                    "text": "the red planet",
                    "title": "Mars",
                    "id": "mars",
                    "metadata": {"score": 1.5, "lang": "en"},
                },
                "truncated": False,
                "span": None,
            }
        ],
    }
    assert result.stderr == ""


def test_json_lines(crossrank, reranker, planets):
    result = crossrank("rerank", QUERY, planets, "--jsonl")
    hits = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(hit["rank"], hit["document"]["id"]) for hit in hits] == [(1, "mars"), (2, "venus"), (3, "bread")]


def test_options_reach_the_model(crossrank, reranker, planets):
    crossrank(
        "rerank", QUERY, planets, "--model", "org/name", "--revision", "abc", "--backend", "torch", "--device", "cpu",
        "--dtype", "float32", "--max-length", 64, "--num-threads", 2, "--label", "1", "--score-type", "probability",
        "--family", "bert",
    )  # fmt: skip
    assert reranker.loaded == [
        {
            "model": "org/name",
            "revision": "abc",
            "backend": "torch",
            "device": "cpu",
            "dtype": "float32",
            "max_length": 64,
            "num_threads": 2,
            "label": 1,
            "family": "bert",
            "max_input_tiles": None,
        }
    ]


def test_standard_input(crossrank, reranker):
    for args in ((), ("-",)):
        result = crossrank("rerank", QUERY, *args, input="a red dress\n\nthe red planet\n")
        assert result.stdout == "1\t1\t<stdin>#2\t\tthe red planet\n2\t0.5\t<stdin>#1\t\ta red dress\n"


@pytest.mark.parametrize("flags", [(), ("--json",), ("--jsonl",)])
def test_empty_input_is_an_empty_ranking(crossrank, reranker, tmp_path, flags):
    path = tmp_path / "a.txt"
    path.touch()
    result = crossrank("rerank", QUERY, path, *flags)
    assert result.exit_code == 0
    assert result.stderr == "no documents in the input: the ranking is empty\n"
    assert "hits" not in result.stdout or json.loads(result.stdout)["hits"] == []


def test_one_document_and_ten_thousand(crossrank, reranker, tmp_path, write_jsonl):
    one = write_jsonl(tmp_path / "one.jsonl", {"text": "x"})
    assert crossrank("rerank", QUERY, one).stdout == "1\t0\t\t\tx\n"
    many = write_jsonl(tmp_path / "many.jsonl", *({"id": i, "text": f"red {i}"} for i in range(10_000)))
    result = crossrank("rerank", "red 7777", many, "--top-k", 3, "--jsonl")
    assert [json.loads(line)["index"] for line in result.stdout.splitlines()] == [7777, 0, 1]


def test_every_script_and_control_character_survives(crossrank, reranker, tmp_path, write_jsonl):
    texts = ["🍞 emoji 👩‍🍳", "שלום עולם", "مرحبا", "nul \x00 and esc \x1b[31m", "line \u2028 separator"]
    path = write_jsonl(tmp_path / "a.jsonl", *({"text": text} for text in texts))
    result = crossrank("rerank", QUERY, path, "--json")
    assert [hit["document"]["text"] for hit in json.loads(result.stdout)["hits"]] == texts
    assert crossrank("rerank", QUERY, path).exit_code == 0


def test_a_document_of_three_megabytes(crossrank, reranker, tmp_path):
    path = tmp_path / "long.md"
    path.write_text("# Mars\n" + "a long line about nothing\n" * 130_000 + "red planet\n")
    assert path.stat().st_size > 3_000_000
    (hit,) = json.loads(crossrank("rerank", QUERY, path, "--json").stdout)["hits"]
    assert hit["score"] == 1.0 and hit["document"]["title"] == "Mars"


def test_duplicate_ids_are_ranked_like_all_others(crossrank, reranker, planets):
    result = crossrank("rerank", QUERY, planets, planets, "--jsonl")
    assert [json.loads(line)["index"] for line in result.stdout.splitlines()] == [1, 4, 0, 3, 2, 5]


def test_fuse_takes_the_score_of_each_record(crossrank, reranker, planets, tmp_path):
    result = crossrank("rerank", QUERY, planets, "--fuse", "--json")
    ranking = json.loads(result.stdout)
    assert ranking["score_type"] == "fused"
    assert [(hit["document"]["id"], hit["score"]) for hit in ranking["hits"]] == [
        ("venus", 3.5),
        ("mars", 2.5),
        ("bread", 0.5),
    ]
    table = tmp_path / "a.csv"
    table.write_text("text,score\nred,1\nplanet,2e1\n")
    assert crossrank("rerank", QUERY, table, "--fuse").stdout.splitlines()[0] == "1\t20.5\t\t\tplanet"


@pytest.mark.parametrize("score", [None, "high", True, [1], "nan"])
def test_fuse_names_the_record_without_a_score(crossrank, reranker, tmp_path, write_jsonl, score):
    path = write_jsonl(tmp_path / "a.jsonl", {"text": "x", "score": 1}, {"id": "b", "text": "y", "score": score})
    result = crossrank("rerank", QUERY, path, "--fuse")
    assert result.exit_code == 2
    assert f"--fuse needs a number as `score` in every record; record 2 (id 'b') has {score!r}" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["rerank"], "no query"),
        (["rerank", "", "{planets}"], "the query is empty"),
        (["rerank", QUERY, "nothing.jsonl"], "nothing.jsonl: no such file"),
        (["rerank", QUERY, "{planets}", "--text-column", "body"], "planets.jsonl:1: no 'body' among the fields"),
        (["rerank", QUERY, "{planets}", "--json", "--jsonl"], "--json and --jsonl exclude each other"),
        (["rerank", QUERY, "{planets}", "--restart"], "a whole run takes --queries, --corpus, --run, -o"),
        (["rerank", QUERY, "{planets}", "-o", "x"], "--queries, --corpus, --run is missing"),
        (["rerank", QUERY, "{planets}", "--fuse", "--score-type", "probability"], "fused scores are no probabilities"),
        (["rerank", QUERY, "{planets}", "--top-k", "0"], "--top-k"),
        (["rerank", QUERY, "{planets}", "--score-type", "stars"], "--score-type"),
        (["rerank", QUERY, "{planets}", "--no-such-flag"], "--no-such-flag"),
        (["no-such-command"], "no-such-command"),
    ],
)
def test_bad_input_ends_with_2_and_says_why(crossrank, reranker, planets, args, message):
    result = crossrank(*(arg.format(planets=planets) for arg in args))
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_a_query_that_is_not_utf8(start, tmp_path):
    (tmp_path / "empty.txt").touch()
    process = start("rerank", os.fsdecode(b"caf\xe9"), tmp_path / "empty.txt", "--json")
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output, errors) == (2, b"", b"Error: the query is not valid UTF-8\n")


def test_bad_lines_end_the_command_or_are_skipped_and_reported(crossrank, reranker, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "red"}\n{"text": \n{"text": "caf\xe9"}\n{"text": "red planet"}\n')
    result = crossrank("rerank", QUERY, path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {path}:2: malformed JSON")
    result = crossrank("rerank", QUERY, path, "--skip-bad")
    assert result.exit_code == 0
    assert [line.split("\t")[4] for line in result.stdout.splitlines()] == ["red planet", "red"]
    first, second, total = result.stderr.splitlines()
    assert first.startswith(f"skipped {path}:2: malformed JSON")
    assert second.startswith(f"skipped {path}:3: not valid UTF-8 at byte 39")
    assert total == "2 bad line(s) skipped"


def test_a_long_list_of_bad_lines_is_cut(crossrank, reranker, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("bad\n" * 50)
    notes = crossrank("rerank", QUERY, path, "--skip-bad").stderr.splitlines()
    assert len(notes) == 22
    assert notes[20] == "50 bad line(s) skipped, the last 30 not shown"


def test_a_terminal_without_files_gets_a_hint(start):
    terminal, other_end = pty.openpty()
    process = start("rerank", QUERY, stdin=other_end)
    _, errors = process.communicate(timeout=120)
    os.close(terminal)
    assert process.returncode == 2
    assert b"no FILE, and nothing is piped into standard input" in errors


def test_a_table_on_a_terminal(start, planets):
    terminal, other_end = pty.openpty()
    process = start("rerank", QUERY, planets, stdout=other_end)
    process.communicate(timeout=120)
    os.close(other_end)
    shown = os.read(terminal, 100_000).decode()
    assert process.returncode == 0
    assert "3 results for 'red planet'" in shown
    assert shown.index("the red planet") < shown.index("Venus") < shown.index("flour")


def test_a_closed_pipe_is_silent(tmp_path, write_jsonl):
    path = write_jsonl(tmp_path / "a.jsonl", *({"text": "red " * 100} for _ in range(5000)))
    command = f"{sys.executable} {SCRIPT} rerank red {path} | head -n 1; echo exit code ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert run.stdout == "1\t1\t\t\t" + " ".join(["red"] * 100) + "\nexit code 0\n"
    assert run.stderr == ""


def test_closed_standard_streams(tmp_path, write_jsonl):
    path = write_jsonl(tmp_path / "a.jsonl", {"text": "red planet"})

    def run(arguments):
        command = f"{sys.executable} {SCRIPT} rerank red {arguments}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    assert run(f"{path} <&-") == (0, "1\t1\t\t\tred planet\n", "")
    assert run("<&-") == (
        2,
        "",
        "Error: no FILE, and nothing is piped into standard input: name files or folders to rank\n",
    )
    assert run("- <&-") == (2, "", "Error: <stdin>: standard input is closed: name files, or pipe something in\n")
    assert run(f"{path} >&-") == (0, "", "")
    assert run(f"{path} --json >&-") == (0, "", "")
    assert run(f"{path} 2>&-") == (0, "1\t1\t\t\tred planet\n", "")
    assert run("missing.txt 2>&-") == (2, "", "")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs a device that is always full")
def test_a_full_disk_is_named(tmp_path, write_jsonl):
    path = write_jsonl(tmp_path / "a.jsonl", {"text": "red planet"})
    command = f"{sys.executable} {SCRIPT} rerank red {path} > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (1, "Error: standard output: No space left on device\n")


def test_output_is_utf8_whatever_the_locale(start, tmp_path, write_jsonl):
    path = write_jsonl(tmp_path / "a.jsonl", {"text": "🍞 שלום"})
    process = start("rerank", QUERY, path, env=os.environ | {"PYTHONIOENCODING": "latin-1"})
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, b"")
    assert output.decode() == "1\t0\t\t\t🍞 שלום\n"
