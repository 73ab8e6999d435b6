"""The folder of a report: made when there is something to write, kept when there is something in it."""

import pytest


@pytest.mark.parametrize("command", ["evaluate", "calibrate", "far-relevant", "bench"])
def test_bad_data_leaves_no_folder(crossrank, exported, make_folder, tmp_path, command):
    folder, out = make_folder("words"), tmp_path / "new" / "out"
    with (folder / "qrels" / "dev.tsv").open("a") as file:
        file.write("q1\tgood99\t1\n")
    result = crossrank(command, "-m", exported, "-d", folder, "-o", out)
    print(result.stderr)
    assert result.exit_code == 2
    assert "dev.tsv:8: document 'good99' is not in the corpus" in result.stderr
    assert not out.parent.exists()


def test_a_folder_that_was_there_stays(crossrank, exported, make_folder, tmp_path):
    folder, out = make_folder("words"), tmp_path / "out"
    out.mkdir()
    (folder / "queries.jsonl").write_text("no JSON\n")
    assert crossrank("evaluate", "-m", exported, "-d", folder, "-o", out).exit_code == 2
    assert list(out.iterdir()) == []


def test_an_interrupted_evaluation_keeps_what_is_scored(crossrank, exported, make_folder, tmp_path, monkeypatch):
    from crossrank.inference.openvino_engine import OpenVINOEngine

    out = tmp_path / "out"
    command = ["evaluate", "-m", exported, "-d", make_folder("words"), "-o", out]

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(OpenVINOEngine, "logits", interrupt)
        result = crossrank(*command)
    print(result.stderr)
    assert result.exit_code == 130
    assert f"what is scored is kept in {out}" in result.stderr
    assert [path.name for path in out.iterdir()] == ["runs"]
    assert crossrank(*command).exit_code == 0


def test_a_file_is_no_folder(crossrank, exported, make_folder, tmp_path):
    out = tmp_path / "out"
    out.write_text("mine")
    result = crossrank("evaluate", "-m", exported, "-d", make_folder("words"), "-o", out)
    assert result.exit_code == 2
    assert "out: is a file: give a folder to write the report into" in result.stderr
    assert out.read_text() == "mine"
