import json

import pytest

from crossrank.data.mined_groups import open_group_writer, unrolled
from crossrank.errors import DataError

ROW = {"question_id": "q", "pos_doc": [{"id": "a"}, {"id": "b"}], "neg_doc": []}


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_interrupted_file_goes_on(tmp_path):
    path = tmp_path / "groups.jsonl"
    with pytest.raises(KeyboardInterrupt), open_group_writer(path, settings={"n": 1}) as writer:
        writer.write({"question_id": "1"}, {"seen": 2})
        writer.write({"question_id": "2"}, {"seen": 3})
        raise KeyboardInterrupt
    part = tmp_path / "groups.jsonl.part"
    assert not path.exists()
    part.write_bytes(part.read_bytes() + b'{"row": {"question_id"')  # cut within a line
    with open_group_writer(path, settings={"n": 1}) as writer:
        assert writer.finished == 2 and writer.counts == {"seen": 5}
        writer.write({"question_id": "3"}, {"seen": 1})
        assert writer.finished == 3 and writer.counts == {"seen": 6}
    assert [row["question_id"] for row in read(path)] == ["1", "2", "3"]
    assert list(tmp_path.iterdir()) == [path]


def test_other_settings_do_not_go_on(tmp_path):
    path = tmp_path / "groups.jsonl"
    with pytest.raises(KeyboardInterrupt), open_group_writer(path, settings={"n": 1}) as writer:
        writer.write({"question_id": "1"}, {})
        raise KeyboardInterrupt
    with pytest.raises(DataError, match="n was 1, is 2"), open_group_writer(path, settings={"n": 2}):
        pass
    with open_group_writer(path, settings={"n": 2}, restart=True) as writer:
        assert writer.finished == 0
    assert path.read_text() == ""


def test_what_is_there_is_never_overwritten(tmp_path):
    path = tmp_path / "groups.jsonl"
    path.write_text("precious")
    with pytest.raises(DataError, match="is there already"), open_group_writer(path, settings={}):
        pass
    assert path.read_text() == "precious"


def test_infinity_is_never_written(tmp_path):
    path = tmp_path / "groups.jsonl"
    with pytest.raises(ValueError), open_group_writer(path, settings={}) as writer:
        writer.write({"score": float("-inf")}, {})
    assert not path.exists()


@pytest.mark.parametrize("num_rows", [0, 1, 3])
def test_a_head_makes_one_json_object(tmp_path, num_rows):
    path = tmp_path / "mined.json"
    with open_group_writer(path, settings={}, head={"corpus": {"path": "wiki"}}) as writer:
        for number in range(num_rows):
            writer.write({"question_id": str(number)}, {})
    rows = [{"question_id": str(number)} for number in range(num_rows)]
    assert json.loads(path.read_text()) == {"corpus": {"path": "wiki"}, "data": rows}


def test_each_positive_stands_first_once(tmp_path):
    a, b = {"id": "a"}, {"id": "b"}
    assert list(unrolled(ROW)) == [
        {"question_id": "q_0", "pos_doc": [a, b], "neg_doc": []},
        {"question_id": "q_1", "pos_doc": [b, a], "neg_doc": []},
    ]
    single = {**ROW, "pos_doc": [a]}
    assert list(unrolled(single)) == [single]
