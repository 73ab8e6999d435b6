"""BM25 over a streamed corpus, scored by bm25s.

Shape letter: `D` documents of the corpus.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from crossrank.data.trec import Candidate
from crossrank.errors import InputError, MissingExtra
from crossrank.retrieval.retriever import (
    DocumentIds,
    OnProgress,
    Retrieved,
    best_rows,
    check_search,
    full_text,
)
from crossrank.retrieval.terms import TermSplitter
from crossrank.types import Document

# Source: the defaults of Lucene's BM25Similarity, inside the range that Robertson and Zaragoza, "The Probabilistic
# Relevance Framework" (2009), found to be good (1.2 < k1 < 2, 0.5 < b < 0.8). Anserini's for MS MARCO are 0.9 and 0.4.
K1, B = 1.2, 0.75


class BM25:
    """Lexical retrieval over title and text, in Lucene's variant; a candidate has at least one term of the query.

    In memory it takes 4 bytes a word of the corpus while it reads, then for a moment about 36 bytes a distinct word of
    each document, and 8 afterwards; the texts themselves are not kept.

    Args:
        language: Decides stemmer and stop words, see `TermSplitter`.
        k1: How slowly further occurrences of a term stop to count, at least 0.
        b: How much long documents are marked down, 0 to 1.

    Raises:
        InputError: If an option is not possible.
        MissingExtra: If bm25s or PyStemmer is not installed.

    Source: Kamphuis et al., "Which BM25 Do You Mean?" (ECIR 2020), for the variants; Lù, "BM25S" (2024).
    """

    name = "bm25"

    def __init__(self, *, language: str = "english", k1: float = K1, b: float = B) -> None:
        if not (k1 >= 0 and 0 <= b <= 1):
            raise InputError(f"BM25 needs k1 of at least 0 and b between 0 and 1, not k1={k1} and b={b}")
        try:
            import bm25s  # noqa: F401
        except ImportError:
            raise MissingExtra("BM25", extra="mine") from None
        self._splitter = TermSplitter(language)
        self._k1, self._b = k1, b
        self._ids: DocumentIds | None = None
        self._scorer: Any = None

    def index(self, corpus: Iterable[Document], *, on_progress: OnProgress | None = None) -> None:
        """Read the corpus once.

        Raises:
            InputError: If a document has no id, or an id comes twice.
        """
        import bm25s

        ids, terms, vocabulary = DocumentIds(), _TermRows(), dict[str, int]()
        for document in corpus:
            ids.add(document)
            terms.append(
                vocabulary.setdefault(term, len(vocabulary)) for term in self._splitter.split(full_text(document))
            )
            if on_progress:
                on_progress(1)
        scorer = bm25s.BM25(method="lucene", k1=self._k1, b=self._b)
        if vocabulary:
            scorer.index(bm25s.tokenization.Tokenized(terms, vocabulary), show_progress=False)
        self._scorer = scorer if vocabulary else None
        self._ids = ids

    def search(self, queries: Mapping[str, str], *, depth: int) -> Iterator[Retrieved]:
        """Yield the queries in the order given, each with at most `depth` candidates of a score above 0.

        Raises:
            InputError: If `depth` is below 1, or there is no index yet.
        """
        check_search(depth, is_indexed=self._ids is not None)
        return (Retrieved(query_id, self._candidates(query, depth)) for query_id, query in queries.items())

    def _candidates(self, query: str, depth: int) -> tuple[Candidate, ...]:
        assert self._ids is not None
        known = self._scorer.get_tokens_ids(self._splitter.split(query)) if self._scorer else []
        if not known:
            return ()
        scores_D = self._scorer.get_scores_from_ids(known)
        rows = best_rows(scores_D, depth)
        return tuple(Candidate(self._ids[row], float(scores_D[row])) for row in rows if scores_D[row] > 0)


class _TermRows:
    """The term numbers of every document, in one array; bm25s goes over them document by document."""

    def __init__(self) -> None:
        self._terms = array("i")
        self._ends = array("q", [0])

    def append(self, terms: Iterable[int]) -> None:
        self._terms.extend(terms)
        self._ends.append(len(self._terms))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[array[int]]:
        for start, end in zip(self._ends, self._ends[1:], strict=False):
            yield self._terms[start:end]
