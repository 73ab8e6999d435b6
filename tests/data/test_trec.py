import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.data.text import Line, SkippedLines
from crossrank.data.trec import Candidate, format_run, group_run, read_run
from crossrank.errors import DataError, InputError

RUN = """\
q1 Q0 d3 1 9.5 bm25
q1 Q0 d1 2 7.25 bm25
q2\tQ0\td1\t1\t3\tbm25

q2 Q0 d2 2 -1e-3 bm25
"""


def lines(text):
    return [Line(i, 0, line) for i, line in enumerate(text.split("\n"), start=1)]


def group(text, **options):
    return [(q.query_id, q.candidates, q.lines) for q in group_run(lines(text), "r.trec", **options)]


def test_a_run_is_grouped_by_query():
    assert group(RUN) == [
        ("q1", (("d3", 9.5), ("d1", 7.25)), (1, 2)),
        ("q2", (("d1", 3.0), ("d2", -0.001)), (3, 5)),
    ]


def test_an_empty_run():
    assert group("") == []


@pytest.mark.parametrize("name", ["r.trec", "r.trec.gz"])
def test_files(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(RUN.encode()) if name.endswith(".gz") else RUN.encode())
    assert [query.query_id for query in read_run(path)] == ["q1", "q2"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1 Q0 d2 2 5.0", r"r\.trec:2: 5 fields where a TREC run has 6"),
        ("q1 Q0 d2 2 high tag", r"r\.trec:2: the rank must be .* a finite one, not '2' and 'high'"),
        ("q1 Q0 d2 2.0 1 tag", r"r\.trec:2: the rank must be a whole number .* not '2\.0' and '1'"),
        ("q1 Q0 d2 2 nan tag", r"r\.trec:2: the rank must be .* a finite one, not '2' and 'nan'"),
        ("q1 Q0 d2 first 1 tag", r"r\.trec:2: the rank must be .* not 'first'"),
        ("q1 Q0 d1 2 5.0 tag", r"r\.trec:2: query 'q1' has 'd1' twice"),
    ],
)
def test_a_bad_line_is_named_or_skipped(line, message):
    text = f"q1 Q0 d1 1 9 tag\n{line}\nq1 Q0 d9 3 1 tag\n"
    with pytest.raises(DataError, match=message):
        group(text)
    skipped = SkippedLines()
    assert group(text, skipped=skipped) == [("q1", (("d1", 9.0), ("d9", 1.0)), (1, 3))]
    assert skipped.count == 1


def test_a_query_that_comes_back_is_an_error_even_when_bad_lines_are_skipped():
    text = "q1 Q0 d1 1 9 t\nq2 Q0 d1 1 9 t\nq1 Q0 d2 2 8 t\n"
    with pytest.raises(DataError, match=r"r\.trec:3: query 'q1' comes back after others: sort the run"):
        group(text, skipped=SkippedLines())


def test_the_order_is_score_descending_then_as_given():
    candidates = [Candidate("c", 1.0), Candidate("b", 2.0), Candidate("a", 1.0), Candidate("d", 2.0)]
    assert format_run("q", candidates, tag="t") == ("q Q0 b 1 2.0 t\nq Q0 d 2 2.0 t\nq Q0 c 3 1.0 t\nq Q0 a 4 1.0 t\n")


@pytest.mark.parametrize("bad", ["", "two words", "tab\t", "\u00a0"])
def test_ids_with_white_space_cannot_be_written(bad):
    for query_id, document_id, tag in ((bad, "d", "t"), ("q", bad, "t"), ("q", "d", bad)):
        with pytest.raises(InputError, match="cannot stand in a TREC run"):
            format_run(query_id, [Candidate(document_id, 1.0)], tag=tag)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_only_finite_scores_are_written(score):
    with pytest.raises(InputError, match="query 'q', document 'd': the score is"):
        format_run("q", [Candidate("d", score)])


tokens = st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1).filter(
    lambda text: text.split() == [text]
)
scores = st.dictionaries(tokens, st.floats(allow_nan=False, allow_infinity=False), min_size=1)


@given(st.dictionaries(tokens, scores))
def test_what_is_written_is_read_back_in_order(run):
    text = "".join(format_run(query_id, map(Candidate._make, found.items())) for query_id, found in run.items())
    read = {query.query_id: list(query.candidates) for query in group_run(lines(text), "r")}
    assert list(read) == list(run)
    for query_id, found in run.items():
        assert dict(read[query_id]) == found
        assert [c.score for c in read[query_id]] == sorted(found.values(), reverse=True)
        assert format_run(query_id, read[query_id]) in text
