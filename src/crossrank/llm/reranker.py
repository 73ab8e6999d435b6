"""A language model as a reranker: it only orders, or it grades one document at a time.

Shape letter: `N` documents of one query.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

from crossrank.errors import ChatError, InputError
from crossrank.llm.answers import read_choice, read_ranking
from crossrank.llm.asking import Asker
from crossrank.llm.chat import ChatFunction, ChatModel
from crossrank.llm.client import ChatClient, Meter, as_client
from crossrank.llm.grading import Grader
from crossrank.llm.permutations import consensus, heap_order, windows
from crossrank.llm.prompts import listwise_prompt, setwise_prompt
from crossrank.llm.tokens import FindTokens, estimate_tokens
from crossrank.types import Document, DocumentLike, Hit, Ranking, Stage, check_query, to_documents

Method = Literal["window", "single", "setwise", "pointwise"]
OnFailure = Literal["keep", "raise"]


class LLMReranker:
    """A language model that ranks documents; a `Ranker`, to be called from many threads at once.

    Answers are repaired, and the repairs counted in the ranking's stage. Where there is no answer, or none that can be
    read, the order that came in is kept, and the stage says why.

    Args:
        chat: A `ChatClient`, a chat model, a name as in `"openai/MODEL"`, or a function from messages to a text.
        method: `"window"`: lists of `window` documents, from the back to the front, `step` apart. `"single"`: all in
            one call. `"setwise"`: a heap, by choices of the best of `set_size`; sorts the first `top` places.
            `"pointwise"`: a grade from 0 to 3 for each; equal grades keep the order that came in.
        window: Documents of one list.
        step: From one list to the next, at most `window`.
        set_size: Documents of one choice.
        top: Places that the heap sorts; the others keep the order that came in.
        shuffles: Permutation self-consistency: each list is asked for so often in shuffled orders, and the answers
            become the order that they agree on best. 1 asks once, in the order that came in.
        max_passage_tokens: Most tokens of a document that are shown, its title included.
        find_tokens: The model's own tokens, by `tokens_of(tokenizer)`; a cautious estimate by default.
        on_failure: Where the server gives no answer: `"keep"` the order that came in, or `"raise"`. An answer that
            cannot be read never raises.

    Attributes:
        client: What asks the language model.

    Raises:
        InputError: If an option is not possible.
    """

    def __init__(
        self,
        chat: ChatClient | ChatModel | ChatFunction | str,
        *,
        method: Method = "window",
        window: int = 20,
        step: int = 10,
        set_size: int = 4,
        top: int = 10,
        shuffles: int = 1,
        max_passage_tokens: int = 300,
        find_tokens: FindTokens = estimate_tokens,
        on_failure: OnFailure = "keep",
    ) -> None:
        if method not in get_args(Method) or on_failure not in get_args(OnFailure):
            raise InputError(f"method is one of {get_args(Method)}, on_failure one of {get_args(OnFailure)}")
        if not 1 <= step <= window or window < 2 or set_size < 2 or min(top, shuffles) < 1:
            raise InputError("LLMReranker needs window >= 2, 1 <= step <= window, set_size >= 2, top and shuffles >= 1")
        if shuffles > 1 and method not in ("window", "single"):
            raise InputError(f"shuffles go with lists (method 'window' or 'single'), not with {method!r}")
        self.client = as_client(chat)
        self._asker = Asker(self.client, max_passage_tokens, find_tokens)
        self._method = method
        self._window, self._step = window, step
        self._set_size, self._top = set_size, top
        self._shuffles = shuffles
        self._on_failure = on_failure

    def __repr__(self) -> str:
        return f"LLMReranker({self.client.name!r}, method={self._method!r})"

    def rank(self, query: str, documents: Sequence[DocumentLike], *, top_k: int | None = None) -> Ranking:
        """Rank documents for a query.

        The score is 1 / rank, and for `"pointwise"` the grade. The ranking's only stage has the calls, tokens, costs,
        repairs and failures.

        Args:
            query: What to rank for.
            documents: Strings, `Document`s, or mappings with `text`.
            top_k: Keep the best k; all if None.

        Raises:
            InputError: If an argument cannot be used.
            ChatError: If the server gives no answer, under `on_failure="raise"`.
        """
        check_query(query)
        checked = to_documents(documents)
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k must be a whole number of at least 1, or None for all, not {top_k!r}")
        meter = Meter()
        scores = [1 / rank for rank in range(1, len(checked) + 1)]
        graded = self._method == "pointwise"
        try:
            order, grades = self._order(query, checked, meter)
            scores = grades or scores
        except ChatError as error:
            if self._on_failure == "raise":
                raise
            meter.fail(str(error))
            order, graded = list(range(len(checked))), False
        is_cut = self._asker.writer().is_cut
        hits = tuple(Hit(i, score, checked[i], is_cut(checked[i])) for i, score in zip(order, scores, strict=True))
        usage = meter.usage(self.client.prices)
        stage = Stage(self.client.name, len(checked), usage, meter.repairs, meter.failures)
        kind = "grade" if graded else "reciprocal rank"
        return Ranking(query, hits[:top_k], score_type=kind, model=self.client.name, stages=(stage,))

    def _order(self, query: str, documents: list[Document], meter: Meter) -> tuple[list[int], list[float]]:
        """Return the positions, best first, and for grades the score of each in that order."""
        count = len(documents)
        if self._method == "pointwise":
            return self._grade_all(query, documents, meter)
        if self._method == "setwise":
            choose = partial(self._choose, query, documents, meter)
            return heap_order(count, choose, top=self._top, set_size=self._set_size), []
        order = list(range(count))
        size = count if self._method == "single" else self._window
        for start, end in windows(count, size=max(size, 1), step=min(self._step, max(size, 1))):
            if end - start > 1:
                order[start:end] = self._permute(query, documents, order[start:end], meter)
        return order, []

    def _permute(self, query: str, documents: list[Document], positions: list[int], meter: Meter) -> list[int]:
        """Return positions in the order of the model, or that of several answers to shuffled lists."""
        lists = [positions] if self._shuffles == 1 else _shuffled(positions, self._shuffles, query)
        ask = partial(self._ask_for_order, query, documents, meter)
        answers = [answer for answer in self.client.map(ask, lists) if answer is not None]
        if len(answers) < 2:
            return answers[0] if answers else positions
        places = {position: place for place, position in enumerate(positions)}
        votes = [[places[position] for position in answer] for answer in answers]
        return [positions[place] for place in consensus(votes)]

    def _ask_for_order(
        self, query: str, documents: list[Document], meter: Meter, positions: list[int]
    ) -> list[int] | None:
        build = partial(listwise_prompt, query, [documents[position] for position in positions])
        read = partial(read_ranking, count=len(positions))
        order = self._asker.ask(build, read, meter, subject=f"a list of {len(positions)}")
        return None if order is None else [positions[i] for i in order]

    def _choose(self, query: str, documents: list[Document], meter: Meter, positions: list[int]) -> int:
        """Return the best of some positions; the first that came in where no answer can be read."""
        build = partial(setwise_prompt, query, [documents[position] for position in positions])
        read = partial(read_choice, count=len(positions))
        best = self._asker.ask(build, read, meter, subject=f"a choice of {len(positions)}")
        return min(positions) if best is None else positions[best]

    def _grade_all(self, query: str, documents: list[Document], meter: Meter) -> tuple[list[int], list[float]]:
        grade: Callable[[Document], object] = partial(Grader(self._asker).grade, query, meter=meter)
        found = [getattr(answer, "value", None) for answer in self.client.map(grade, documents)]
        grades = _filled(found)
        order = sorted(range(len(grades)), key=lambda i: -grades[i])
        return order, [grades[i] for i in order]


def _filled(grades: Sequence[float | None]) -> list[float]:
    """Give a document without a grade that of the one before it, so that it stays behind that one."""
    known = next((grade for grade in grades if grade is not None), 0.0)
    filled = []
    for grade in grades:
        known = known if grade is None else grade
        filled.append(float(known))
    return filled


def _shuffled(positions: list[int], times: int, query: str) -> list[list[int]]:
    """Return the same shuffles for the same query and list, so that the cache knows them."""
    seed = hashlib.sha256(f"{query}\n{positions}".encode("utf-8", "surrogatepass")).digest()
    generator = random.Random(seed)
    return [generator.sample(positions, len(positions)) for _ in range(times)]
