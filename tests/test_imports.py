"""What importing and scoring must not bring along, and what the package exports."""

from __future__ import annotations

import subprocess
import sys

import pytest

import crossrank


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_exported_names():
    public = {
        "Cascade", "Document", "Hit", "LLMReranker", "Pair", "Ranking", "RerankError", "Reranker", "__version__",
    }  # fmt: skip
    assert set(crossrank.__all__) == public
    for name in crossrank.__all__:
        assert getattr(crossrank, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'reranker_'"):
        _ = crossrank.reranker_


def test_import_crossrank_brings_no_runtime():
    heavy = "[m for m in ('torch', 'transformers', 'openvino', 'typer', 'rich', 'pydantic') if m in sys.modules]"
    assert run(f"import sys, crossrank; print({heavy})") == "[]"


def test_ranking_with_the_shipped_model_brings_neither_torch_nor_transformers():
    code = (
        "import sys; from crossrank import Reranker;"
        "r = Reranker.load().rank('red planet', ['Bread needs flour.', 'Mars is the red planet.']);"
        "print(r[0].index, [m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert run(code) == "1 []"


def test_loading_the_shipped_model_reports_to_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CI", "")  # where it is "true", OpenVINO is silent by itself
    code = (
        "import sys; from crossrank import Reranker; Reranker.load(); first = 'openvino_telemetry' in sys.modules;"
        "import openvino_telemetry; print(first)"  # others may still import it
    )
    assert run(code) == "False"
    assert not list(tmp_path.iterdir()), "what is counted is counted in the home folder"


def test_the_library_adds_no_log_handler():
    assert run("import logging, crossrank; print(logging.getLogger('crossrank').handlers)") == "[]"


def test_ranking_with_a_language_model_brings_no_runtime():
    code = (
        "import sys; from crossrank import LLMReranker;"
        "r = LLMReranker(lambda messages: '[2] > [1]').rank('q', ['a', 'b']);"
        "print(r[0].index, [m for m in ('torch', 'openvino', 'openai', 'anthropic') if m in sys.modules])"
    )
    assert run(code) == "1 []"
