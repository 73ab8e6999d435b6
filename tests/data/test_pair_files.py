from __future__ import annotations

import gzip
import json

import pytest

from crossrank.data import pair_files
from crossrank.data.pair_files import PairShard, plan_shards, read_shard
from crossrank.data.text import SkippedLines
from crossrank.errors import DataError
from crossrank.types import Document

ROWS = [
    {"query": "red planet", "document": "Mars", "id": 7},
    {"query": "red planet", "text": "It rusts.", "title": "Mars", "query_id": "q1", "document_id": "d2"},
    {"query": "bread", "document": {"_id": "d3", "text": "flour", "title": ""}},
    {"query": "fluß", "document": "Spree", "query_id": None, "label": 0.5},
    {"query": "empty document", "document": ""},
]


def write(path, rows=ROWS):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def read_all(path, skipped=None):
    return [row for shard in plan_shards(path, skipped=skipped) for row in read_shard(path, shard)]


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.jsonl.gz"])
@pytest.mark.parametrize("rows_per_shard", [1, 2, 5, 100])
def test_every_cut_into_shards_gives_the_same_rows(tmp_path, monkeypatch, name, rows_per_shard):
    monkeypatch.setattr(pair_files, "SHARD_ROWS", rows_per_shard)
    rows = read_all(write(tmp_path / name))
    assert [row.number for row in rows] == [1, 2, 3, 4, 5]
    assert [row.document for row in rows] == [
        Document("Mars"),
        Document("It rusts.", title="Mars"),
        Document("flour"),
        Document("Spree"),
        Document(""),
    ]
    assert [dict(row.ids) for row in rows] == [
        {"id": "7"},
        {"query_id": "q1", "document_id": "d2"},
        {"document_id": "d3"},
        {},
        {},
    ]


@pytest.mark.parametrize("rows_per_shard", [1, 3, 1000])
@pytest.mark.parametrize("rows_per_group", [2, 1000])
def test_parquet_gives_the_rows_of_each_shard_from_their_row_groups(
    tmp_path, monkeypatch, rows_per_shard, rows_per_group
):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.setattr(pair_files, "SHARD_ROWS", rows_per_shard)
    rows = [{"query": f"q {i}", "text": f"d {i}", "id": i} for i in range(1500 if rows_per_shard > 1 else 11)]
    path = tmp_path / "pairs.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=rows_per_group)
    if rows_per_shard > 1:
        shards = list(plan_shards(path))
        shard = shards[-1] if rows_per_shard == 1000 else shards[411]
        read = read_shard(path, shard)
        assert [row.query for row in read] == [f"q {i}" for i in range(shard.first - 1, shard.last)]
        assert sum(shard.num_pairs for shard in shards) == 1500
        return
    assert [(row.number, row.query, row.document.text, row.ids["id"]) for row in read_all(path)] == [
        (i + 1, f"q {i}", f"d {i}", str(i)) for i in range(11)
    ]


def test_large_texts_make_smaller_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(pair_files, "SHARD_CHARACTERS", 12)
    path = write(
        tmp_path / "pairs.jsonl", [{"query": "q", "document": text} for text in ("x" * 50, "abc", "defg", "h")]
    )
    assert [(shard.first, shard.last) for shard in plan_shards(path)] == [(1, 1), (2, 4)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "malformed JSON"),
        ("[1]", "expected a JSON object"),
        ('{"document": "x"}', "no 'query' among the fields ('document')"),
        ('{"query": " ", "document": "x"}', "'query' is empty"),
        ('{"query": 3, "document": "x"}', "'query' must be a string, not a number"),
        ('{"query": "x"}', "no 'document' (or 'text', or 'image')"),
        ('{"query": "x", "document": ["y"]}', "'document' must be a string, not a list"),
        ('{"query": "x", "document": {"title": "y"}}', "no 'text' among the fields"),
        ('{"query": "x", "text": "y", "title": 1}', "'title' must be a string"),
        ('{"query": "x", "text": "y", "image": {"bytes": "z"}}', "'image' must be a string, not an object"),
        ('{"query": "x", "image": ""}', "no 'document' (or 'text', or 'image')"),
        ('{"query": "x", "text": "y", "query_id": [1]}', "'query_id' must be a string or a whole number, not a list"),
    ],
)
def test_a_bad_line_is_named_or_left_out(tmp_path, line, message):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"query": "a", "document": "b"}\n\n' + line + '\n{"query": "c", "document": "d"}\n')
    with pytest.raises(DataError) as caught:
        list(plan_shards(path))
    assert str(caught.value).startswith(f"{path}:3: ") and message in str(caught.value)
    skipped = SkippedLines()
    assert [row.number for row in read_all(path, skipped)] == [1, 4]
    assert skipped.count == 1


def write_parquet(path, rows):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(("name", "write"), [("pairs.jsonl", write), ("pairs.parquet", write_parquet)])
def test_documents_have_the_images_that_their_rows_name(tmp_path, name, write):
    data_url = "data:image/png;base64,aaaa"
    rows = [
        {"query": "q", "text": "a page", "image": "pages/1.png"},
        {"query": "q", "text": None, "image": data_url},
        {"query": "q", "text": "no page", "image": None},
    ]
    documents = [row.document for row in read_all(write(tmp_path / name, rows))]
    assert [document.text for document in documents] == ["a page", "", "no page"]
    assert [document.image for document in documents] == [tmp_path / "pages/1.png", data_url, None]
    nested = [{"query": "q", "document": {"image": "2.png", "title": "t", "_id": "d"}}]
    [row] = read_all(write(tmp_path / f"nested-{name}", nested))
    assert (row.document.image, row.document.title, row.ids) == (tmp_path / "2.png", "t", {"document_id": "d"})


def test_images_in_the_rows_make_smaller_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(pair_files, "SHARD_CHARACTERS", 100)
    rows = [{"query": "q", "image": "data:image/png;base64," + "a" * 40}] * 4
    assert [shard.num_pairs for shard in plan_shards(write(tmp_path / "pairs.jsonl", rows))] == [1, 1, 1, 1]


def test_files_that_are_no_pairs(tmp_path):
    with pytest.raises(DataError, match="unknown kind of file"):
        list(plan_shards(tmp_path / "pairs.csv"))
    with pytest.raises(DataError, match="no such file"):
        list(plan_shards(tmp_path / "pairs.jsonl"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        list(plan_shards(tmp_path / "bad.parquet"))
    assert list(plan_shards(write(tmp_path / "empty.jsonl", []))) == []


def test_a_file_that_changes_under_the_reader_is_an_error(tmp_path):
    path = write(tmp_path / "pairs.jsonl")
    shards = list(plan_shards(path))
    assert shards == [PairShard(0, 1, 5, 0, 5)]
    write(path, ROWS[:3])
    with pytest.raises(DataError, match="was changed while it was scored"):
        read_shard(path, shards[0])
