import json

import pytest

from crossrank.data.layouts.xquad import POOLS, language_of, pool_of, read
from crossrank.errors import DataError, InputError


@pytest.fixture
def xquad(tmp_path):
    """A pool a kind: German alone, German and Thai questions over English, and over everything."""
    write(tmp_path / "de", queries=["de-q1"], documents=["de-d1"], qrels={"de-q1": ["de-d1"]})
    write(
        tmp_path / "x2en",
        queries=["de-q1", "th-q1"],
        documents=["en-d1"],
        qrels={"de-q1": ["en-d1"], "th-q1": ["en-d1"]},
    )
    both = ["de-d1", "en-d1"]
    write(tmp_path / "mixed", queries=["de-q1", "en-q1"], documents=both, qrels={"de-q1": both, "en-q1": both})
    return tmp_path


def write(folder, *, queries, documents, qrels):
    (folder / "qrels").mkdir(parents=True)
    for name, ids in (("queries.jsonl", queries), ("corpus.jsonl", documents)):
        (folder / name).write_text("".join(json.dumps({"_id": i, "text": f"text of {i}"}) + "\n" for i in ids))
    lines = "".join(f"{q}\t{d}\t1\n" for q, found in qrels.items() for d in found)
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + lines)


def test_35_pools():
    assert len(POOLS) == 12 + 11 + 12
    assert [(language_of(pool), pool_of(pool)) for pool in ("de", "x2en.de", "mixed.de")] == [
        ("de", "xquad"),
        ("de-en", "xquad x2en"),
        ("de-xx", "xquad mixed"),
    ]


@pytest.mark.parametrize(
    ("pool", "qrels", "documents"),
    [
        ("de", {"de-q1": {"de-d1": 1}}, ["de-d1"]),
        ("x2en.th", {"th-q1": {"en-d1": 1}}, ["en-d1"]),
        ("mixed.de", {"de-q1": {"de-d1": 1, "en-d1": 1}}, ["de-d1", "en-d1"]),
    ],
)
def test_questions_of_one_language_over_a_pool(xquad, pool, qrels, documents):
    contents = read(xquad, config=pool, split="dev", revision=None)
    assert contents.qrels == qrels
    assert [document.id for document in contents.documents] == documents
    assert set(qrels) <= set(contents.queries)


def test_what_is_missing_is_named(xquad):
    with pytest.raises(InputError, match=r"no pool 'x2en': there are 'de', 'x2en\.de', 'mixed\.de'"):
        read(xquad, config="x2en", split="dev", revision=None)
    with pytest.raises(DataError, match="zh: no such folder"):
        read(xquad, config="zh", split="dev", revision=None)
