import gzip
import io
import sys

import pytest

from crossrank.data.text import SkippedLines, read_lines
from crossrank.errors import DataError


def texts(path):
    return [line.text for line in read_lines(path)]


def test_only_a_line_feed_ends_a_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("one\r\ntwo\u2028still two\x0cand\x00on\n\nlast".encode())
    assert texts(path) == ["one\r\n", "two\u2028still two\x0cand\x00on\n", "\n", "last"]


def test_an_empty_file_has_no_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.touch()
    assert texts(path) == []


def test_a_byte_order_mark_is_dropped_at_the_start_only(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n")
    assert texts(path) == ["one\n", "\ufefftwo\n"]


def test_offsets_point_at_the_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffäö\nשלום\n🍞\n".encode())
    data = path.read_bytes()
    for line in read_lines(path):
        assert data[line.offset :].decode().removeprefix("\ufeff").startswith(line.text)


def test_invalid_utf8_names_file_line_and_byte(tmp_path):
    path = tmp_path / "latin1.txt"
    path.write_bytes(b"good\ncaf\xe9 au lait\ngood\n")
    good, bad, after = read_lines(path)
    assert good.error is None and after.error is None
    assert str(bad.error).startswith(f"{path}:2: not valid UTF-8 at byte 8 of the file (0xe9)")
    assert path.read_bytes()[8] == 0xE9
    assert bad.text == "caf\ufffd au lait\n"


def test_utf16_is_recognised(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("hello", encoding="utf-16")
    assert "looks like UTF-16" in str(next(read_lines(path)).error)


def test_gzip_under_another_name_is_recognised(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(b"one"))))
    assert "it is packed with gzip; give the path of a file whose name ends in .gz" in str(next(read_lines("-")).error)


def test_gzip_reads_as_the_plain_file(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert texts(path) == ["one\n", "two\n"]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"plain", lambda data: data[:20] + b"\xff" * 20]
)
def test_a_broken_gzip_file_is_named(tmp_path, damage):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(damage(gzip.compress(bytes(range(256)) * 40)))
    with pytest.raises(DataError, match=r"a\.txt\.gz: broken gzip stream"):
        texts(path)


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ncaf\xe9\n")))
    first, second = read_lines("-")
    assert first.text == "one\n"
    assert str(second.error).startswith("<stdin>:2: not valid UTF-8 at byte 7")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.txt: no such file"):
        texts(tmp_path / "nothing.txt")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        texts(tmp_path)


def test_all_skipped_lines_are_counted_and_the_first_are_kept():
    skipped = SkippedLines()
    for number in range(1, 101):
        skipped.add(DataError("bad", path="a", line=number))
    assert skipped.count == 100
    assert [error.line for error in skipped.errors] == list(range(1, 21))
