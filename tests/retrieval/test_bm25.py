import math
import sys

import pytest

from crossrank.errors import InputError, MissingExtra
from crossrank.retrieval.bm25 import BM25
from crossrank.types import Document

CORPUS = [
    Document("mars is red, red as rust", id="d1", title="Mars"),
    Document("venus is hot", id="d2"),
    Document("the red planet", id="d3"),
    Document("venus is hot", id="d4"),
    Document("", id="d5"),
]


def lucene(counts, length, *, n=5, mean_length, frequencies, k1=1.2, b=0.75):
    """The score of one document from the formula: `counts` of each query term in it, `frequencies` in the corpus."""
    return sum(
        math.log(1 + (n - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * length / mean_length))
        for tf, df in zip(counts, frequencies, strict=True)
    )


def search(queries, corpus=CORPUS, depth=10, **options):
    retriever = BM25(**options)
    retriever.index(corpus)
    return {query_id: candidates for query_id, candidates in retriever.search(queries, depth=depth)}


def test_scores_are_those_of_the_formula():
    # Without stop words: mars mars red red rust | venus hot | red planet | venus hot | (nothing)
    found = search({"q": "red planets"})["q"]
    common = {"mean_length": 11 / 5, "frequencies": [2, 1]}
    expected = {"d1": lucene([2, 0], 5, **common), "d3": lucene([1, 1], 2, **common)}
    assert {c.document_id: pytest.approx(c.score, rel=1e-6) for c in found} == expected
    assert [c.document_id for c in found] == ["d3", "d1"]


def test_k1_and_b_are_those_of_the_formula():
    (first,) = search({"q": "rust"}, k1=0.9, b=0.4)["q"]
    assert first.score == pytest.approx(lucene([1], 5, mean_length=2.2, frequencies=[1], k1=0.9, b=0.4), rel=1e-6)


def test_equal_scores_keep_the_order_of_the_corpus_also_at_the_cut():
    assert [c.document_id for c in search({"q": "venus"})["q"]] == ["d2", "d4"]
    assert [c.document_id for c in search({"q": "venus"}, depth=1)["q"]] == ["d2"]


def test_a_query_without_a_known_term_has_no_candidates():
    assert search({"a": "jupiter", "b": "", "c": "the"}) == {"a": (), "b": (), "c": ()}


@pytest.mark.parametrize("corpus", [[], [Document("", id="d1")], [Document("the", id="d1")]])
def test_a_corpus_without_terms_finds_nothing(corpus):
    assert search({"q": "red"}, corpus) == {"q": ()}


def test_the_corpus_is_read_once_and_progress_counts_its_documents():
    seen = []
    retriever = BM25()
    retriever.index(iter(CORPUS), on_progress=seen.append)
    assert sum(seen) == 5
    assert next(iter(retriever.search({"q": "rust"}, depth=3))).candidates[0].document_id == "d1"


def test_scores_are_those_of_bm25s_itself():
    import bm25s
    import Stemmer

    texts = [
        "Bread needs flour, water, salt and yeast.",
        "Salted water boils later than plain water.",
        "Yeast bread rises for an hour before baking.",
        "A river carries water and salt to the sea.",
    ]
    tokens = bm25s.tokenize(
        [*texts, "salt water bread"], token_pattern=r"\w+", stemmer=Stemmer.Stemmer("english"), return_ids=False,
        show_progress=False,
    )  # fmt: skip
    peer = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    peer.index(tokens[:-1], show_progress=False)
    documents, scores = peer.retrieve([tokens[-1]], k=4, show_progress=False)
    found = search({"q": "salt water bread"}, [Document(text, id=str(i)) for i, text in enumerate(texts)])["q"]
    assert [int(c.document_id) for c in found] == documents[0].tolist()
    assert [c.score for c in found] == pytest.approx(scores[0].tolist(), rel=1e-6)


@pytest.mark.parametrize("options", [{"k1": -1}, {"b": 1.5}, {"k1": math.nan}])
def test_impossible_parameters_are_an_error(options):
    with pytest.raises(InputError, match="BM25 needs k1"):
        BM25(**options)


@pytest.mark.parametrize("package", ["bm25s", "Stemmer"])
def test_without_its_packages_the_error_names_the_extra(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"crossrank\[mine\]"):
        BM25()
