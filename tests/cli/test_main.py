import re
import subprocess
import sys

import pytest

from crossrank import __version__
from crossrank.errors import CheckpointError, MissingExtra, NumericalError


def test_the_commands(crossrank):
    result = crossrank("--help")
    assert result.exit_code == 0
    assert [name for name in ("rerank", "models", "info", "export") if name in result.stdout] == [
        "rerank",
        "models",
        "info",
        "export",
    ]
    assert crossrank("--version").stdout == f"crossrank {__version__}\n"


def test_the_flags_of_rerank(crossrank):
    """A frozen list: a new flag is a decision."""
    text = crossrank("rerank", "--help", env={"COLUMNS": "200"}).stdout
    assert sorted(set(re.findall(r"│ (--[a-z-]+)", text))) == [
        "--backend", "--base-url", "--corpus", "--device", "--dtype", "--family", "--fuse", "--help",
        "--html", "--instruction", "--json", "--jsonl", "--keep", "--label", "--llm-method", "--max-input-tiles",
        "--max-length", "--modality", "--model", "--num-threads", "--on-overflow", "--output", "--price",
        "--queries", "--restart",
        "--revision", "--run", "--score-type", "--skip-bad", "--text-column", "--then", "--top-k",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "error",
    [CheckpointError("broken"), MissingExtra("this", extra="torch"), NumericalError("NaN"), OSError("disk full")],
)
def test_other_failures_end_with_1_and_one_line(crossrank, reranker, monkeypatch, tmp_path, error):
    def load(*args, **options):
        raise error

    monkeypatch.setattr(reranker, "load", load)
    path = tmp_path / "a.txt"
    path.write_text("text")
    result = crossrank("rerank", "query", path)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {error}\n")


def test_an_interrupt_ends_with_130(crossrank, reranker, tmp_path):
    reranker.interrupt_after = 0
    path = tmp_path / "a.txt"
    path.write_text("text")
    result = crossrank("rerank", "query", path)
    assert (result.exit_code, result.stderr) == (130, "Error: interrupted\n")


def test_a_bug_is_not_hidden(crossrank, reranker, monkeypatch, tmp_path):
    monkeypatch.setattr(reranker, "rank", lambda *args, **options: 1 / 0)
    path = tmp_path / "a.txt"
    path.write_text("text")
    assert isinstance(crossrank("rerank", "query", path).exception, ZeroDivisionError)


def test_the_command_line_imports_no_runtime():
    code = (
        "import sys, crossrank.cli.main; "
        "print([m for m in ('torch', 'transformers', 'openvino', 'tokenizers', 'huggingface_hub') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
