import json

import pytest

from crossrank.data.trec import read_run

WORDS = ("planet", "river", "bread", "password", "search", "city")


@pytest.fixture
def folder(tmp_path, write_jsonl):
    folder = tmp_path / "words"
    (folder / "qrels").mkdir(parents=True)
    write_jsonl(folder / "queries.jsonl", *({"_id": f"q{i}", "text": f"the {w} thing"} for i, w in enumerate(WORDS)))
    texts = [f"All about the {w}, and how it is made." for w in WORDS]
    texts += [f"Some other thing of number {i}, nothing more." for i in range(60)]
    write_jsonl(folder / "corpus.jsonl", *({"_id": f"d{i}", "text": text} for i, text in enumerate(texts)))
    (folder / "qrels" / "test.tsv").write_text("".join(f"q{i}\td{i}\t1\n" for i in range(len(WORDS))))
    return folder


def test_a_curve_for_each_way_to_read(crossrank, exported, folder, tmp_path):
    out = tmp_path / "out"
    command = ["far-relevant", "-m", exported, "-d", folder, "-o", out, "--positions", "0,1"]
    command += ["--words", "200", "--candidates", "3", "--num-queries", "3"]
    result = crossrank(*command)
    print(result.stdout, result.stderr)
    assert result.exit_code == 0, result.stderr
    found = json.loads((out / "far_relevant.json").read_text())
    curves = found["nDCG@10"]
    assert set(curves) == {"no reranking (chance)", "truncate", "chunk"}
    assert all(list(points) == ["0.0", "1.0"] for points in curves.values())
    assert (found["words"], found["candidates"], found["model"]) == (200, 3, "tiny")
    runs = {path.parent.name[-4:] + path.name[5:-8]: list(read_run(path)) for path in out.glob("runs/*at-*/*.gz")}
    print(list(runs))
    assert len(runs) == 4
    for position in ("at-0", "at-1"):
        cut, whole = (
            {(q.query_id, c.document_id): c.score for q in runs[f"{position}{mode}"] for c in q.candidates}
            for mode in ("truncate", "chunk")
        )
        assert len(cut) == 9
        # The best window of a document, of which the beginning is one.
        assert all(whole[pair] > score - 0.2 for pair, score in cut.items())
        assert any(whole[pair] > score + 0.2 for pair, score in cut.items())
    for part in ("position", "truncate", "chunk", "no reranking (chance)"):
        assert part in result.stdout
    times = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*")}
    assert crossrank(*command).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*")} == times


def test_positions_that_are_none(crossrank, exported, folder, tmp_path):
    command = ["far-relevant", "-m", exported, "-d", folder, "-o", tmp_path / "out", "--positions"]
    for positions, message in (("a,b", "are numbers with commas"), ("0,2", "a position lies between 0")):
        result = crossrank(*command, positions, "--candidates", "3")
        assert result.exit_code == 2
        assert message in result.stderr
