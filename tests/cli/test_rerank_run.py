import gzip
import json
import os
import signal
import time
import weakref

import pytest

from crossrank.data.trec import read_run
from crossrank.types import Document

NUM_QUERIES = 12


@pytest.fixture
def files(tmp_path, write_jsonl):
    """Queries q0 to q11; the run lists for each the documents d0 to d11 in one order, and only d<i> fits q<i>."""
    numbers = range(NUM_QUERIES)
    queries = write_jsonl(tmp_path / "queries.jsonl", *({"_id": f"q{i}", "text": f"about {i}"} for i in numbers))
    corpus = write_jsonl(
        tmp_path / "corpus.jsonl", *({"_id": f"d{i}", "title": str(i), "text": "something"} for i in numbers)
    )
    run = tmp_path / "first.trec"
    run.write_text("".join(f"q{i} Q0 d{j} {j + 1} {20 - j} bm25\n" for i in numbers for j in numbers))
    return {"--queries": queries, "--corpus": corpus, "--run": run, "-o": tmp_path / "out.trec"}


def command(files, *more):
    return ["rerank", *(str(part) for item in files.items() for part in item), *more]


def test_a_run_is_reranked(crossrank, reranker, files):
    result = crossrank(*command(files))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"12 queries reranked: {files['-o']}\n"
    assert files["-o"].read_text().splitlines()[-12:-9] == [
        "q11 Q0 d11 1 0.5 crossrank",
        "q11 Q0 d0 2 0.0 crossrank",
        "q11 Q0 d1 3 0.0 crossrank",
    ]
    reranked = list(read_run(files["-o"]))
    assert [query.query_id for query in reranked] == [f"q{i}" for i in range(NUM_QUERIES)]
    assert all(query.candidates[0].document_id == "d" + query.query_id[1:] for query in reranked)
    assert all(len(query.candidates) == NUM_QUERIES for query in reranked)


def test_top_k_and_fuse(crossrank, reranker, files):
    assert crossrank(*command(files, "--top-k", "2", "--fuse")).exit_code == 0
    assert files["-o"].read_text().splitlines()[:4] == [
        "q0 Q0 d0 1 20.5 crossrank",
        "q0 Q0 d1 2 19.0 crossrank",
        "q1 Q0 d0 1 20.0 crossrank",
        "q1 Q0 d1 2 19.5 crossrank",
    ]


def test_a_query_that_cannot_be_ranked_is_named_or_skipped(crossrank, reranker, files, write_jsonl):
    texts = ["about 0", " ", *(f"about {i}" for i in range(2, NUM_QUERIES))]
    write_jsonl(files["--queries"], *({"_id": f"q{i}", "text": text} for i, text in enumerate(texts)))
    result = crossrank(*command(files))
    assert (result.exit_code, result.stderr) == (2, f"Error: {files['--queries']}: query 'q1': the query is empty\n")
    result = crossrank(*command(files, "--skip-bad", "--restart"))
    assert result.exit_code == 0
    assert result.stderr == (
        f"skipped {files['--queries']}: query 'q1': the query is empty\n1 bad line(s) skipped\n"
        f"11 queries reranked: {files['-o']}\n"
    )
    assert [query.query_id for query in read_run(files["-o"])] == ["q0", *(f"q{i}" for i in range(2, NUM_QUERIES))]


@pytest.mark.parametrize("option", ["--queries", "--corpus", "--run"])
def test_no_input_is_written_over(crossrank, reranker, files, option):
    before = files[option].read_bytes()
    result = crossrank(*command(files | {"-o": files[option]}))
    assert (result.exit_code, files[option].read_bytes()) == (2, before)
    assert result.stderr == f"Error: -o {files[option]} is one of the files that are read: give another name\n"


def test_everything_packed_gives_the_same_run(crossrank, reranker, files):
    crossrank(*command(files))
    packed = {}
    for option, path in files.items():
        packed[option] = path.with_name(path.name + ".gz")
        if option != "-o":
            packed[option].write_bytes(gzip.compress(path.read_bytes()))
    assert crossrank(*command(packed)).exit_code == 0
    assert gzip.decompress(packed["-o"].read_bytes()) == files["-o"].read_bytes()


@pytest.mark.parametrize("name", ["out.trec", "out.trec.gz"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(crossrank, reranker, files, name):
    whole = files | {"-o": files["-o"].with_name(f"whole-{name}")}
    crossrank(*command(whole))
    files["-o"] = files["-o"].with_name(name)
    reranker.queries.clear()
    reranker.interrupt_after = 5
    result = crossrank(*command(files))
    assert result.exit_code == 130
    assert f"interrupted after 5 of 12 queries, which are kept in {files['-o']}.part" in result.stderr
    assert not files["-o"].exists()
    reranker.interrupt_after = None
    result = crossrank(*command(files, "--num-threads", "1"))
    assert result.exit_code == 0
    assert "4 of 12 queries are already in" in result.stderr
    assert reranker.queries == [f"about {i}" for i in (0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10, 11)]
    assert files["-o"].read_bytes() == whole["-o"].read_bytes()
    assert not list(files["-o"].parent.glob("*.part*"))


def test_a_signal_in_the_middle_of_a_run(crossrank, reranker, start, files):
    whole = files | {"-o": files["-o"].with_name("whole.trec")}
    crossrank(*command(whole))
    part = files["-o"].with_name("out.trec.part")
    process = start(*command(files), env=os.environ | {"RERANKER_SLEEP_S": "0.5"})
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s and not (part.exists() and part.read_bytes().count(b"\n") > 2 * NUM_QUERIES):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"give the same command again to go on" in errors and b"Traceback" not in errors
    assert crossrank(*command(files)).exit_code == 0
    assert files["-o"].read_bytes() == whole["-o"].read_bytes()


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--top-k", "3"], "top_k was None, is 3"),
        (["--fuse"], "fuse was False, is True"),
        (["--model", "other"], "model was None, is 'other'"),
        (["--score-type", "probability"], "score_type was 'logit', is 'probability'"),
    ],
)
def test_other_settings_are_never_mixed(crossrank, reranker, files, more, named):
    reranker.interrupt_after = 5
    crossrank(*command(files))
    reranker.interrupt_after = None
    result = crossrank(*command(files, *more))
    assert result.exit_code == 2
    assert named in result.stderr and "--restart" in result.stderr
    assert crossrank(*command(files, *more, "--restart")).exit_code == 0
    assert files["-o"].exists()


def test_another_input_is_never_mixed(crossrank, reranker, files):
    reranker.interrupt_after = 5
    crossrank(*command(files))
    files["--run"].write_text(files["--run"].read_text() + "q99 Q0 d1 1 1 bm25\n")
    result = crossrank(*command(files))
    assert result.exit_code == 2
    assert "run was 'first.trec, " in result.stderr


def test_everything_is_checked_before_the_first_query_is_scored(crossrank, reranker, files):
    files["--run"].write_text(files["--run"].read_text() + "q1 Q0 d1\n")
    result = crossrank(*command(files))
    assert result.exit_code == 2
    assert "first.trec:145: 3 fields where a TREC run has 6" in result.stderr
    assert reranker.queries == []
    assert not list(files["-o"].parent.glob("out*"))


def test_skip_bad_leaves_out_what_does_not_fit(crossrank, reranker, files):
    files["--run"].write_text("q0 Q0 d0 1 1 t\nq0 Q0 d77 2 1 t\nq77 Q0 d0 1 1 t\nnonsense\nq1 Q0 d1 1 1 t\n")
    files["--corpus"].write_text(files["--corpus"].read_text() + "{\n")
    result = crossrank(*command(files, "--skip-bad"))
    assert result.exit_code == 0
    assert "4 bad line(s) skipped" in result.stderr
    assert files["-o"].read_text() == "q0 Q0 d0 1 0.5 crossrank\nq1 Q0 d1 1 0.5 crossrank\n"


def test_documents_are_read_when_their_query_is_due(crossrank, reranker, files, monkeypatch):
    """Never are there more documents than those of the query that is scored and of the one before."""
    made, most = [], []
    init, rank = Document.__init__, reranker.rank

    def counting_init(document, *args, **fields):
        init(document, *args, **fields)
        made.append(weakref.ref(document))

    def counting_rank(*args, **options):
        most.append(sum(document() is not None for document in made))
        return rank(*args, **options)

    monkeypatch.setattr(Document, "__init__", counting_init)
    monkeypatch.setattr(reranker, "rank", counting_rank)
    assert crossrank(*command(files)).exit_code == 0
    assert len(made) > NUM_QUERIES**2
    assert NUM_QUERIES <= max(most) <= 2 * NUM_QUERIES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda args: ["rerank", "a query", *args[1:]], "QUERY does not go with a whole run"),
        (lambda args: [*args, "--jsonl"], "--jsonl does not go with a whole run"),
        (lambda args: [*args, "--text-column", "body"], "--text-column does not go with a whole run"),
        (lambda args: args[:-2], "-o is missing"),
        (lambda args: ["rerank", "--queries", "nothing.jsonl", *args[3:]], "nothing.jsonl"),
        (lambda args: [*args[:-1], "no/such/folder/out.trec"], "no such folder"),
    ],
)
def test_wrong_options_end_with_2(crossrank, reranker, files, change, message):
    result = crossrank(*change(command(files)))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_a_pipe_cannot_be_continued_and_is_refused(crossrank, reranker, files):
    files["--run"].unlink()
    os.mkfifo(files["--run"])
    result = crossrank(*command(files))
    assert result.exit_code == 2
    assert "first.trec is a pipe" in result.stderr


def test_the_settings_lie_beside_the_part(crossrank, reranker, files):
    reranker.interrupt_after = 1
    crossrank(*command(files, "--top-k", "3"))
    settings = json.loads(files["-o"].with_name("out.trec.part.json").read_text())
    assert settings["top_k"] == 3 and settings["corpus"].startswith("corpus.jsonl, ")
    assert "num_threads" not in settings
