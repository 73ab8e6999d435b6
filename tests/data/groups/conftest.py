"""Sources written by a test, opened as a recipe opens them."""

import json

import pytest

from crossrank.data.groups.build import check_data, open_groups
from crossrank.data.groups.config import parse_data_config


@pytest.fixture
def folder(tmp_path):
    """Write files below a folder: JSON lines from lists, text from strings."""

    def write(**files):
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, list):
                content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return write


@pytest.fixture
def config(tmp_path):
    def build(*train, **rest):
        return parse_data_config({"train": list(train), "cache_dir": str(tmp_path / "cache"), **rest})

    return build


@pytest.fixture
def check(config):
    """Convert and check sources; return the groups of the first, and the problems as `kind line: message`."""

    def run(*train, first_stage=None, **rest):
        checked = check_data(config(*train, **rest), first_stage=first_stage)
        store = checked.train[0]
        problems = [f"{p.kind} {p.line}: {p.message}" for p in checked.problems.examples]
        return [readable(store, i) for i in range(len(store))], problems

    return run


@pytest.fixture
def opened(config):
    def run(*train, **rest):
        return open_groups(config(*train, **rest)).train

    return run


def readable(store, index):
    """A group as `(id, query, [(text, grade), ...])`, with scores in place of grades where a teacher gave them."""
    group = store.group(index)
    texts = [store.document(int(row)).text for row in group.rows]
    return group.query_id, group.query, list(zip(texts, group.scores or group.grades, strict=True))
