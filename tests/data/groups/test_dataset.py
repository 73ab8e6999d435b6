import json
import pickle

import pytest

from crossrank.data.groups.build import open_groups
from crossrank.data.groups.config import parse_data_config


@pytest.fixture
def opened(tmp_path):
    def build(rows, **config):
        path = tmp_path / "groups.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return open_groups(parse_data_config({"train": [str(path)], "cache_dir": str(tmp_path / "cache"), **config}))

    return build


def texts(group):
    return [document.text for document in group.documents]


def test_a_group_has_its_positive_first_and_the_first_negatives(opened):
    rows = [
        {"query_id": "q", "query": "mars?", "positives": ["p"], "negatives": list("abcdef")},
    ]
    groups = opened(rows, negatives={"num": 3}).train
    group = groups.sample(0, epoch=0)
    assert (group.query_id, group.query, group.teacher_scores) == ("q", "mars?", None)
    assert texts(group) == ["p", "a", "b", "c"] and group.labels == (1, 0, 0, 0)
    assert pickle.loads(pickle.dumps(groups)).sample(0, epoch=5) == groups.sample(0, epoch=5)
