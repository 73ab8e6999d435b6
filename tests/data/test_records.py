import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.data.records import csv_documents, document_from_record, jsonl_documents, parquet_documents
from crossrank.data.text import SkippedLines, decode_lines
from crossrank.errors import DataError, InputError, MissingExtra
from crossrank.types import Document


def lines(text):
    return decode_lines(io.BytesIO(text.encode() if isinstance(text, str) else text), "f")


def jsonl(text, **options):
    return list(jsonl_documents(lines(text), "f.jsonl", **options))


def table(text, **options):
    return list(csv_documents(lines(text), "f.csv", **options))


def test_fields_of_a_record():
    assert jsonl(
        '{"id": 7, "title": "T", "text": "body", "score": 1.5, "lang": "en"}\n\n{"_id": "d8", "text": ""}\n'
    ) == [
        Document("body", title="T", id="7", metadata={"score": 1.5, "lang": "en"}),
        Document("", id="d8"),
    ]


def test_a_metadata_object_is_taken_entry_by_entry():
    assert document_from_record({"text": "x", "title": "", "metadata": {"a": 1, "b": 2}, "b": 3}) == Document(
        "x", metadata={"a": 1, "b": 3}
    )
    assert document_from_record({"text": "x", "metadata": "note"}).metadata == {"metadata": "note"}


def test_another_field_can_hold_the_text():
    assert jsonl('{"body": "b", "text": "t"}', text_column="body") == [Document("b", metadata={"text": "t"})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "x"', r"f\.jsonl:2: malformed JSON: .* at column 13"),
        ("not json", r"f\.jsonl:2: malformed JSON"),
        ("[1, 2]", r"f\.jsonl:2: expected a JSON object, found a list"),
        ("null", r"f\.jsonl:2: expected a JSON object, found null"),
        ('{"title": "x"}', r"f\.jsonl:2: no 'text' among the fields \('title'\)"),
        ("{}", r"f\.jsonl:2: no 'text' among the fields \(there are none\)"),
        ('{"text": 5}', r"f\.jsonl:2: 'text' must be a string, not a number"),
        ('{"text": null}', r"f\.jsonl:2: 'text' must be a string, not null"),
        ('{"text": "x", "title": ["y"]}', r"f\.jsonl:2: 'title' must be a string, not a list"),
        ('{"text": "x", "id": true}', r"f\.jsonl:2: the id must be a string or a whole number, not a boolean"),
        ('{"text": "x", "id": 1.5}', r"f\.jsonl:2: the id must be a string or a whole number, not 1\.5"),
        ('{"text": "x", "score": NaN}', r"f\.jsonl:2: malformed JSON: NaN is not a JSON value"),
        (r'{"text": "half \ud800 pair"}', r"f\.jsonl:2: a lone surrogate"),
        (r'{"text": "x", "deep": {"a": ["\uDFFF"]}}', r"f\.jsonl:2: a lone surrogate"),
        ('{"text": ' + "[" * 100_000, r"f\.jsonl:2: malformed JSON"),
        ('{"text": "x", "n": ' + "9" * 5000 + "}", r"f\.jsonl:2: malformed JSON"),
        (b'{"text": "caf\xe9"}', r"f:2: not valid UTF-8 at byte 30"),
    ],
)
def test_a_bad_line_is_named_or_skipped(line, message):
    line = line.encode() if isinstance(line, str) else line
    text = b'{"text": "good"}\n' + line + b'\n{"text": "after"}\n'
    with pytest.raises(DataError, match=message):
        jsonl(text)
    skipped = SkippedLines()
    assert [document.text for document in jsonl(text, skipped=skipped)] == ["good", "after"]
    assert skipped.count == 1 and skipped.errors[0].line == 2


def test_a_whole_surrogate_pair_is_text():
    assert jsonl(r'{"text": "\ud83c\udf5e"}') == [Document("🍞")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
reserved = {"text", "title", "id", "_id", "metadata"}


@given(
    st.builds(
        Document,
        st.text(),
        title=st.none() | st.text(min_size=1),
        id=st.none() | st.text(min_size=1),
        metadata=st.dictionaries(st.text().filter(lambda key: key not in reserved), json_values),
    ),
    st.booleans(),
)
def test_a_document_survives_jsonl(document, ascii_only):
    record = {"text": document.text, "title": document.title, "id": document.id, **document.metadata}
    assert jsonl(json.dumps(record, ensure_ascii=ascii_only)) == [document]


def test_csv_with_quoted_line_breaks_and_nul():
    text = 'id,text,title,lang\n1,"two\nlines, ""quoted""",T,en\n\n2,nul \x00 inside,,\r\n'
    assert table(text) == [
        Document('two\nlines, "quoted"', title="T", id="1", metadata={"lang": "en"}),
        Document("nul \x00 inside", id="2", metadata={"lang": ""}),
    ]


def test_a_document_of_three_megabytes():
    long = "שלום 🍞 " * 400_000
    assert len(long.encode()) > 3_000_000
    assert table(f"text\n{long}\n") == [Document(long)]
    assert jsonl(json.dumps({"text": long})) == [Document(long)]


def test_tsv_and_the_text_column():
    assert table("_id\tbody\nd1\ta, b\n", delimiter="\t", text_column="body") == [Document("a, b", id="d1")]


def test_a_missing_text_column_lists_the_columns():
    with pytest.raises(DataError, match=r"f\.csv:1: no column 'text'.*--text-column.*'id', 'body'"):
        table("id,body\n1,x\n", skipped=SkippedLines())


def test_a_repeated_column_is_an_error():
    with pytest.raises(DataError, match=r"f\.csv:1: two columns are named 'text'"):
        table("text,text\n1,2\n")


def test_an_empty_table_has_no_documents():
    assert table("") == []
    assert table("text\n") == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"1,x,y", r"f\.csv:4: 3 fields where the header has 2"),
        (b"1", r"f\.csv:4: 1 fields where the header has 2"),
        (b'1,"x"y', r"f\.csv:4: malformed row"),
        (b'1,"x\ncaf\xe9\n"', r"f:5: not valid UTF-8 at byte 24"),
    ],
)
def test_a_bad_row_is_named_by_its_first_line_or_skipped(row, message):
    text = b'id,text\n0,"a\nb"\n' + row + b"\n2,after\n"
    with pytest.raises(DataError, match=message):
        table(text)
    skipped = SkippedLines()
    assert [document.id for document in table(text, skipped=skipped)] == ["0", "2"]
    assert skipped.count == 1


def test_a_quote_that_is_never_closed_does_not_swallow_the_rest_silently():
    with pytest.raises(DataError, match=r"f\.csv:3: malformed row: unexpected end of data"):
        table('text\ngood\n"open\nnext\nlast\n')


@given(st.lists(st.tuples(st.text(), st.text(min_size=1)), min_size=1))
def test_what_the_csv_module_writes_is_read_back(rows):
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("text", "id"), *rows])
    assert table(file.getvalue()) == [Document(text, id=document_id) for text, document_id in rows]


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from datetime import date

    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    columns = {
        "text": ["one", None, "three"],
        "id": [1, 2, 3],
        "score": [0.5, 1.5, float("nan")],
        "day": [date(2026, 1, 2)] * 3,
        "tags": [["a"], [], None],
    }
    parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(DataError, match=r"a\.parquet: row 2: 'text' must be a string, not null"):
        list(parquet_documents(path))
    skipped = SkippedLines()
    assert list(parquet_documents(path, skipped=skipped)) == [
        Document("one", id="1", metadata={"score": 0.5, "day": "2026-01-02", "tags": ["a"]}),
        Document("three", id="3", metadata={"score": None, "day": "2026-01-02", "tags": None}),
    ]
    with pytest.raises(DataError, match=r"a\.parquet: no column 'body'"):
        list(parquet_documents(path, text_column="body"))


@pytest.fixture
def write_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def write(columns):
        path = tmp_path / "a.parquet"
        parquet.write_table(pyarrow.table(columns), path)
        return path

    return write


def test_parquet_text_that_is_not_utf8_is_named_or_skipped(write_parquet):
    pyarrow = pytest.importorskip("pyarrow")
    text = pyarrow.array([b"one", b"caf\xe9", b"three"], pyarrow.binary()).view(pyarrow.string())
    path = write_parquet({"id": ["1", "2", "3"], "text": text})
    with pytest.raises(DataError, match=r"a\.parquet: row 2: 'text' is not valid UTF-8 at byte 3 \(0xe9\)"):
        list(parquet_documents(path))
    skipped = SkippedLines()
    assert [document.id for document in parquet_documents(path, skipped=skipped)] == ["1", "3"]
    assert skipped.count == 1


def test_parquet_times_that_python_does_not_know_are_written_out(write_parquet):
    pyarrow = pytest.importorskip("pyarrow")
    times = pyarrow.array([0, 10**18], pyarrow.timestamp("us"))
    documents = list(parquet_documents(write_parquet({"text": ["a", "b"], "at": times})))
    assert [document.metadata["at"] for document in documents] == [
        "1970-01-01 00:00:00",
        f"<value out of range: {10**18}>",
    ]


def test_parquet_bytes_are_no_text(write_parquet):
    with pytest.raises(DataError, match=r"a\.parquet: row 1: 'text' must be a string, not bytes"):
        list(parquet_documents(write_parquet({"text": [b"a"]})))


def test_a_broken_parquet_file_is_named(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"a\.parquet: not a readable Parquet file"):
        list(parquet_documents(path))
    with pytest.raises(DataError, match=r"b\.parquet: no such file"):
        list(parquet_documents(tmp_path / "b.parquet"))


def test_parquet_without_pyarrow_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'crossrank\[parquet\]'"):
        list(parquet_documents(tmp_path / "a.parquet"))


def test_wrong_records_are_input_errors():
    with pytest.raises(InputError, match="no 'text'"):
        document_from_record({"Text": "x"})
