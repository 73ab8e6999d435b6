import gzip
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.data.run_writer import open_run_writer
from crossrank.data.trec import Candidate
from crossrank.errors import DataError

SETTINGS = {"model": "m", "top_k": None}
RUN = {f"q{i}": [Candidate("a", float(i)), Candidate("b", 0.5)] for i in range(12)}


def write(path, *, stop_after=None, settings=SETTINGS, restart=False):
    """Write RUN as a caller does that goes on where it stopped; return how many queries it had to write."""
    written = 0
    with open_run_writer(path, settings=settings, restart=restart) as writer:
        for query_id, candidates in RUN.items():
            if query_id in writer.finished:
                continue
            if written == stop_after:
                raise KeyboardInterrupt
            writer.write(query_id, candidates)
            written += 1
    return written


def interrupt(path, stop_after, **options):
    with pytest.raises(KeyboardInterrupt):
        write(path, stop_after=stop_after, **options)


@pytest.fixture
def part(tmp_path):
    return tmp_path / "out.trec.part"


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "out.trec"
    assert write(path) == 12
    return path.read_bytes()


def test_the_file_appears_at_the_end_and_nothing_else_stays(tmp_path, part, expected):
    path = tmp_path / "out.trec"
    with open_run_writer(path, settings=SETTINGS) as writer:
        writer.write("q0", RUN["q0"])
        assert part.read_bytes() == b"q0 Q0 b 1 0.5 crossrank\nq0 Q0 a 2 0.0 crossrank\n"
        assert not path.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["out.trec"]
    assert expected.startswith(path.read_bytes())


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(tmp_path, expected):
    path = tmp_path / "out.trec"
    interrupt(path, 5)
    assert not path.exists()
    assert write(path) == 8  # the fifth once more: it might have been cut
    assert path.read_bytes() == expected
    assert [file.name for file in tmp_path.iterdir()] == ["out.trec"]


@given(st.integers(min_value=0))
def test_wherever_the_file_was_cut_the_run_is_completed(tmp_path_factory, expected, cut):
    path = tmp_path_factory.mktemp("cut") / "out.trec"
    interrupt(path, 11)
    part = path.with_name("out.trec.part")
    part.write_bytes(part.read_bytes()[: cut % (len(part.read_bytes()) + 1)])
    write(path)
    assert path.read_bytes() == expected


def test_gzip_is_packed_at_the_end_and_resumes_too(tmp_path, expected):
    whole, resumed = tmp_path / "whole.trec.gz", tmp_path / "resumed.trec.gz"
    write(whole)
    interrupt(resumed, 5)
    assert write(resumed) == 8
    assert resumed.read_bytes() == whole.read_bytes()
    assert gzip.decompress(whole.read_bytes()) == expected
    assert len(list(tmp_path.iterdir())) == 2


def test_other_settings_are_refused_and_named(tmp_path, expected):
    path = tmp_path / "out.trec"
    interrupt(path, 5)
    with pytest.raises(DataError, match=r"other settings \(top_k was None, is 10\).*--restart"):
        write(path, settings=SETTINGS | {"top_k": 10})
    assert write(path, settings=SETTINGS | {"top_k": 10}, restart=True) == 12
    assert path.read_bytes() == expected


def test_a_part_without_readable_settings_is_refused(tmp_path):
    path = tmp_path / "out.trec"
    for text in (None, "", "[1]", "{"):
        interrupt(path, 5, restart=True)
        header = tmp_path / "out.trec.part.json"
        header.unlink() if text is None else header.write_text(text)
        with pytest.raises(DataError, match=r"its settings are not readable.*--restart"):
            write(path)


def test_a_damaged_part_is_refused(tmp_path, part):
    interrupt(tmp_path / "out.trec", 5)
    part.write_bytes(b"what is this\n" + part.read_bytes())
    with pytest.raises(DataError, match=r"out\.trec\.part:1: not a line of a run; start over with --restart"):
        write(tmp_path / "out.trec")


def test_nothing_is_left_when_nothing_was_finished(tmp_path):
    interrupt(tmp_path / "out.trec", 0)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_run_gives_an_empty_file(tmp_path):
    with open_run_writer(tmp_path / "out.trec", settings={}):
        pass
    assert (tmp_path / "out.trec").read_bytes() == b""


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        write(tmp_path / "no" / "out.trec")
    with pytest.raises(DataError, match="it is a folder"):
        write(tmp_path)
    (tmp_path / "link.trec").symlink_to(tmp_path / "out.trec")
    for place in (tmp_path / "link.trec", Path(os.devnull)):
        with pytest.raises(DataError, match="it is a link, a pipe or a device: give a plain file"):
            write(place)


def test_two_writers_of_one_output_are_refused(tmp_path, expected):
    path = tmp_path / "out.trec"
    with pytest.raises(KeyboardInterrupt), open_run_writer(path, settings=SETTINGS) as writer:
        writer.write("q0", RUN["q0"])
        writer.write("q1", RUN["q1"])
        for restart in (False, True):
            with pytest.raises(DataError, match=r"out\.trec\.part: another process is writing it: wait until"):
                write(path, restart=restart)
        writer.write("q2", RUN["q2"])
        raise KeyboardInterrupt
    assert write(path) == 10  # q0 and q1 were kept
    assert path.read_bytes() == expected


def test_a_full_disk_is_named_and_what_was_finished_is_kept(tmp_path, part):
    interrupt(tmp_path / "out.trec", 5)
    with pytest.raises(OSError, match="File too large") as raised, limited_file_size(part.stat().st_size + 10):
        write(tmp_path / "out.trec")
    assert raised.value.filename == str(part)
    assert write(tmp_path / "out.trec") == 8


@contextmanager
def limited_file_size(size):
    """Let every write beyond that fail, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
