"""From a click log to a validated reranker: the recipe's own command, real text, a chat server that misbehaves."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from chat_server import ScriptedChatServer, answer, prompt_of, rate_limited, refusal, server_error, slow
from crossrank import Reranker
from crossrank.data.beir import read_queries
from crossrank.data.grade_files import read_grades
from crossrank.data.groups.store import text_key
from crossrank.data.qrels import read_qrels
from crossrank.errors import InputError

pytest.importorskip("bm25s")
pytest.importorskip("ir_measures")

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "weak_supervision"
KEY = "sk-secret-0123456789"
TINY = (
    "model.name=tiny:bert", "model.max_length=64", "data.negatives.num=3", "training.max_steps=4",
    "training.global_batch_size=8", "training.local_batch_size=4", "training.precision=fp32",
    "evaluation.every_steps=2", "checkpoints.every_steps=2", "logging.every_steps=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def beir(tmp_path_factory):
    """The examples' questions about a handbook as a BEIR folder: 38 to be asked in the log, 15 judged by people."""
    folder = tmp_path_factory.mktemp("handbook")
    (folder / "qrels").mkdir()
    ids: dict[str, str] = {}
    queries = []
    for split in ("train", "dev"):
        judgements = ["query-id\tcorpus-id\tscore"]
        for line in (ROOT / "examples" / "training" / f"{split}.jsonl").read_text().splitlines():
            row = json.loads(line)
            query_id = f"{split}-{row['query_id']}"
            queries.append({"_id": query_id, "text": row["query"]})
            for text in row["positives"] + row["negatives"]:
                ids.setdefault(text, f"d{len(ids)}")
            judgements += [f"{query_id}\t{ids[text]}\t1" for text in row["positives"]]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(judgements) + "\n")
    write_lines(folder / "queries.jsonl", queries)
    write_lines(folder / "corpus.jsonl", [{"_id": key, "text": text} for text, key in ids.items()])
    return folder


@pytest.fixture(scope="module")
def log(beir, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    options = ("--pages", "1500", "--shown", "8", "--shuffle", "0.5")
    done = run_script("simulate.py", "--data", beir, "-o", path, *options)
    assert done.returncode == 0, done.stderr
    return path


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run_script(name, *arguments, **environment):
    command = [sys.executable, str(RECIPE / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=1200)


def settings(tmp_path):
    values = (*TINY, f"data.cache_dir={tmp_path}/groups")
    return [part for value in values for part in ("--set", value)]


def assessor(beir):
    """Grade 3 what the handbook's questions name as their answer, and 0 or 1 what they do not."""
    texts = {row["_id"]: row["text"] for row in map(json.loads, (beir / "corpus.jsonl").open())}
    queries = read_queries(beir / "queries.jsonl")
    right = {
        (queries[query_id], texts[document_id][:60])
        for query_id, grades in read_qrels(beir / "qrels" / "train.tsv").items()
        for document_id in grades
    }

    def grade(request):
        text = prompt_of(request)
        query = re.search(r"<query>\n(.*?)\n</query>", text, re.DOTALL)[1]
        passage = re.search(r"<passage>\n(.*?)\n</passage>", text, re.DOTALL)[1]
        found = 3 if (query, passage[:60]) in right else len(passage) % 2
        return json.dumps({"intent": query, "match": found, "trust": 3, "reason": "as judged", "grade": found})

    return grade


def test_clicks_become_a_reranker_that_an_assessor_has_validated(beir, log, tmp_path):
    """Interrupted while a server that misbehaves is asked, gone on with, and then nothing is done again."""
    work, environment = tmp_path / "work", {"OPENAI_API_KEY": KEY, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = ["--log", log, "--corpus", beir / "corpus.jsonl", "-o", work, "--assessor", "openai/scripted"]
    command += ["--held-out", 14, "--budget", 140, "--price", "1,2", "--click-model", "pbm", *settings(tmp_path)]
    with ScriptedChatServer(assessor(beir)) as server:
        environment["OPENAI_BASE_URL"] = server.base_url
        server.script += [rate_limited(), server_error(), answer("{not JSON"), refusal(), slow(0.2, '{"grade": 0}')]
        interrupted(command, server, environment)
        assert not (work / "labels").exists()
        asked = len(server.requests)
        done = run_script("run.py", *command, **environment)
        print(done.stdout, done.stderr)
        assert done.returncode == 0, done.stderr
        assert "estimated without the cache" in done.stderr and "from the cache" in done.stderr
        paid = json.loads((work / "labels" / "report.json").read_text())
        assert paid["usage"]["calls"] == len(server.requests) - asked < 140
        assert asked + paid["usage"]["calls"] < 160, "what was paid for before the interrupt is not asked again"
        again = run_script("run.py", *command, **environment)
        assert again.returncode == 0 and len(server.requests) == asked + paid["usage"]["calls"]
        assert "model is there" in again.stderr and "$ crossrank" not in again.stderr
        other = run_script("run.py", *command, "--click-model", "naive", **environment)
        assert other.returncode == 1 and "clicks was made with other settings" in other.stderr

    check_sides(work)
    report = json.loads((work / "report" / "results.json").read_text())["models"]
    assert [name for name in report] == ["crossrank-mini-en-v1", "model"]
    judged_only = json.loads((work / "report-judged" / "results.json").read_text())["models"]["model"]
    (numbers,) = judged_only["datasets"].values()
    assert numbers["judged"]["reranked"] == pytest.approx(1.0) and numbers["queries"] >= 3
    ranking = Reranker.load(work / "model" / "model", backend="torch").rank(
        "How long is the leave?", ["30 days", "VPN"]
    )
    assert len(ranking) == 2
    for path in work.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()
    assert KEY not in done.stdout + done.stderr


def interrupted(command, server, environment):
    """Press Ctrl-C while the assessor is at work."""
    reached = threading.Event()
    grade = server.otherwise

    def watching(request):
        if len(server.requests) > 30:
            reached.set()
        return slow(0.05, grade(request))

    server.otherwise = watching
    arguments = [sys.executable, str(RECIPE / "run.py"), *map(str, command)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(arguments, env=os.environ | environment, **pipes)
    try:
        assert reached.wait(900)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=600)
    finally:
        process.kill()
        server.otherwise = grade
    assert process.returncode == 130 and "give the same command again" in output, output


def check_sides(work):
    """No query is on two sides, and none of those that are reported on was trained on."""
    queries = read_queries(work / "judged" / "queries.jsonl")
    trained = set(map(text_key, read_queries(work / "queries" / "train.jsonl").values()))
    dev, test = (set(read_qrels(work / "judged" / "qrels" / f"{name}.tsv")) for name in ("dev", "test"))
    print(len(trained), "queries trained on,", len(dev), "to select on,", len(test), "reported on")
    assert dev and test and not dev & test
    assert not trained & {text_key(queries[query_id]) for query_id in dev | test}
    rows = [json.loads(line) for line in (work / "groups.jsonl").read_text().splitlines()]
    assert {text_key(row["query"]) for row in rows} == trained
    labels = read_grades(work / "labels")
    for name in ("dev", "test"):
        for query_id, grades in read_qrels(work / "judged" / "qrels" / f"{name}.tsv").items():
            assert all(
                labels[query_id, d] == grade if grade else labels[query_id, d] < 2 for d, grade in grades.items()
            )


@pytest.fixture
def recipe(monkeypatch):
    """Its modules, which are no package."""
    monkeypatch.syspath_prepend(str(RECIPE))
    yield
    for name in ("sets", "steps", "run"):
        sys.modules.pop(name, None)


@pytest.fixture
def clicks(tmp_path):
    """What `crossrank label clicks` writes, by hand: ten queries, of which q9 has no relevant document."""
    folder = tmp_path / "clicks"
    (folder / "qrels").mkdir(parents=True)
    write_lines(folder / "queries.jsonl", [{"_id": f"q{n}", "text": f"Query {n}"} for n in range(10)])
    pairs = [(n, document, document == "a" and n < 9) for n in range(10) for document in "ab"]
    rows = [
        {"query_id": f"q{n}", "query": f"Query {n}", "document_id": d, "relevant": r, "document": f"text {d}"}
        for n, d, r in pairs
    ]
    write_lines(folder / "labels.jsonl", rows)
    relevant = "".join(f"q{n}\t{document}\t1\n" for n, document, is_relevant in pairs if is_relevant)
    (folder / "qrels" / "train.tsv").write_text(f"query-id\tcorpus-id\tscore\n{relevant}")
    return folder


def test_queries_that_people_have_judged_are_on_no_other_side(recipe, clicks, tmp_path):
    from sets import write_queries, write_shown_groups

    folder = tmp_path / "queries"
    write_queries(folder, clicks, ["query  3", "QUERY 4", "another"], held_out=3, seed=0)
    train, held_out = (set(read_queries(folder / f"{name}.jsonl")) for name in ("train", "held-out"))
    print(train, held_out)
    assert len(held_out) == 3 and not train & held_out
    assert train | held_out | {"q9"} == {f"q{n}" for n in range(10)} - {"q3", "q4"}, "q9 has nothing to train on"
    assert set(read_qrels(folder / "train.tsv")) == train
    write_shown_groups(tmp_path / "groups.jsonl", folder / "labels.jsonl")
    groups = [json.loads(line) for line in (tmp_path / "groups.jsonl").read_text().splitlines()]
    assert {group["query_id"] for group in groups} == train
    assert all((g["positives"], g["negatives"]) == ([{"text": "text a"}], [{"text": "text b"}]) for g in groups)


def test_too_few_queries_are_an_error_that_says_what_may_help(recipe, clicks, tmp_path):
    from sets import write_queries

    with pytest.raises(InputError, match="--held-out 6 is more than half"):
        write_queries(tmp_path / "queries", clicks, [], held_out=6, seed=0)
    with pytest.raises(InputError, match="no query with a relevant document"):
        write_queries(tmp_path / "queries", clicks, [f"query {n}" for n in range(9)], held_out=0, seed=0)
    assert not (tmp_path / "queries").exists()


def test_judgements_of_people_are_parted_by_the_texts_of_their_queries(recipe, tmp_path):
    from sets import parted, read_labelled

    queries, people = tmp_path / "queries.jsonl", tmp_path / "people.csv"
    write_lines(queries, [{"_id": f"q{n}", "text": f"Query {n // 2}"} for n in range(12)])
    with people.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["query_id", "document_id", "label"])
        rows.writerows((f"q{n}", "a", 1 if n == 11 else 3) for n in range(12))
        rows.writerows((f"q{n}", "b", 1) for n in range(12))
    judged = read_labelled(queries, people, relevant_from=2)
    assert set(judged.queries) == {f"q{n}" for n in range(11)}, "q11 has no relevant document"
    assert judged.grades["q0", "a"] == 3 and judged.grades["q0", "b"] == 0
    dev, test = parted(judged, 100, seed=0)
    texts = [set(side.queries.values()) for side in (dev, test)]
    print(texts)
    assert not texts[0] & texts[1] and [len(side) for side in texts] == [3, 3]
    assert len(dev.grades) + len(test.grades) == len(judged.grades)


def test_people_judge_beside_an_assessor_or_alone(recipe, tmp_path, monkeypatch):
    """The checkpoint is selected on what the assessor has graded, and the report is about what people have judged."""
    from run import Pipeline, read_options

    queries, people, held_out = (tmp_path / name for name in ("people.jsonl", "people.csv", "held-out.jsonl"))
    write_lines(queries, [{"_id": f"p{n}", "text": f"People's {n}"} for n in range(6)])
    people.write_text("query_id,document_id,label\n" + "".join(f"p{n},a,1\n" for n in range(6)))
    write_lines(held_out, [{"_id": "q1", "text": "one"}, {"_id": "q2", "text": "two"}])
    (tmp_path / "labels").mkdir()
    rows = [{"query_id": "q1", "document_id": "a", "label": 2}, {"query_id": "q2", "document_id": "a", "label": 1}]
    write_lines(tmp_path / "labels" / "labels.jsonl", rows)
    command = ["--log", queries, "--corpus", queries, "-o", tmp_path / "work"]
    command += ["--judged-queries", queries, "--judgements", people]
    pipeline = Pipeline(read_options(list(map(str, command))))
    alone = pipeline.sides(held_out, None)
    both = pipeline.sides(held_out, tmp_path / "labels")
    assert [len(side.queries) for side in alone] == [3, 3]
    assert set(both[0].queries) == {"q1"} and set(both[1].queries) == {f"p{n}" for n in range(6)}


def test_a_step_is_done_once_and_refused_where_what_it_was_made_of_has_changed(recipe, tmp_path):
    from steps import Steps

    source, output, made = tmp_path / "source", tmp_path / "output", []
    source.write_text("1")

    def make():
        made.append(output.write_text("done"))

    for _ in range(2):
        Steps(tmp_path).own(output, make, needs=[source], size=3)
    assert len(made) == 1
    with pytest.raises(InputError, match=r"other settings \(size 3, now size 4\): delete it"):
        Steps(tmp_path).own(output, make, needs=[source], size=4)
    source.write_text("22")
    with pytest.raises(InputError, match=f"made of another {source}"):
        Steps(tmp_path).own(output, make, needs=[source], size=3)
    with pytest.raises(InputError, match="not made by this recipe"):
        Steps(tmp_path).own(source, make)
    with pytest.raises(SystemExit) as stopped:
        Steps(tmp_path).command(tmp_path / "other", ["mine", "--queries", tmp_path / "nothing"])
    assert stopped.value.code == 2


def test_a_missing_key_ends_it_before_the_first_step(log, tmp_path):
    command = ["--log", log, "--corpus", log, "-o", tmp_path / "work", "--assessor", "openai/m"]
    done = run_script("run.py", *command, OPENAI_API_KEY="", OPENAI_BASE_URL="")
    assert done.returncode == 1 and "set OPENAI_API_KEY" in done.stderr
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "a checkpoint is selected on labels"),
        (["--judgements", "people.csv"], "go together"),
        (["--assessor", "openai/m", "--teacher", "m", "--negatives", "shown"], "does not go with"),
        (["--assessor", "openai/m", "--held-out", "0"], "at least 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused_at_once(log, tmp_path, options, message):
    done = run_script("run.py", "--log", log, "--corpus", log, "-o", tmp_path / "work", *options)
    assert done.returncode == 2 and message in done.stderr
    assert not (tmp_path / "work").exists()
