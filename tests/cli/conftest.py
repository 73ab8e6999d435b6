import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossrank.cli.main import app

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
