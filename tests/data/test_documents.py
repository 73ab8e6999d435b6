import gzip
import io
import json
import os
import sys
import threading

import pytest

from crossrank.data.documents import read_documents
from crossrank.data.text import SkippedLines
from crossrank.errors import DataError


def ids(*paths, **options):
    return [document.id for document in read_documents(paths, **options)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    files = {
        "z.jsonl": '{"id": "z", "text": "x"}\n',
        "a.csv": "id,text\na,x\n",
        "a.tsv.gz": "id\ttext\nat\tx\n",
        "b/deep/Notes.TXT": "one\n\ntwo\n",
        "b/guide.md": "# Guide\n\ntext\n",
        "b/empty.md": "",
        "b/picture.svg": "of no known kind",
        "b/scan.PNG": "not looked into",
        "b/.hidden.md": "hidden",
        ".git/config.txt": "hidden",
    }
    for name, text in files.items():
        data = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return tmp_path


def test_a_folder_is_read_in_sorted_order_without_hidden_files(folder):
    assert ids(folder) == [
        "a",
        "at",
        f"{folder}/b/deep/Notes.TXT#1",
        f"{folder}/b/deep/Notes.TXT#2",
        f"{folder}/b/guide.md#1",
        f"{folder}/b/scan.PNG",
        "z",
    ]


def test_paths_keep_their_order_and_ids_may_repeat(folder):
    assert ids(folder / "z.jsonl", folder / "a.csv", folder / "z.jsonl") == ["z", "a", "z"]


def test_a_folder_without_known_files_is_an_error(tmp_path):
    (tmp_path / "a.svg").touch()
    with pytest.raises(DataError, match=r"no files of a known kind in this folder \(\.jsonl, "):
        ids(tmp_path)


def test_pipes_in_a_folder_are_passed_over(folder):
    os.mkfifo(folder / "waiting.txt")
    assert "z" in ids(folder)


def test_links_in_a_folder(folder):
    (folder / "b" / "up").symlink_to(folder)
    (folder / "linked.jsonl").symlink_to(folder / "z.jsonl")
    assert ids(folder).count("z") == 2
    (folder / "gone.txt").symlink_to(folder / "nowhere.txt")
    with pytest.raises(DataError, match=r"gone\.txt: no such file"):
        ids(folder)


def test_unknown_and_missing_files(tmp_path):
    (tmp_path / "a.docx").touch()
    with pytest.raises(DataError, match=r"a\.docx: unknown kind of file; known are \.jsonl"):
        ids(tmp_path / "a.docx")
    for name in ("a.jsonl", "a.docx.bak", "nothing"):
        with pytest.raises(DataError, match=f"{name}: no such file"):
            ids(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_and_folders(folder):
    (folder / "a.csv").chmod(0)
    with pytest.raises(DataError, match=r"a\.csv: cannot be read: Permission denied"):
        ids(folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('\n  {"id": "a", "text": "x"}\n{"id": "b", "text": "y"}\n', ["a", "b"]),
        ("one\n\n{two}\n", ["<stdin>#1", "<stdin>#2"]),
        ("", []),
        ("\n\n", []),
    ],
)
def test_standard_input_is_jsonl_where_it_starts_with_an_object(monkeypatch, text, expected):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert ids("-") == expected


def test_a_pipe_reads_like_standard_input(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=('{"id": "a", "text": "x"}\n',))
    writer.start()
    assert ids(pipe) == ["a"]
    writer.join()


def test_ten_thousand_documents(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"id": i, "text": f"t{i}"}) + "\n" for i in range(10_000)))
    assert ids(path) == [str(i) for i in range(10_000)]


def test_bad_lines_of_all_files_are_counted_together(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "a", "text": "x"}\n{"text": 5}\n')
    (tmp_path / "b.csv").write_bytes(b"id,text\nb,caf\xe9\nc,x\n")
    (tmp_path / "c.txt").write_bytes(b"good\n\n\xff\n")
    skipped = SkippedLines()
    assert ids(tmp_path, skipped=skipped) == ["a", "c", f"{tmp_path}/c.txt#1"]
    assert [(error.path.rpartition("/")[2], error.line) for error in skipped.errors] == [
        ("a.jsonl", 2),
        ("b.csv", 2),
        ("c.txt", 3),
    ]


def test_a_file_name_that_is_not_utf8_gives_a_readable_id(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")
    with open(path, "w") as file:  # noqa: PTH123 - the point is the raw name
        file.write("text")
    assert ids(path) == [f"{tmp_path}/caf\ufffd.txt#1"]


def test_a_row_with_an_image_may_lack_its_text(tmp_path):
    rows = [
        {"id": "both", "text": "a text", "image": "pages/1.png"},
        {"id": "alone", "image": "pages/2.png", "page": 2},
        {"id": "inside", "image": "data:image/png;base64,AAAA"},
        {"id": "remote", "text": "a product", "image": "https://example.com/3.png"},
        {"id": "none", "text": "a text", "image": ""},
    ]
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {document.id: document for document in read_documents([path])}
    assert {document_id: document.image for document_id, document in found.items()} == {
        "both": tmp_path / "pages" / "1.png",
        "alone": tmp_path / "pages" / "2.png",
        "inside": "data:image/png;base64,AAAA",
        "remote": "https://example.com/3.png",
        "none": None,
    }
    assert found["alone"].text == "" and found["alone"].metadata == {"image": "pages/2.png", "page": 2}
    assert found["inside"].metadata == {}, "nobody wants to see that again"
    path.write_text('{"id": "nothing"}\n')
    with pytest.raises(DataError, match="no 'text'"):
        list(read_documents([path]))
