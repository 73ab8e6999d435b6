import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "results.py"


@pytest.fixture
def results(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("results_page", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cell(base, reranked, fused, *, language=None, p_value=0.5):
    both = ("nDCG@10", "R@5")
    return {
        "queries": 50, "depth": 50, "language": language, "pairs": 100, "seconds": 2.0,
        "first_stage": dict.fromkeys(both, base), "reranked": dict.fromkeys(both, reranked),
        "delta": dict.fromkeys(both, reranked - base), "ci95": {key: [-0.1, 0.2] for key in both},
        "p_value": dict.fromkeys(both, p_value),
        "fused": {"checkpoint (zscore:0.75)": {
            "measures": dict.fromkeys(both, fused), "delta": dict.fromkeys(both, fused - base),
            "ci95": {key: [0.01, 0.2] for key in both}, "p_value": dict.fromkeys(both, 0.01),
        }},
    }  # fmt: skip


def test_the_page_says_what_is_stored(results, tmp_path):
    for stage in results.STAGES:
        better = 0.1 if stage == "dense" else 0.0
        sets = {
            name: {f"{name}-a": cell(0.5 + better, 0.6, 0.4)} for name in ("left-out", "training", "large", "pages")
        }
        sets["left-out"]["left-out-b"] = cell(0.3 + better, 0.2, 0.35)
        sets["japanese"] = {"jaquad-ja": cell(0.5, 0.6, 0.7, language="ja")}
        sets["languages"] = {"faquad-pt": cell(0.5, 0.6, 0.7, language="pt")}
        sets["xquad"] = {
            "xquad-de": cell(0.8, 0.7, 0.9, language="de"), "xquad-th": cell(0.6, 0.1, 0.5, language="th"),
            "xquad-x2en.de": cell(0.2, 0.1, 0.3, language="de-en"),
        }  # fmt: skip
        for name, found in sets.items():
            folder = tmp_path / stage / name
            folder.mkdir(parents=True)
            facts = {"name": "mini", "backend": "openvino", "precision": "bfloat16"}
            stored = {"datasets": found, "model": facts, "versions": {"python": "3.11"}}
            (folder / "results.json").write_text(json.dumps(stored))
    args = argparse.Namespace(data="DATA", work=tmp_path, dense="D", out=tmp_path / "results.md")
    results.write(args)
    page = args.out.read_text()
    print(page)
    assert "| large-a | 50 | 0.500 | **0.600** | 0.400 | **0.600** | **0.600** | 0.400 |\n" in page
    assert "| left-out-b | 50 | 0.300 | 0.200 | 0.350 | **0.400** | 0.200 | 0.350 |" in page
    assert "| mean of 2 | 100 | 0.400 | 0.400 | 0.375 | **0.500** | 0.400 | 0.375 |" in page
    assert "| left-out-b | -0.100 [-0.10, +0.20] | +0.050 [+0.01, +0.20] \\* |" in page
    assert "| macro mean | 0.700 | 0.400 | 0.700 |" in page.replace("**", "")
    assert "| worst | 0.600 (th) | 0.100 (th) | 0.500 (th) |" in page
    assert "2,000 pairs were scored in 40 s: 50 a second, openvino in" in page
    assert "Not evaluated yet" not in page
    (tmp_path / "bm25" / "japanese" / "results.json").unlink()
    results.write(args)
    assert "Not evaluated yet: Japanese, a larger corpus.\n" in args.out.read_text()


def test_the_commands_are_those_that_run(results, monkeypatch):
    ran = []
    in_all = len(results.GROUPS) * len(results.STAGES)

    def run(words, **_):
        ran.append(words)
        return subprocess.CompletedProcess(words, returncode=0 if len(ran) <= in_all else 130)

    monkeypatch.setattr(results.subprocess, "run", run)
    args = argparse.Namespace(data="/data", work="/kept", dense="/minilm")
    results.run(args, ["--num-threads", "2"])
    assert len(ran) == in_all
    for words in ran:
        assert words[1:4] == ["-m", "crossrank", "evaluate"]
        assert words[words.index("--num-threads") + 1] == "2"
    covid = ran[1]
    print(" ".join(covid))
    assert covid[covid.index("--first-stage") + 1] == "dense:/minilm"
    assert covid[covid.index("--data") + 1] == "/data/covid-qa"
    assert covid[-1] == "/kept/dense/left-out"
    assert any("xquad:/data/xquad" in words for words in ran)
    assert any("beir:/data/jaquad:ja" in words for words in ran)
    with pytest.raises(SystemExit, match="130"):  # an evaluation that was interrupted ends the whole
        results.run(args, [])
    assert len(ran) == in_all + 1
