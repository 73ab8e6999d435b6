"""Hard negatives: candidates of several retrievers, filtered, scored by a teacher, and sampled, query by query."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, NamedTuple

from crossrank.data.groups.sampling import walk
from crossrank.data.groups.store import text_key
from crossrank.data.questions import MinableCorpus, Question
from crossrank.errors import InputError, NumericalError
from crossrank.mining.negative_filters import (
    Reason,
    Rules,
    document_key,
    in_window,
    is_near_duplicate,
    refuse_by_score,
    shingles,
)
from crossrank.mining.negative_sampling import Sampling, choose, stream_of
from crossrank.retrieval.retriever import Retriever, full_text
from crossrank.types import Document, Scorer

TEACHER = "teacher"
Excluded = dict[tuple[str, int], frozenset[str]]
# One side of the matrix of scores that a bi-encoder holds; the candidates of so many questions are in memory.
BLOCK_QUESTIONS = 1024
# Questions whose documents are in memory, and which are handed to the teacher in one call.
_TEACHER_QUESTIONS = 16
# Draws a random negative before giving up: in a small corpus nothing may be left.
_TRIES = 50


@dataclass(frozen=True)
class Plan:
    """What is mined for each question.

    Attributes:
        rules: Which candidates may be negatives.
        num: Most negatives, besides those that were given.
        sampling: How they are chosen among the candidates that the rules leave.
        random_share: The share of them that is drawn from the whole corpus, 0 to 1.
        keep_given: Whether the negatives that the question came with stay, in front of the mined ones.
        depth: Candidates of a retriever that are searched for the positive's score; at least `rules.last_rank`.
        seed: Decides what is random.

    Raises:
        InputError: If a number is out of range.
    """

    rules: Rules = field(default_factory=Rules)
    num: int = 8
    sampling: Sampling = "top"
    random_share: float = 0.0
    keep_given: bool = False
    depth: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num < 1 or not 0 <= self.random_share <= 1:
            raise InputError(f"num must be above 0 and random_share from 0 to 1: {self.num}, {self.random_share}")
        if self.depth < self.rules.last_rank:
            raise InputError(
                f"the depth ({self.depth}) must reach the last rank of the window ({self.rules.last_rank})"
            )

    @property
    def num_random(self) -> int:
        """How many negatives are drawn from the whole corpus."""
        return round(self.num * self.random_share)


class Place(NamedTuple):
    """Where a retriever put a document: its rank from 1, and the score."""

    rank: int
    score: float


@dataclass
class Mined:
    """A document of a question.

    Attributes:
        document: Its text.
        source: How it came here.
        found_by: Where the retrievers put it, by their names.
        teacher: The teacher's raw logit, or None without a teacher.
    """

    document: Document
    source: Literal["positive", "given", "retrieved", "random"]
    found_by: dict[str, Place] = field(default_factory=dict)
    teacher: float | None = None

    def scores(self) -> dict[str, float]:
        """Return the teacher's score alone, or without a teacher those of the retrievers."""
        if self.teacher is not None:
            return {TEACHER: self.teacher}
        return {name: place.score for name, place in self.found_by.items()}


@dataclass
class MinedQuestion:
    """A question with its documents.

    Attributes:
        question: As it was given.
        positives: In the order given.
        negatives: Given ones, then retrieved ones from the hardest down, then random ones.
        counts: Candidates that were found, and refused, by what the report calls them.
    """

    question: Question
    positives: list[Mined]
    negatives: list[Mined] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def mine_negatives(
    questions: Iterable[Question],
    corpora: Mapping[str, MinableCorpus],
    retrievers: Mapping[str, Mapping[str, Retriever]],
    plan: Plan,
    *,
    teacher: Scorer | None = None,
    excluded: Excluded | None = None,
) -> Iterator[MinedQuestion]:
    """Yield every question with its negatives, in the order given.

    In memory are the candidates of 1024 questions and the documents of 16, besides what the retrievers hold.

    Args:
        questions: Their documents are in their corpora.
        corpora: By their ids.
        retrievers: Indexed ones by name, for each corpus.
        plan: What is mined.
        teacher: Scores positives and candidates; its scores take the place of the retrievers' in rules and sampling.
        excluded: See `repeated_questions`.

    Raises:
        InputError: If the sampling is stratified, and there is neither a teacher nor a single retriever.
        NumericalError: If the teacher gives NaN or infinity.
    """
    if plan.sampling == "stratified" and teacher is None and any(len(named) != 1 for named in retrievers.values()):
        raise InputError("stratified sampling needs scores on one scale: a teacher, or a single retriever")
    remaining = iter(questions)
    while block := list(islice(remaining, BLOCK_QUESTIONS)):
        found = _search(block, retrievers, plan)
        for start in range(0, len(block), _TEACHER_QUESTIONS):
            pools = [
                _Pool(question, corpora[question.corpus_id], found.pop(question.query_id), plan, excluded or {})
                for question in block[start : start + _TEACHER_QUESTIONS]
            ]
            if teacher is not None:
                _score(pools, teacher)
            yield from (pool.mined() for pool in pools)


def repeated_questions(questions: Iterable[Question]) -> Excluded:
    """Return the positives of all questions with one text over one corpus; texts that come once are left out.

    A document that is relevant for a question is no negative for the same question under another id, as in files with
    a row for each positive.
    """
    first: Excluded = {}
    together: Excluded = {}
    for question in questions:
        key = _text_of(question)
        if key in first:
            together[key] = together.get(key, first[key]).union(question.positives)
        else:
            first[key] = frozenset(question.positives)
    return together


def _text_of(question: Question) -> tuple[str, int]:
    return question.corpus_id, text_key(question.query)


def _search(
    block: Sequence[Question], retrievers: Mapping[str, Mapping[str, Retriever]], plan: Plan
) -> dict[str, dict[str, dict[str, Place]]]:
    """Return where each retriever put the candidates and the positives, by question and document."""
    found: dict[str, dict[str, dict[str, Place]]] = {question.query_id: {} for question in block}
    positives = {question.query_id: set(question.positives) for question in block}
    for corpus_id, named in retrievers.items():
        queries = {question.query_id: question.query for question in block if question.corpus_id == corpus_id}
        for name, retriever in named.items() if queries else ():
            for query_id, candidates in retriever.search(queries, depth=plan.depth):
                for rank, candidate in enumerate(candidates, start=1):
                    if rank <= plan.rules.last_rank or candidate.document_id in positives[query_id]:
                        places = found[query_id].setdefault(candidate.document_id, {})
                        places[name] = Place(rank, candidate.score)
    return found


def _score(pools: Sequence[_Pool], teacher: Scorer) -> None:
    judged = [(pool.question, mined) for pool in pools for mined in pool.judged()]
    scores = teacher.score([(question.query, mined.document) for question, mined in judged])
    for (question, mined), score in zip(judged, scores.tolist(), strict=True):
        if not math.isfinite(score):
            raise NumericalError(
                f"the teacher gave {score} for query {question.query_id!r} and document {mined.document.id!r}"
            )
        mined.teacher = score


class _Pool:
    """The documents of one question, before it is decided which of them become its negatives."""

    def __init__(
        self,
        question: Question,
        corpus: MinableCorpus,
        found: Mapping[str, dict[str, Place]],
        plan: Plan,
        excluded: Excluded,
    ) -> None:
        self.question = question
        self._plan = plan
        self._relevant = excluded.get(_text_of(question), frozenset()).union(question.positives)
        relevant = {document_id: _get(corpus, document_id) for document_id in sorted(self._relevant)}
        self._texts = [full_text(document) for document in relevant.values()]
        self._shingles = [shingles(text) for text in self._texts] if plan.rules.near_duplicate is not None else []
        rule = plan.rules.same_document
        self._documents = {document_key(document, rule) for document in relevant.values()} if rule else set()
        self._seen = {text_key(text) for text in self._texts}
        self._counts: Counter[str] = Counter()
        self._positives = [Mined(relevant[d], "positive", found.get(d, {})) for d in question.positives]
        self._given = self._take_given(corpus, found) if plan.keep_given else []
        self._retrieved = list(self._take_retrieved(corpus, found)) if plan.num > plan.num_random else []
        self._random = list(self._take_random(corpus))

    def judged(self) -> list[Mined]:
        """Return all that the teacher scores."""
        return [*self._positives, *self._given, *self._retrieved, *self._random]

    def mined(self) -> MinedQuestion:
        """Filter by the scores and sample."""
        lowest = self._lowest_positive()
        retrieved = [mined for mined in self._retrieved if self._passes(mined, lowest)]
        if any(mined.teacher is not None for mined in retrieved):
            retrieved.sort(key=lambda mined: -(mined.teacher or 0.0))
        scores = [next(iter(mined.scores().values())) for mined in retrieved]
        plan = self._plan
        stream = stream_of(plan.seed, self.question.query_id, "sampling")
        chosen = choose(scores, plan.num - plan.num_random, sampling=plan.sampling, stream=stream)
        random = [mined for mined in self._random if self._passes(mined, lowest)]
        negatives = [*self._given, *(retrieved[place] for place in chosen), *random]
        return MinedQuestion(self.question, self._positives, negatives, self._counts)

    def _take_given(self, corpus: MinableCorpus, found: Mapping[str, dict[str, Place]]) -> list[Mined]:
        given = []
        for document_id in self.question.negatives:
            document = _get(corpus, document_id)
            if document_id not in self._relevant and self._is_new(document):
                given.append(Mined(document, "given", found.get(document_id, {})))
        return given

    def _take_retrieved(self, corpus: MinableCorpus, found: Mapping[str, dict[str, Place]]) -> Iterator[Mined]:
        by_rank = sorted(found.items(), key=lambda item: min(place.rank for place in item[1].values()))
        for document_id, places in by_rank:
            if document_id in self._relevant:
                continue
            self._counts["candidates"] += 1
            if not in_window((place.rank for place in places.values()), self._plan.rules):
                self._counts[Reason.rank] += 1
                continue
            document = _get(corpus, document_id)
            reason = self._refuse_by_text(document)
            if reason:
                self._counts[reason] += 1
            else:
                yield Mined(document, "retrieved", places)

    def _take_random(self, corpus: MinableCorpus) -> Iterator[Mined]:
        wanted = self._plan.num_random
        places = walk(stream_of(self._plan.seed, self.question.query_id, "corpus"), len(corpus))
        for place in islice(places, _TRIES * wanted):
            if not wanted:
                return
            document = corpus.at(place)
            if document.id not in self._relevant and self._refuse_by_text(document) is None:
                wanted -= 1
                yield Mined(document, "random")

    def _is_new(self, document: Document) -> bool:
        key = text_key(full_text(document))
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new

    def _refuse_by_text(self, document: Document) -> Reason | None:
        rules = self._plan.rules
        if not self._is_new(document):
            return Reason.copy
        key = document_key(document, rules.same_document) if rules.same_document else None
        if key is not None and key in self._documents:
            return Reason.same_document
        if rules.near_duplicate is not None and is_near_duplicate(
            full_text(document), self._shingles, rules.near_duplicate
        ):
            return Reason.near_duplicate
        return None

    def _lowest_positive(self) -> dict[str, float | None]:
        """Return the lowest score of a positive by who gave it; a positive that a retriever missed has none."""
        lowest: dict[str, float | None] = {}
        for positive in self._positives:
            for scale, score in positive.scores().items():
                before = lowest.get(scale)
                lowest[scale] = score if before is None else min(before, score)
        return lowest

    def _passes(self, mined: Mined, lowest: Mapping[str, float | None]) -> bool:
        reason = refuse_by_score(mined.scores(), lowest, self._plan.rules)
        if reason and mined.source == "retrieved":
            self._counts[reason] += 1
        return reason is None


def _get(corpus: MinableCorpus, document_id: str) -> Document:
    document = corpus.get(document_id)
    if document is None:
        raise InputError(f"document {document_id!r} is not in the corpus")
    return document
