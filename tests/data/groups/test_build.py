import json
import os
import time
from pathlib import Path

import pytest

from crossrank.data.groups import build
from crossrank.data.groups.build import check_data, open_groups, open_store
from crossrank.data.groups.config import SourceConfig
from crossrank.errors import DataError, InputError

ROWS = [
    {"query_id": f"q{i}", "query": f"query {i}", "positives": [f"p{i}"], "negatives": [f"n{i}", f"m{i}"]}
    for i in range(5)
]


@pytest.fixture
def source(folder):
    return str(folder(**{"a.jsonl": ROWS}) / "a.jsonl")


def test_a_source_is_converted_once_and_again_when_it_changes(source, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = open_store(SourceConfig(path=source), cache)
    monkeypatch.setattr(build, "read_source", None)  # would fail if it were called
    assert open_store(SourceConfig(path=source, weight=2.0, num_samples=3), cache).folder == first.folder
    monkeypatch.undo()
    with Path(source).open("a") as file:
        file.write(json.dumps({**ROWS[0], "query_id": "new", "query": "new"}) + "\n")
    assert len(open_store(SourceConfig(path=source), cache)) == 6
    assert len(list(cache.iterdir())) == 2


def test_an_interrupted_conversion_leaves_nothing(source, tmp_path, monkeypatch):
    def interrupted(source, format, writer, first_stage):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "read_source", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_store(SourceConfig(path=source), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_killed_conversion_left_is_removed_a_day_later(source, tmp_path):
    cache = tmp_path / "cache"
    for name, age_s in ((".converting-old", 90_000), (".converting-new", 60)):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (time.time() - age_s,) * 2)
    open_store(SourceConfig(path=source), cache)
    assert [path.name for path in cache.glob(".*")] == [".converting-new"]


def test_a_full_disk_leaves_nothing_and_says_so(source, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "read_source", full)
    with pytest.raises(DataError, match="No space left on device"):
        open_store(SourceConfig(path=source), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_of_two_processes_that_convert_at_once_the_first_one_counts(source, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    read = build.read_source

    def overtaken(*arguments):
        monkeypatch.setattr(build, "read_source", read)
        open_store(SourceConfig(path=source), cache)
        read(*arguments)

    monkeypatch.setattr(build, "read_source", overtaken)
    assert len(open_store(SourceConfig(path=source), cache)) == 5
    assert len(list(cache.iterdir())) == 1


def test_broken_data_is_refused_or_left_out(folder, config):
    bad = {"query_id": "bad", "query": "q", "positives": ["p"], "negatives": ["p", "n"]}
    path = str(folder(**{"a.jsonl": [*ROWS, bad, {"query": ""}]}) / "a.jsonl")
    with pytest.raises(DataError, match=r"a\.jsonl:6: 1 document.*1 positive among the negatives, 1 malformed row"):
        open_groups(config(path))
    opened = open_groups(config(path, on_bad_row="drop"))
    assert len(opened.train) == 6 and opened.problems.num_errors == 2


def test_leakage_is_found_by_text_and_left_out(folder, config):
    dev = [
        {"query": " QUERY  3", "positives": ["other"], "negatives": []},
        {"query": "x", "positives": ["p0"], "negatives": []},
    ]
    root = folder(**{"a.jsonl": ROWS, "dev.jsonl": dev})
    values = config(f"{root}/a.jsonl", dev=[f"{root}/dev.jsonl"])
    problems = [f"{p.kind} {p.line}: {p.message}" for p in check_data(values).problems.examples]
    assert problems == [
        "train query in dev 4: the query 'q3' is also in dev",
        "positive in train and dev None: 1 positives are a positive in dev too",
    ]
    with pytest.raises(DataError, match=r"a\.jsonl:4: the query 'q3' is also in dev"):
        open_groups(values)
    opened = open_groups(config(f"{root}/a.jsonl", dev=[f"{root}/dev.jsonl"], on_bad_row="drop"))
    assert {opened.train.sample(i, epoch=0).query_id for i in range(4)} == {"q0", "q1", "q2", "q4"}
    assert len(opened.train) == 4 and len(opened.dev) == 2


def test_a_source_without_a_group_is_an_error(folder, config):
    path = str(folder(**{"a.jsonl": "\n"}) / "a.jsonl")
    with pytest.raises(DataError, match=r"a\.jsonl: not a single group can be used"):
        open_groups(config(path))


def test_num_samples_above_the_number_of_groups_is_worth_knowing(source, config):
    problems = check_data(config({"path": source, "num_samples": 9})).problems
    assert [problem.message for problem in problems.examples] == ["num_samples is 9, there are 5 groups"]
    assert problems.num_errors == 0


def test_a_key_of_another_format_is_an_error(source, config):
    with pytest.raises(InputError, match="'split' is not for the format 'groups'"):
        open_groups(config({"path": source, "split": "dev"}))


def test_the_cache_of_the_user(monkeypatch, tmp_path, source):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    open_groups(build.DataConfig.model_validate({"train": [source]}))
    assert [path.name[:7] for path in (tmp_path / "xdg/crossrank/groups").iterdir()] == ["groups-"]
