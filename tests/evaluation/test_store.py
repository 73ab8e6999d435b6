import json

import pytest

from crossrank.data.trec import Candidate
from crossrank.errors import DataError
from crossrank.evaluation.store import RunStore, file_name, write_text

SETTINGS = {"model": "m", "depth": 10}


def write(store, *, queries=("q1", "q2"), settings=SETTINGS, seconds=1.5):
    with store.writing("data/set", "a model", settings) as (writer, clock):
        for query_id in queries:
            if query_id not in writer.finished:
                clock.add(2, seconds)
                writer.write(query_id, [Candidate("d1", 0.25), Candidate("d2", 1.5)])


def test_a_run_comes_back_as_it_was_written(tmp_path):
    store = RunStore(tmp_path)
    assert store.load("data/set", "a model", SETTINGS) is None
    write(store)
    found = RunStore(tmp_path).load("data/set", "a model", SETTINGS)
    assert found.run == {query: (Candidate("d2", 1.5), Candidate("d1", 0.25)) for query in ("q1", "q2")}
    assert (found.pairs, found.seconds) == (4, 3.0)
    assert sorted(path.name for path in (tmp_path / "data-set").iterdir()) == [
        "a-model.trec.gz", "a-model.trec.gz.json",
    ]  # fmt: skip


def test_an_interrupted_run_goes_on_and_its_time_adds_up(tmp_path):
    with pytest.raises(KeyboardInterrupt), RunStore(tmp_path).writing("s", "m", SETTINGS) as (writer, clock):
        for query_id in ("q1", "q2", "q3"):
            clock.add(2, 1.0)
            writer.write(query_id, [Candidate("d1", 1.0)])
        raise KeyboardInterrupt
    store = RunStore(tmp_path)
    assert store.load("s", "m", SETTINGS) is None
    with store.writing("s", "m", SETTINGS) as (writer, clock):
        assert list(writer.finished) == ["q1", "q2"]  # the last may have been cut
        clock.add(2, 0.5)
        writer.write("q3", [Candidate("d1", 1.0)])
    found = store.load("s", "m", SETTINGS)
    assert list(found.run) == ["q1", "q2", "q3"]
    assert (found.pairs, found.seconds) == (8, 3.5)


def test_other_settings_are_an_error_until_restart(tmp_path):
    write(RunStore(tmp_path))
    changed = SETTINGS | {"depth": 20}
    with pytest.raises(DataError, match=r"a-model\.trec\.gz: was made with other settings \(depth was 10, is 20\)"):
        RunStore(tmp_path).load("data/set", "a model", changed)
    store = RunStore(tmp_path, restart=True)
    assert store.load("data/set", "a model", changed) is None
    write(store, settings=changed)
    assert store.load("data/set", "a model", changed) is not None  # what this store wrote stays


def test_restart_drops_what_was_interrupted(tmp_path):
    with pytest.raises(KeyboardInterrupt), RunStore(tmp_path).writing("s", "m", SETTINGS) as (writer, clock):
        clock.add(2, 1.0)
        writer.write("q1", [Candidate("d1", 1.0)])
        writer.write("q2", [Candidate("d1", 1.0)])
        raise KeyboardInterrupt
    with RunStore(tmp_path, restart=True).writing("s", "m", SETTINGS | {"depth": 3}) as (writer, clock):
        assert (list(writer.finished), clock.seconds) == ([], 0.0)
        writer.write("q1", [Candidate("d1", 1.0)])


def test_a_broken_record_is_an_error(tmp_path):
    store = RunStore(tmp_path)
    write(store)
    record = tmp_path / "data-set" / "a-model.trec.gz.json"
    record.write_text("{")
    with pytest.raises(DataError, match="not readable"):
        store.load("data/set", "a model", SETTINGS)
    record.write_text(json.dumps({"settings": SETTINGS}))
    assert store.load("data/set", "a model", SETTINGS).seconds == 0.0


def test_file_names():
    assert [file_name(name) for name in ("a/b c", "../..", "xquad/en", "dense:m", "模型")] == [
        "a-b-c", "unnamed", "xquad-en", "dense-m", "模型",
    ]  # fmt: skip


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
