import pytest

from crossrank.data.trec import Candidate
from crossrank.errors import InputError
from crossrank.evaluation.scoring import score_run
from crossrank.types import Document, Hit, Ranking

RUN = {f"q{i}": tuple(Candidate(f"d{j}", float(-j)) for j in range(3)) for i in range(4)} | {"empty": ()}


class Writer:
    def __init__(self, finished=()):
        self.finished = dict.fromkeys(finished)
        self.runs = {}

    def write(self, query_id, candidates):
        self.runs[query_id] = [(candidate.document_id, candidate.score) for candidate in candidates]


class Clock:
    pairs = 0

    def add(self, pairs, seconds):
        assert seconds >= 0
        self.pairs += pairs


@pytest.fixture
def data(make_set):
    return make_set({query_id: {"d0": 1} for query_id in [*RUN, "absent"]})


def test_each_pair_is_scored_once_in_blocks(data, look_up):
    scorer, writer, clock, steps = look_up(lambda query, document: int(document[1:])), Writer(["q1"]), Clock(), []
    blocks = []
    original = scorer.score
    scorer.score = lambda pairs: blocks.append(len(pairs)) or original(pairs)
    score_run(RUN, data, scorer, writer, clock, on_query=lambda: steps.append(1), block_pairs=4)
    print(writer.runs)
    assert list(writer.runs) == ["q0", "q2", "q3"]
    assert writer.runs["q0"] == [("d0", 0.0), ("d1", 1.0), ("d2", 2.0)]
    assert scorer.pairs == [(f"text of {query}", f"d{j}") for query in writer.runs for j in range(3)]
    assert (blocks, clock.pairs, len(steps)) == ([6, 3], 9, 3)


def test_a_ranker_is_asked_query_by_query(data):
    class Backwards:
        def rank(self, query, documents, *, top_k=None):
            assert all(isinstance(document, Document) for document in documents)
            hits = tuple(Hit(i, 0.5, documents[i]) for i in reversed(range(len(documents))))
            return Ranking(query, hits)

    writer = Writer()
    score_run(RUN, data, Backwards(), writer, Clock())
    assert writer.runs["q3"] == [("d2", 0.5), ("d1", 0.5), ("d0", 0.5)]


def test_a_ranking_that_drops_documents_is_an_error(data):
    class Lazy:
        def rank(self, query, documents, *, top_k=None):
            return Ranking(query, (Hit(0, 1.0, documents[0]),))

    with pytest.raises(InputError, match="query 'q0': a ranking of 1 documents came back for 3"):
        score_run(RUN, data, Lazy(), Writer(), Clock())


def test_a_candidate_without_a_document_is_an_error(data, look_up):
    with pytest.raises(InputError, match="document 'd77' is not in the corpus of tiny"):
        score_run({"q0": (Candidate("d77", 1.0),)}, data, look_up(lambda q, d: 0), Writer(), Clock())
