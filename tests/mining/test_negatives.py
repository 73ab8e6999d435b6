from dataclasses import replace

import numpy as np
import pytest

from crossrank.data.questions import Question
from crossrank.data.trec import Candidate
from crossrank.errors import InputError, NumericalError
from crossrank.mining.negative_filters import Reason, Rules
from crossrank.mining.negatives import Plan, mine_negatives, repeated_questions
from crossrank.retrieval.retriever import Retrieved
from crossrank.types import Document

NO_RULES = Rules(percent=None, near_duplicate=None)


class Shelf:
    """A corpus in memory: d0, d1, ... with a text each."""

    def __init__(self, *texts):
        self.documents = [Document(text, id=f"d{i}", metadata={"page": i // 2}) for i, text in enumerate(texts)]

    def __len__(self):
        return len(self.documents)

    def __iter__(self):
        return iter(self.documents)

    def get(self, document_id):
        return next((document for document in self.documents if document.id == document_id), None)

    def at(self, place):
        return self.documents[place]


class Ranks:
    """A retriever that gives every query the same candidates; looks into nothing."""

    name = "ranks"

    def __init__(self, **scores):
        self.scores = scores
        self.calls = []

    def search(self, queries, *, depth):
        self.calls.append(list(queries))
        ordered = sorted(self.scores.items(), key=lambda item: -item[1])[:depth]
        for query_id in reversed(list(queries)):  # the order is the retriever's own
            yield Retrieved(query_id, tuple(Candidate(*item) for item in ordered))


class Table:
    """A teacher that knows a score for every text."""

    def __init__(self, scores):
        self.scores = scores

    def score(self, pairs):
        return np.array([self.scores[document.text] for _, document in pairs], np.float32)


def question(*positives, query_id="q1", query="red planet", negatives=()):
    return Question(query_id, query, "corpus", positives, tuple(negatives), {})


def mine(corpus, plan, *questions, teacher=None, **retrievers):
    questions = questions or (question("d0"),)
    found = mine_negatives(
        questions,
        {"corpus": corpus},
        {"corpus": retrievers},
        plan,
        teacher=teacher,
        excluded=repeated_questions(questions),
    )
    return list(found)


def ids(documents):
    return [mined.document.id for mined in documents]


def test_the_hardest_that_keep_their_distance_are_taken():
    """The positive has 10, so 9.5 is the limit."""
    corpus = Shelf("mars", "venus", "pluto", "ceres", "earth")
    retriever = Ranks(d1=9.6, d0=10.0, d2=9.5, d3=4.0, d4=1.0)
    (mined,) = mine(corpus, Plan(num=2), r=retriever)
    assert ids(mined.negatives) == ["d2", "d3"]
    assert mined.negatives[0].found_by["r"] == (3, 9.5) and mined.positives[0].found_by["r"] == (1, 10.0)
    assert mined.counts == {"candidates": 4, Reason.close: 1}


def test_the_lowest_positive_counts_also_below_the_window():
    corpus = Shelf("mars", "venus", "pluto", "ceres")
    retriever = Ranks(d0=10.0, d2=7.0, d1=6.0, d3=5.0)
    (mined,) = mine(corpus, Plan(replace(Rules(), last_rank=2)), question("d0", "d1"), r=retriever)
    assert mined.negatives == [] and mined.counts[Reason.close] == 1


def test_candidates_above_a_positive_that_was_not_found_are_refused():
    (mined,) = mine(Shelf("mars", "venus"), Plan(), r=Ranks(d1=3.0))
    assert mined.negatives == [] and mined.counts[Reason.positive_not_found] == 1


def test_retrievers_take_turns_and_either_may_refuse():
    corpus = Shelf("mars", "venus", "pluto", "ceres", "earth")
    first, second = Ranks(d0=10.0, d1=5.0, d2=4.0), Ranks(d3=0.8, d0=1.0, d1=0.99, d4=0.1)
    (mined,) = mine(corpus, Plan(), a=first, b=second)
    assert ids(mined.negatives) == ["d2", "d3", "d4"]  # d1 is too close to the positive in b
    assert mined.negatives[1].scores() == {"b": 0.8}


def test_copies_near_copies_and_passages_of_the_same_document_are_refused():
    long = "The fourth planet from the Sun is Mars, a red and dusty world"
    corpus = Shelf(long, "page mate", long.upper(), long + ".", "Venus", "VENUS")
    retriever = Ranks(d0=10.0, d1=5.0, d2=4.0, d3=3.0, d4=2.0, d5=1.0)
    (mined,) = mine(corpus, Plan(replace(Rules(), same_document="page")), r=retriever)
    assert ids(mined.negatives) == ["d4"]
    assert mined.counts == {"candidates": 5, Reason.same_document: 1, Reason.copy: 2, Reason.near_duplicate: 1}


def test_the_teacher_decides_and_its_scores_are_kept():
    corpus = Shelf("mars", "venus", "pluto", "ceres")
    retriever = Ranks(d1=90.0, d2=80.0, d0=10.0, d3=5.0)
    teacher = Table({"mars": 4.0, "venus": -1.0, "pluto": 3.9, "ceres": 2.0})
    (mined,) = mine(corpus, Plan(), r=retriever, teacher=teacher)
    assert [(m.document.id, m.teacher) for m in mined.negatives] == [("d3", 2.0), ("d1", -1.0)]
    assert mined.positives[0].teacher == 4.0 and mined.counts[Reason.close] == 1


def test_a_teacher_that_gives_no_number_is_named():
    with pytest.raises(NumericalError, match="query 'q1' and document 'd1'"):
        mine(Shelf("mars", "venus"), Plan(), r=Ranks(d1=1.0), teacher=Table({"mars": 1.0, "venus": float("nan")}))


def test_a_share_comes_from_the_whole_corpus():
    corpus = Shelf(*(f"text number {i}" for i in range(50)))
    plan = Plan(NO_RULES, num=8, random_share=0.5)
    (mined,) = mine(corpus, plan, r=Ranks(**{f"d{i}": 20.0 - i for i in range(10)}))
    sources = [m.source for m in mined.negatives]
    assert sources == ["retrieved"] * 4 + ["random"] * 4
    assert "d0" not in ids(mined.negatives) and len(set(ids(mined.negatives))) == 8
    assert [
        ids(again.negatives) for again in mine(corpus, plan, r=Ranks(**{f"d{i}": 20.0 - i for i in range(10)}))
    ] == [ids(mined.negatives)]


def test_random_negatives_of_a_corpus_without_any_end():
    (mined,) = mine(Shelf("mars", "MARS"), Plan(NO_RULES, num=4, random_share=1.0), r=Ranks())
    assert mined.negatives == []


def test_given_negatives_stand_in_front_and_are_not_mined_again():
    corpus = Shelf("mars", "venus", "pluto")
    plan = Plan(NO_RULES, num=1, keep_given=True)
    (mined,) = mine(corpus, plan, question("d0", negatives=["d1"]), r=Ranks(d1=3.0, d2=1.0))
    assert [(m.document.id, m.source) for m in mined.negatives] == [("d1", "given"), ("d2", "retrieved")]


def test_a_positive_of_the_same_question_in_another_row_is_no_negative():
    corpus = Shelf("mars", "venus", "pluto")
    rows = question("d0", query_id="a"), question("d1", query_id="b", query="Red  planet")
    mined = mine(corpus, Plan(NO_RULES), *rows, r=Ranks(d0=3.0, d1=2.0, d2=1.0))
    assert [ids(m.negatives) for m in mined] == [["d2"], ["d2"]]


def test_the_same_question_over_two_corpora_has_positives_in_each():
    first, second = question("d0", query_id="a"), question("e0", query_id="b")._replace(corpus_id="other")
    assert repeated_questions([first, second]) == {}


@pytest.mark.parametrize("seed", range(30))
def test_the_algorithm_of_automodel(seed):
    """Whole corpus, one scale above 0: mask positives and all above 95% of the lowest one, then take the best."""
    draw = np.random.default_rng(seed)
    scores = draw.permutation(np.linspace(0.1, 1.0, 30))
    positives = draw.choice(30, size=3, replace=False)
    allowed = np.where(scores > 0.95 * scores[positives].min(), -np.inf, scores)
    allowed[positives] = -np.inf
    best = [i for i in np.argsort(-allowed, kind="stable")[:5] if np.isfinite(allowed[i])]
    corpus = Shelf(*(f"text {i}" for i in range(30)))
    retriever = Ranks(**{f"d{i}": float(score) for i, score in enumerate(scores)})
    plan = Plan(Rules(near_duplicate=None), num=5)
    (mined,) = mine(corpus, plan, question(*(f"d{i}" for i in positives)), r=retriever)
    assert ids(mined.negatives) == [f"d{i}" for i in best]


def test_questions_keep_their_order_and_are_searched_in_blocks(monkeypatch):
    monkeypatch.setattr("crossrank.mining.negatives.BLOCK_QUESTIONS", 3)
    retriever = Ranks(d0=2.0, d1=1.0)
    rows = [question("d0", query_id=f"q{i}", query=str(i)) for i in range(7)]
    mined = mine(Shelf("mars", "venus"), Plan(NO_RULES), *rows, r=retriever)
    assert [m.question.query_id for m in mined] == [f"q{i}" for i in range(7)]
    assert [len(call) for call in retriever.calls] == [3, 3, 1]


def test_stratified_needs_one_scale():
    with pytest.raises(InputError, match="one scale"):
        mine(Shelf("mars"), Plan(sampling="stratified"), a=Ranks(), b=Ranks())


@pytest.mark.parametrize("wrong", [{"num": 0}, {"random_share": 1.5}, {"depth": 10}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(InputError):
        Plan(**wrong)
