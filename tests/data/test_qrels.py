import gzip

import pytest

from crossrank.data.qrels import read_qrels
from crossrank.errors import DataError

BEIR = "query-id\tcorpus-id\tscore\nq1\td2\t1\nq1\td1\t0\n\nq 2\td1\t2\n"


def write(tmp_path, text, name="dev.tsv"):
    path = tmp_path / name
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["dev.tsv", "dev.tsv.gz"])
def test_beir_qrels(tmp_path, name):
    qrels = read_qrels(write(tmp_path, BEIR, name))
    print(qrels)
    assert qrels == {"q1": {"d2": 1, "d1": 0}, "q 2": {"d1": 2}}
    assert list(qrels["q1"]) == ["d2", "d1"]


def test_trec_qrels(tmp_path):
    assert read_qrels(write(tmp_path, "q1 0 d2 1\nq1\t0\td1\t0\nq2 Q0 d1 2\r\n")) == {
        "q1": {"d2": 1, "d1": 0},
        "q2": {"d1": 2},
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1\td1\t-1", r"dev\.tsv:3: the grade -1 is negative"),
        ("q1 0 d1 -2", r"dev\.tsv:3: the grade -2 is negative"),
        ("q1\td1\t0.5", r"dev\.tsv:3: the grade '0\.5' is not a whole number"),
        ("q1\td2\t1", r"dev\.tsv:3: query 'q1' and document 'd2' are judged twice"),
        ("q1\td1", r"dev\.tsv:3: neither three fields with tabs"),
        ("q1\t\t1", r"dev\.tsv:3: neither three fields with tabs"),
        ("q9\td1\t1", r"dev\.tsv:3: query 'q9' is not among the queries"),
        ("q1\td9\t1", r"dev\.tsv:3: document 'd9' is not in the corpus"),
        (b"q1\td\xff\t1", r"dev\.tsv:3: not valid UTF-8"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    line = line if isinstance(line, bytes) else line.encode()
    path = write(tmp_path, b"query-id\tcorpus-id\tscore\nq1\td2\t1\n" + line + b"\n")
    with pytest.raises(DataError, match=message) as caught:
        read_qrels(path, queries={"q1", "q2"}, documents={"d1", "d2"})
    print(caught.value)


@pytest.mark.parametrize("text", ["", "query-id\tcorpus-id\tscore\n", "\n \n"])
def test_an_empty_split_is_an_error(tmp_path, text):
    with pytest.raises(DataError, match=r"dev\.tsv: no judgements in the file"):
        read_qrels(write(tmp_path, text))
