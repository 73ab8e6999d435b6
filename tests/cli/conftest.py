import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossrank.cli.main import app

WORDS = ("planet", "river", "bread", "password", "search", "city")
SCRIPT = Path(__file__).with_name("overlap_reranker.py")


@pytest.fixture
def crossrank():
    """Run the command in this process: `crossrank("rerank", ...)` gives exit_code, stdout, stderr."""
    return lambda *args, **options: CliRunner().invoke(app, [str(arg) for arg in args], **options)


@pytest.fixture
def reranker(monkeypatch):
    """Replace the reranker by one without a model, and return its class, which records what it is asked."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from overlap_reranker import as_module
    finally:
        sys.path.remove(str(SCRIPT.parent))
    module = as_module()
    monkeypatch.setitem(sys.modules, "crossrank.reranker", module)
    return module.Reranker


@pytest.fixture
def start():
    """Start the command on the reranker without a model, in a process of its own."""
    processes = []

    def start(*args, **options):
        command = [sys.executable, str(SCRIPT), *map(str, args)]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen(command, **(pipes | options)))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def write_jsonl():
    """Write records as JSON lines and return the path."""

    def write(path, *records):
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def exported(tiny_checkpoint, tmp_path_factory):
    """A tiny checkpoint with random weights in the CPU form, which is scored without torch."""
    from crossrank.inference.export import export_checkpoint

    return export_checkpoint(tiny_checkpoint("bert"), tmp_path_factory.mktemp("exported") / "tiny").folder


@pytest.fixture
def make_folder(tmp_path, write_jsonl):
    """Build a BEIR folder: document i is about word i and has a twin that only names it."""

    def make(name, *, split="dev"):
        folder = tmp_path / name
        (folder / "qrels").mkdir(parents=True)
        write_jsonl(folder / "queries.jsonl", *({"_id": f"q{i}", "text": f"the {w}"} for i, w in enumerate(WORDS)))
        documents = [
            {"_id": f"{kind}{i}", "title": "", "text": text.format(w)}
            for i, w in enumerate(WORDS)
            for kind, text in (("good", "All about the {0}: how a {0} works."), ("other", "Not the topic, but a {0}."))
        ]
        write_jsonl(folder / "corpus.jsonl", *documents)
        lines = "".join(f"q{i}\tgood{i}\t1\n" for i in range(len(WORDS)))
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + lines)
        (folder / "first.trec").write_text(
            "".join(f"q{i} Q0 {kind}{i} {r} {9 - r} x\n" for i in range(5) for r, kind in enumerate(("other", "good")))
        )
        return folder

    return make
