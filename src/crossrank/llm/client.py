"""A chat model with what every call needs: the cache, bounded concurrency, a rate limit, and counts of what it cost."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar, cast

from crossrank.errors import InputError
from crossrank.llm.answer_cache import AnswerCache, answer_key
from crossrank.llm.chat import CallableChat, ChatFunction, ChatModel, Completion, Messages, Schema
from crossrank.llm.opening import open_chat
from crossrank.llm.tokens import estimate_tokens
from crossrank.types import Usage

# Reasoning comes on top of a short answer; it is a cap, not a cost.
MAX_ANSWER_TOKENS = 4096

Item = TypeVar("Item")
Result = TypeVar("Result")


class Prices(NamedTuple):
    """US dollars for a million tokens."""

    input: float
    output: float

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """Return what these tokens cost, in US dollars."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


class Meter:
    """Counts what the calls for one piece of work took; shared by the threads that make them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._repairs: Counter[str] = Counter()
        self._failures: list[str] = []

    def count(self, completion: Completion, messages: Messages, *, from_cache: bool) -> None:
        """Count one answer."""
        if from_cache:
            counts = {"cached_calls": 1}
        else:
            read, written = completion.input_tokens, completion.output_tokens
            counts = {
                "calls": 1,
                "retries": completion.retries,
                "estimated_calls": int(read is None or written is None),
                "input_tokens": count_tokens(messages) if read is None else read,
                "output_tokens": len(estimate_tokens(completion.text)) if written is None else written,
            }
        with self._lock:
            self._counts.update(counts)

    def repair(self, kind: str, times: int = 1) -> None:
        """Count a fault of an answer that was repaired."""
        with self._lock:
            self._repairs[kind] += times

    def fail(self, reason: str) -> None:
        """Note why something was left as it was."""
        with self._lock:
            self._failures.append(reason)

    @property
    def repairs(self) -> dict[str, int]:
        """Faults that were repaired, by kind."""
        with self._lock:
            return {kind: times for kind, times in self._repairs.items() if times}

    @property
    def failures(self) -> tuple[str, ...]:
        """The reasons, in the order in which they came."""
        with self._lock:
            return tuple(self._failures)

    def usage(self, prices: Prices | None) -> Usage:
        """Return the counts so far, with what they cost where prices are given."""
        with self._lock:
            counts = dict(self._counts)
        usage = Usage(**counts)
        cost = prices.cost(usage.input_tokens, usage.output_tokens) if prices else None
        return Usage(**counts, cost_usd=cost)


def count_tokens(messages: Messages) -> int:
    """Return about how many tokens a conversation has, with 4 a message for what the server adds."""
    return sum(len(estimate_tokens(message["content"])) + 4 for message in messages)


class ChatClient:
    """A chat model for many threads: no more than `concurrency` calls at a time, whoever makes them.

    Args:
        chat: A chat model, a name as `open_chat` takes it, or a function from messages to a text.
        prices: For costs in results; without them tokens alone are counted.
        cache: Answers that are there are not asked for again.
        concurrency: Most calls at a time, at least 1.
        per_minute: Most calls that begin in a minute; no limit if None.
        max_answer_tokens: Most tokens of an answer.

    Raises:
        InputError: If an option is not possible.
    """

    def __init__(
        self,
        chat: ChatModel | ChatFunction | str,
        *,
        prices: Prices | None = None,
        cache: AnswerCache | None = None,
        concurrency: int = 8,
        per_minute: float | None = None,
        max_answer_tokens: int = MAX_ANSWER_TOKENS,
    ) -> None:
        if concurrency < 1 or max_answer_tokens < 1 or (per_minute is not None and per_minute <= 0):
            raise InputError("concurrency and max_answer_tokens must be at least 1, per_minute above 0")
        self._model = _as_model(chat)
        self.name = self._model.name
        self.prices = prices
        self.concurrency = concurrency
        self.max_answer_tokens = max_answer_tokens
        self._cache = cache
        self._slots = threading.BoundedSemaphore(concurrency)
        self._pace = _Pace(60 / per_minute) if per_minute else None

    def ask(self, messages: Messages, meter: Meter, *, schema: Schema, max_tokens: int | None = None) -> Completion:
        """Return the answer to a conversation, from the cache where it is there, and count it.

        Raises:
            ChatError: If there is no answer, after all retries.
        """
        limit = max_tokens or self.max_answer_tokens
        key = answer_key(self._model, messages, schema=schema, max_tokens=limit) if self._cache else ""
        if self._cache and (kept := self._cache.get(key)):
            meter.count(kept, messages, from_cache=True)
            return kept
        with self._slots:
            if self._pace:
                self._pace.wait()
            completion = self._model.complete(messages, schema=schema, max_tokens=limit)
        if self._cache:
            self._cache.put(key, completion)
        meter.count(completion, messages, from_cache=False)
        return completion

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the results in the order of the items, which are taken a little ahead and worked on in parallel.

        When the loop over it ends early, what has not begun is dropped.
        """
        pending: deque[Future[Result]] = deque()
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="crossrank-llm")
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * self.concurrency:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def as_client(chat: ChatClient | ChatModel | ChatFunction | str) -> ChatClient:
    """Return a client for whatever a caller has: a client as it is, anything else with the usual settings."""
    return chat if isinstance(chat, ChatClient) else ChatClient(chat)


def _as_model(chat: ChatModel | ChatFunction | str) -> ChatModel:
    if isinstance(chat, str):
        return open_chat(chat)
    # Told apart by the method: an object that can be called too is a model.
    model: Any = chat if hasattr(chat, "complete") else CallableChat(chat)
    return cast("ChatModel", model)


class _Pace:
    """Lets calls begin no closer together than an interval."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._next_s = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            begin = max(time.monotonic(), self._next_s)
            self._next_s = begin + self._interval_s
        time.sleep(max(begin - time.monotonic(), 0.0))
