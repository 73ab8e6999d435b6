"""The commands with a real (tiny) checkpoint in the CPU form, end to end."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crossrank import Reranker
from crossrank.data.documents import read_documents

EXAMPLES = Path(__file__).parents[2] / "examples"
QUERY = "how long are backups kept?"


def test_the_command_prints_what_the_library_ranks(crossrank, exported):
    documents = list(read_documents([EXAMPLES / "handbook"]))
    expected = Reranker.load(exported).rank(QUERY, documents, top_k=5)
    result = crossrank("rerank", QUERY, EXAMPLES / "handbook", "--model", exported, "-k", 5, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["hits"] == expected.to_dicts()


@pytest.mark.parametrize("flags", [["--score-type", "probability"], ["--on-overflow", "chunk"], ["--dtype", "float32"]])
def test_the_options_of_a_ranking(crossrank, exported, flags):
    result = crossrank("rerank", QUERY, EXAMPLES / "passages.jsonl", "--model", exported, "--jsonl", *flags)
    hits = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(hits) == 20
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


def test_a_document_that_is_too_long(crossrank, exported, tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("Backups are kept for a while. " * 20_000)
    for flags, truncated in (((), True), (("--on-overflow", "chunk"), False)):
        result = crossrank("rerank", QUERY, path, "--model", exported, "--json", *flags)
        (hit,) = json.loads(result.stdout)["hits"]
        assert (hit["truncated"], hit["span"] is None) == (truncated, truncated)
    result = crossrank("rerank", QUERY, path, "--model", exported, "--on-overflow", "error")
    assert result.exit_code == 2 and "does not fit in max_length" in result.stderr


def test_neither_torch_nor_transformers_is_imported(exported):
    code = (
        "import sys; from crossrank.cli.main import app\n"
        "try: app()\n"
        "finally: print([m for m in ('torch', 'transformers') if m in sys.modules], file=sys.stderr)"
    )
    arguments = ["rerank", QUERY, str(EXAMPLES / "passages.jsonl"), "--model", str(exported)]
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "[]\n")
    assert run.stdout.count("\n") == 20


def test_broken_checkpoints_end_with_1(crossrank, exported, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    (copy / "tokenizer.json").write_text("{")
    for model, message in ((copy, "tokenizer.json"), (tmp_path / "nothing", "no such folder")):
        result = crossrank("rerank", QUERY, EXAMPLES / "passages.jsonl", "--model", model)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: ") and message in result.stderr


def test_an_interrupted_run_gives_the_same_bytes(crossrank, exported, tmp_path, write_jsonl, monkeypatch):
    corpus = list(read_documents([EXAMPLES / "passages.jsonl"]))
    queries = write_jsonl(tmp_path / "queries.jsonl", *({"_id": f"q{i}", "text": f"number {i}"} for i in range(6)))
    run = tmp_path / "first.trec"
    run.write_text("".join(f"q{i} Q0 {d.id} {j} {-j} t\n" for i in range(6) for j, d in enumerate(corpus, 1)))
    args = ["rerank", "--queries", queries, "--corpus", EXAMPLES / "passages.jsonl", "--run", run, "--model", exported]
    assert crossrank(*args, "-o", tmp_path / "whole.trec").exit_code == 0

    rank, calls = Reranker.rank, []

    def interrupted(*args, **options):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return rank(*args, **options)

    monkeypatch.setattr(Reranker, "rank", interrupted)
    assert crossrank(*args, "-o", tmp_path / "out.trec").exit_code == 130
    assert crossrank(*args, "-o", tmp_path / "out.trec").exit_code == 0
    assert len(calls) == 4 + 4
    assert (tmp_path / "out.trec").read_bytes() == (tmp_path / "whole.trec").read_bytes()


def test_the_example_script(exported, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES)
    import rerank_handbook

    load = Reranker.load
    monkeypatch.setattr(rerank_handbook.Reranker, "load", lambda: load(exported))
    rerank_handbook.main()
    shown = capsys.readouterr().out
    assert "3 results for 'How long do I have to hand in my receipts after a trip?'" in shown
    assert "paragraphs, from " in shown
