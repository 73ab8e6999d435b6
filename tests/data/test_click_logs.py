from __future__ import annotations

import json

import pytest

from crossrank.data.click_logs import Impression, ResultPage, read_click_log
from crossrank.data.text import SkippedLines
from crossrank.errors import DataError

PAGE = ResultPage(
    "red planet",
    (Impression("d3", 1, False), Impression("d1", 2, True, 41.5), Impression("d7", 3, False)),
    query_id="q1",
    session="s1",
)


def test_one_row_a_page(tmp_path):
    log = tmp_path / "log.jsonl"
    row = {
        "session": "s1", "query_id": "q1", "query": "red planet", "documents": ["d3", "d1", "d7"],
        "clicks": [{"id": "d1", "dwell_s": 41.5}],
    }  # fmt: skip
    log.write_text(json.dumps(row) + "\n")
    assert list(read_click_log(log)) == [PAGE]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_one_row_a_document(tmp_path, kind):
    log = tmp_path / f"log.{kind}"
    columns = ["session", "query_id", "query", "document", "position", "clicked", "dwell_s"]
    rows = [
        ["s1", "q1", "red planet", "d1", 2, 1, 41.5],
        ["s1", "q1", "red planet", "d3", 1, 0, None],
        ["s1", "q1", "red planet", "d7", 3, 0, None],
        ["s2", "q1", "red planet", "d1", 1, 1, None],
    ]
    if kind == "parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({name: [row[i] for row in rows] for i, name in enumerate(columns)}), log)
    elif kind == "jsonl":
        log.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    else:
        mark = "\t" if kind == "tsv" else ","
        lines = [columns, *([("" if cell is None else str(cell)) for cell in row] for row in rows)]
        log.write_text("".join(mark.join(line) + "\n" for line in lines))
    first, second = read_click_log(log)
    assert first == PAGE
    assert second == ResultPage("red planet", (Impression("d1", 1, True),), query_id="q1", session="s2")


def test_without_sessions_a_page_begins_at_position_1(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("query,document,position,clicked\nmars,a,1,0\nmars,b,2,1\nmars,a,1,1\n")
    assert [len(page.impressions) for page in read_click_log(log)] == [2, 1]


def test_a_session_may_ask_the_same_query_again_at_once(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("session,query,document,position,clicked\ns,mars,b,2,1\ns,mars,a,1,0\ns,mars,a,1,1\ns,mars,b,2,0\n")
    first, second = read_click_log(log)
    assert [shown.clicked for shown in first.impressions] == [False, True]
    assert [shown.clicked for shown in second.impressions] == [True, False]


def test_a_parquet_struct_without_a_position_counts_from_the_top(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    documents = [[{"id": "a", "position": None}, {"id": "b", "position": None}], [{"id": "a", "position": 3}]]
    pq.write_table(pa.table({"query": ["mars", "mars"], "documents": documents}), tmp_path / "log.parquet")
    pages = list(read_click_log(tmp_path / "log.parquet"))
    assert [[shown.position for shown in page.impressions] for page in pages] == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"query": "", "documents": ["a"]}, "'query' must be a text"),
        ({"query": "mars", "documents": []}, "no document was shown"),
        ({"query": "mars", "documents": ["a", "a"]}, "document 'a' comes twice"),
        ({"query": "mars", "documents": ["a"], "clicks": ["b"]}, "'b' was clicked, but is not among"),
        ({"query": "mars", "documents": "a"}, "'documents' must be a list, not a string"),
        ({"query": "mars", "documents": [{"id": "a", "position": 0}]}, "'position' must be a whole number from 1"),
        # A time in the wrong column, which would take a place in memory for each position above it.
        (
            {"query": "mars", "documents": [{"id": "a", "position": 1764453600}]},
            "'position' must be a whole .* to 10000",
        ),
        ({"query": "mars", "documents": [{"id": "a", "position": 10**30}]}, "'position' must be a whole number from 1"),
        ({"query": "mars", "documents": ["a"], "clicks": [{"id": "a", "dwell_s": -1}]}, "'dwell_s' must be"),
    ],
)
def test_a_bad_row_is_named_or_skipped(tmp_path, row, says):
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"query": "venus", "documents": ["v"]}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=says) as caught:
        list(read_click_log(log))
    assert caught.value.line == 2
    skipped = SkippedLines()
    assert [page.query for page in read_click_log(log, skipped=skipped)] == ["venus"]
    assert skipped.count == 1


def test_a_table_without_the_columns_is_refused(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("question,doc\nmars,a\n")
    with pytest.raises(DataError, match="has a column 'query' and 'document'"):
        list(read_click_log(log))
    (tmp_path / "empty.jsonl").touch()
    assert list(read_click_log(tmp_path / "empty.jsonl")) == []
