from crossrank.mining.round_trip import found_again
from crossrank.retrieval.bm25 import BM25
from crossrank.types import Document


def test_only_queries_that_find_their_own_document_are_kept():
    retriever = BM25()
    texts = {
        "mars": "Mars is the red planet",
        "venus": "Venus is a hot planet of sulphur",
        "bread": "Bread needs flour",
    }
    retriever.index(Document(text, id=key) for key, text in texts.items())
    queries = {"a": "red planet", "b": "planet of sulphur", "c": "red planet", "d": "zebra"}
    sources = {"a": "mars", "b": "venus", "c": "venus", "d": "bread"}
    assert found_again(queries, sources, retriever, within=1) == {"a": 1, "b": 1}
    assert found_again(queries, sources, retriever, within=2) == {"a": 1, "b": 1, "c": 2}
