from dataclasses import replace

import pytest

from crossrank.data.trec import Candidate
from crossrank.errors import DataError
from crossrank.evaluation.candidates import everything, given, missing_positives, read_candidates, retrieve
from crossrank.retrieval.retriever import Retrieved


class Numbered:
    """A retriever that finds the documents with even numbers, the lowest first."""

    name = "numbered"

    def index(self, corpus, *, on_progress=None):
        self.ids = [document.id for document in corpus]

    def search(self, queries, *, depth):
        even = [i for i in self.ids if int(i[1:]) % 2 == 0]
        for query_id in queries:
            yield Retrieved(query_id, tuple(Candidate(i, 9.0 - n) for n, i in enumerate(even[:depth])))


def ids(candidates):
    return [candidate.document_id for candidate in candidates]


def test_retrieved_from_the_whole_corpus_for_judged_queries_alone(make_set):
    data = make_set({"q1": {"d1": 1}}, more_queries={"q9": "not judged"})
    run = retrieve(data, Numbered(), depth=3)
    assert {query_id: ids(found) for query_id, found in run.items()} == {"q1": ["d0", "d2", "d4"]}


def test_candidates_that_a_retriever_ranked_keep_its_order(make_set):
    data = make_set({"q1": {"d1": 1}}, candidates={"q1": ["d3", "d1", "d2", "d1"]})
    ranked = given(replace(data, candidates_are_ranked=True), "q1")
    assert [(item.document_id, item.score) for item in ranked] == [("d3", 0), ("d1", -1), ("d2", -2)]


def test_given_candidates_are_ordered_and_none_is_lost(make_set):
    data = make_set({"q1": {"d1": 1}, "q2": {"d1": 1}}, candidates={"q1": ["d1", "d3", "d8", "d4"]})
    run = retrieve(data, Numbered(), depth=2)
    print(run)
    assert ids(run["q1"])[:2] == ["d4", "d8"]
    assert sorted(ids(run["q1"])[2:]) == ["d1", "d3"]
    scores = [candidate.score for candidate in run["q1"]]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4
    assert ids(run["q2"]) == []


def write_run(tmp_path, *lines):
    path = tmp_path / "first.trec"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_run_is_cut_by_score_not_by_its_ranks(tmp_path, make_set):
    path = write_run(
        tmp_path, "q1 Q0 d1 1 1.0 t", "q1 Q0 d2 2 3.0 t", "q1 Q0 d0 3 3.0 t", "other Q0 d5 1 1 t", "q2 Q0 d1 1 1 t"
    )
    data = make_set({"q1": {"d1": 1}, "q3": {"d1": 1}}, more_queries={"other": "", "q2": ""})
    run = read_candidates(path, data, depth=2)
    assert {query_id: ids(found) for query_id, found in run.items()} == {"q1": ["d2", "d0"]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1 Q0 d99 2 1.0 t", r"first\.trec:2: document 'd99' is not in the corpus of tiny"),
        ("q9 Q0 d1 1 1.0 t", r"first\.trec:2: tiny has no query 'q9'"),
        ("q1 Q0 d1 2 1.0 t", r"first\.trec:2: query 'q1' has 'd1' twice"),
        ("q1 Q0 d2 2 nan t", r"first\.trec:2: the rank must be .* a finite one, not '2' and 'nan'"),
        ("q1 Q0 d2 2", r"first\.trec:2: 4 fields where a TREC run has 6"),
    ],
)
def test_a_bad_line_of_a_run_is_named(tmp_path, make_set, line, message):
    path = write_run(tmp_path, "q1 Q0 d1 1 2.0 t", line)
    with pytest.raises(DataError, match=message) as caught:
        read_candidates(path, make_set({"q1": {"d1": 1}}), depth=10)
    print(caught.value)


def test_a_run_of_another_split_is_an_error(tmp_path, make_set):
    path = write_run(tmp_path, "train1 Q0 d1 1 2.0 t")
    data = make_set({"q1": {"d1": 1}}, more_queries={"train1": "of another split"})
    with pytest.raises(DataError, match="none of the 1 judged queries of tiny is in this run"):
        read_candidates(path, data, depth=10)


def test_missing_positives(make_set):
    data = make_set({"q1": {"d1": 1, "d2": 0, "d3": 2}, "q2": {"d1": 1}, "q3": {"d4": 1}})
    run = {"q1": (Candidate("d1", 1.0),), "q2": (Candidate("d1", 1.0),)}
    assert list(missing_positives(data, run)) == [("q1", ["d3"]), ("q3", ["d4"])]


def test_a_query_that_is_a_document_does_not_find_itself(make_set, tmp_path):
    data = make_set({"d1": {"d2": 1}}, num_documents=4, queries_are_documents=True)

    class Everything:
        name = "everything"

        def index(self, corpus, *, on_progress=None):
            self._ids = [document.id for document in corpus]

        def search(self, queries, *, depth):
            ranked = tuple(Candidate(document, -float(i)) for i, document in enumerate(self._ids))
            return ((Retrieved(query_id, ranked[:depth])) for query_id in queries)

    assert ids(retrieve(data, Everything(), depth=3)["d1"]) == ["d0", "d2", "d3"]
    given_too = replace(data, candidates={"d1": ["d1", "d3"]})
    assert ids(given(given_too, "d1")) == ["d3"]
    run = tmp_path / "run.trec"
    run.write_text("d1 Q0 d1 1 9 x\nd1 Q0 d2 2 8 x\nd1 Q0 d3 3 7 x\n")
    assert ids(read_candidates(run, data, depth=1)["d1"]) == ["d2"]


def test_a_whole_corpus_as_candidates_has_no_useful_order(make_set):
    data = make_set({f"q{i}": {"d0": 1} for i in range(50)}, num_documents=5)
    found = everything(data)
    assert all(
        {item.document_id for item in candidates} == {f"d{i}" for i in range(5)} for candidates in found.values()
    )
    first = [candidates[0].document_id for candidates in found.values()]
    assert len(set(first)) > 1
    assert first == [candidates[0].document_id for candidates in everything(data).values()]
