import pytest

from crossrank.data.tables import Tables
from crossrank.errors import DataError


def test_the_card_decides_where_a_config_lies(tmp_path):
    (tmp_path / "data").mkdir()
    for i, text in enumerate(("a", "b")):
        (tmp_path / "data" / f"part-{i}.jsonl").write_text(f'{{"x": "{text}"}}\n')
    (tmp_path / "data" / "more.csv").write_text("x,y\nc,1\n")
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: listed\n  data_files:\n  - split: dev\n    path: [data/part-*.jsonl, data/more.csv]\n"
        "- config_name: short\n  data_files: data/part-0.jsonl\n"
        "- config_name: nothing\n---\n"
    )
    tables = Tables(tmp_path)
    assert [row.text("x") for row in tables.rows("listed", "dev")] == ["c", "a", "b"], "in the order of the names"
    assert [row.text("x") for row in tables.rows("short", "train")] == ["a"]
    assert not tables.splits("nothing")
    with pytest.raises(DataError, match=f"{tmp_path}: no split 'dev' in 'absent': it has no files"):
        list(tables.rows("absent", "dev"))


def test_a_readme_without_a_head_states_nothing(tmp_path):
    (tmp_path / "README.md").write_text("# A data set\n\nIts tables lie beside this file.\n")
    (tmp_path / "corpus.jsonl").write_text('{"id": "d"}\n')
    assert [row.key("id") for row in Tables(tmp_path).rows("corpus", "train")] == ["d"]


def test_rows_know_their_place(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"id": 7, "n": 2.5}\n\n{"id": true}\n{"id": ""}\n')
    rows = list(Tables(tmp_path).rows("corpus", "any"))
    assert rows[0].key("id") == "7"
    assert rows[0].first("x", "n") == 2.5
    for row, line in ((rows[1], 3), (rows[2], 4)):
        with pytest.raises(DataError, match=rf"corpus\.jsonl:{line}: no id under 'id' or 'x'"):
            row.key("id", "x")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("README.md", "---\nconfigs: [1]\n---\n", "README.md: its head is no readable dataset card"),
        ("README.md", "---\nconfigs: [}\n---\n", "README.md: its head is no readable dataset card"),
        ("corpus.jsonl", "{", r"corpus\.jsonl:1: malformed JSON"),
        ("corpus.csv", "id,text\nd1\n", r"corpus\.csv:2: 1 fields where the header has 2"),
        ("corpus.csv", 'id,text\nd1,"open\n', r"corpus\.csv:2: malformed row"),
        ("corpus.csv", b"id,text\nd1,caf\xe9\n", r"corpus\.csv:2: not valid UTF-8"),
        ("corpus.parquet", "PAR1", r"corpus\.parquet: not a readable Parquet file"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        list(Tables(tmp_path).rows("corpus", "train"))


def test_a_source_that_is_nowhere(tmp_path):
    for source in (tmp_path / "absent", "not a/name/at all"):
        with pytest.raises(DataError, match=r"is neither a folder on this machine nor a hub name"):
            Tables(source)


def test_the_hub_is_asked_for_the_files_of_the_config_alone(tmp_path, monkeypatch):
    asked = []

    def snapshot_download(name, *, repo_type, revision, allow_patterns):
        asked.append((name, repo_type, revision, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: a\n  data_files:\n  - {split: dev, path: a/dev-*}\n---\n"
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "dev-00000-of-00001.jsonl").write_text('{"x": "1"}\n')
    assert [row.text("x") for row in Tables("org/name", revision="abc").rows("a", "dev")] == ["1"]
    assert asked == [
        ("org/name", "dataset", "abc", ["README.md"]),
        ("org/name", "dataset", "abc", ["a/dev-*"]),
    ]


def test_a_field_of_a_text_table_may_be_as_long_as_a_document(tmp_path):
    (tmp_path / "corpus.tsv").write_text("id\ttext\nd1\t" + "word " * 40_000 + "\n")
    (row,) = Tables(tmp_path).rows("corpus", "any")
    assert len(row.text("text")) == 200_000
