"""The bounded queue between the requests and the engine: whole requests come in, slices of many go out together.

Everything is counted in tokens. A request is admitted whole or refused at once: when the queue is full, or when what is
ahead of it takes longer than the request can wait. What goes out is at most a budget of tokens, taken from as many
requests as fit, in order of priority and arrival; a long request leaves half of every step to those behind it.

Source: iteration-level scheduling, Yu et al., "Orca" (2022), here with encoder passes in the place of decoding steps.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt

from crossrank.encoding.pairs import EncodedPairs
from crossrank.reranker import PreparedDocuments
from crossrank.serving.problems import Kind, Problem

# The part of its time that a request may have to wait: what was measured may not hold, and answering takes time, too.
_PROMISE = 2 / 3
# The part of its room up to which requests are read at all: what is left is for those that are being read already.
_READ_PART = 0.95
# How far back the measured speed looks.
_MEMORY_S = 5.0

Clock = Callable[[], float]


class Ticket:
    """A request's place in the queue; its fields change under the queue's lock alone.

    Attributes:
        cost: Tokens that it still holds: an estimate until `TokenQueue.fill`, then what is not computed yet.
        deadline: When nobody waits any more, on the queue's clock.
        prepared: The pairs, once they are token ids.
        logits: Of the pairs, float32 `(P, L)`, filled slice by slice.
        admitted_at, filled_at, started_at, finished_at: On the queue's clock; 0 for what has not happened.
        error: Why there are no logits.
    """

    def __init__(self, cost: int, *, deadline: float, priority: int, sequence: int, now: float) -> None:
        self.cost = cost
        self.deadline = deadline
        self.order = (priority, sequence)
        self.prepared: PreparedDocuments | None = None
        self.logits: npt.NDArray[np.float32] | None = None
        self.error: Exception | None = None
        self.admitted_at = now
        self.filled_at = self.started_at = self.finished_at = 0.0
        self.on_done: Callable[[], None] = lambda: None
        self._ends: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._num_taken = 0
        self._num_computed = 0

    def __lt__(self, other: Ticket) -> bool:
        return self.order < other.order

    @property
    def is_done(self) -> bool:
        """Whether it has all its logits, or an error."""
        return self.finished_at > 0

    @property
    def has_more(self) -> bool:
        """Whether some of its pairs were not handed out yet."""
        return self._num_taken < len(self._ends)

    def fill(self, prepared: PreparedDocuments) -> None:
        """Put in the token ids."""
        self.prepared = prepared
        self._ends = np.cumsum(prepared.encoded.lengths)
        self.cost = int(self._ends[-1])

    def take(self, tokens: int, *, at_least_one: bool) -> tuple[slice, int]:
        """Return the next pairs that fit in a number of tokens, and how many tokens they have."""
        start = self._num_taken
        before = int(self._ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(self._ends, before + tokens, side="right")), start + at_least_one)
        self._num_taken = stop
        return slice(start, stop), (int(self._ends[stop - 1]) - before if stop > start else 0)

    def put(self, rows: slice, logits: npt.NDArray[np.float32]) -> bool:
        """Put in the logits of some pairs; return whether these were the last ones."""
        if self.logits is None:
            self.logits = np.empty((len(self._ends), logits.shape[1]), np.float32)
        self.logits[rows] = logits
        self._num_computed += rows.stop - rows.start
        return self._num_computed == len(self._ends)


@dataclass(frozen=True)
class Slice:
    """Some pairs of one request, to be computed with those of others."""

    ticket: Ticket
    rows: slice
    num_tokens: int

    @property
    def encoded(self) -> EncodedPairs:
        """The pairs."""
        assert self.ticket.prepared is not None
        return self.ticket.prepared.encoded[self.rows]


class TokenQueue:
    """A bounded queue of requests, counted in tokens; safe to use from many threads.

    Args:
        max_tokens: Most tokens that wait or are computed. One request may be larger, where it is alone.
        max_requests: Most requests of one step; any number if None.
        clock: In seconds.
    """

    def __init__(self, max_tokens: int, *, max_requests: int | None = None, clock: Clock = time.monotonic) -> None:
        self.max_tokens = max_tokens
        self._max_requests = max_requests
        self._clock = clock
        self._sequence = count()
        self._changed = threading.Condition()
        self._tickets: set[Ticket] = set()
        self._ready: list[Ticket] = []
        self._num_tokens = 0
        self._closed = False
        self._speed_tokens = self._speed_s = 0.0
        self._working_since = clock()
        self._step_tokens = 0

    @property
    def num_tokens(self) -> int:
        """Tokens that wait or are computed."""
        return self._num_tokens

    @property
    def num_requests(self) -> int:
        """Requests that wait or are computed."""
        return len(self._tickets)

    @property
    def tokens_per_s(self) -> float:
        """The speed of the last seconds; infinite before the first measurement."""
        return self._speed_tokens / self._speed_s if self._speed_s else math.inf

    def admit(self, cost: int, *, deadline: float, priority: int = 0) -> Ticket:
        """Reserve the tokens of a whole request.

        Args:
            cost: An estimate of its tokens.
            deadline: When nobody waits any more, on the queue's clock.
            priority: Lower is computed earlier.

        Raises:
            Problem: If the queue is full or too slow for the deadline; says when to try again.
        """
        with self._changed:
            now = self._clock()
            if self._closed:
                raise Problem(Kind.UNAVAILABLE, "the model is being unloaded or the server stops", retry_after_s=1)
            problem = self._refusal(cost, deadline)
            if problem is not None:
                raise problem
            ticket = Ticket(cost, deadline=deadline, priority=priority, sequence=next(self._sequence), now=now)
            self._tickets.add(ticket)
            self._num_tokens += cost
            return ticket

    def refusal(self, *, deadline: float) -> Problem | None:
        """Return why a request that has not been read yet need not be, or None; as for `admit`, but with less room."""
        return self._refusal(0, deadline, part=_READ_PART)

    def fill(self, ticket: Ticket, prepared: PreparedDocuments) -> None:
        """Put the token ids of an admitted request in line for computing; one that was withdrawn is left out."""
        with self._changed:
            if ticket.is_done:
                return
            self._num_tokens -= ticket.cost
            ticket.fill(prepared)
            self._num_tokens += ticket.cost
            ticket.filled_at = self._clock()
            insort(self._ready, ticket)
            self._changed.notify()

    def take(self, budget_tokens: int) -> list[Slice]:
        """Wait for work and return at most so many tokens of it, unless one pair alone is longer.

        Requests that nobody waits for any more are dropped here.

        Returns:
            The next step; nothing once the queue is closed and empty.
        """
        with self._changed:
            self._step_tokens = budget_tokens
            while True:
                self._drop_late()
                if self._ready:
                    return self._next_step(budget_tokens)
                if self._closed and not self._tickets:
                    return []
                self._changed.wait()
                self._working_since = self._clock()

    def put(self, step: list[Slice], logits: npt.NDArray[np.float32]) -> None:
        """Hand back what a step gave, float32 `(P, L)` in the order of its slices.

        The time since the step before counts, where there was no pause: a busy machine spends much between two.
        """
        with self._changed:
            now = self._clock()
            self._observe(sum(part.num_tokens for part in step), now - self._working_since)
            self._working_since = now
            start = 0
            for part in step:
                stop = start + part.rows.stop - part.rows.start
                if not part.ticket.is_done:
                    self._num_tokens -= part.num_tokens
                    part.ticket.cost -= part.num_tokens
                    if part.ticket.put(part.rows, logits[start:stop]):
                        self._finish(part.ticket)
                start = stop

    def withdraw(self, ticket: Ticket, error: Exception | None = None) -> None:
        """Drop a request that has failed, or that nobody waits for; one that is done stays as it is."""
        with self._changed:
            if not ticket.is_done:
                self._fail(ticket, error or Problem(Kind.ABANDONED, "nobody waits for the answer"))

    def withdraw_all(self, error: Exception) -> None:
        """Drop all requests."""
        with self._changed:
            for ticket in list(self._tickets):
                self._fail(ticket, error)

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Take a measurement of the speed into account."""
        with self._changed:
            self._observe(num_tokens, seconds)

    def close(self) -> None:
        """Admit nothing more; `take` returns what is left and then nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _refusal(self, cost: int, deadline: float, *, part: float = 1.0) -> Problem | None:
        in_time = self.tokens_per_s * max(0.0, deadline - self._clock()) * _PROMISE
        if 0 < self._step_tokens < in_time < math.inf:
            in_time -= in_time % self._step_tokens  # a request is done when its whole step is
        limit = min(self.max_tokens, in_time) * part
        surplus = self._num_tokens + cost - limit
        if surplus <= 0 or not self._num_tokens:
            return None
        return Problem(
            Kind.OVERLOADED,
            f"the queue holds {self._num_tokens} tokens and has no room for {f'about {cost} ' if cost else ''}more: "
            "try again later",
            retry_after_s=max(1, math.ceil(min(surplus / self.tokens_per_s, 60))),
        )

    def _next_step(self, budget_tokens: int) -> list[Slice]:
        step: list[Slice] = []
        left = budget_tokens
        tickets = self._ready[: self._max_requests]
        # First to everybody in line at most half, then what is left to the first in line.
        for share in (budget_tokens // 2, budget_tokens):
            for ticket in tickets:
                if left > 0 and ticket.has_more:
                    rows, num_tokens = ticket.take(min(left, share), at_least_one=not step)
                    if num_tokens:
                        ticket.started_at = ticket.started_at or self._clock()
                        step.append(Slice(ticket, rows, num_tokens))
                        left -= num_tokens
        self._ready = [ticket for ticket in self._ready if ticket.has_more]
        return step

    def _drop_late(self) -> None:
        now = self._clock()
        for ticket in [ticket for ticket in self._ready if ticket.deadline <= now]:
            self._fail(ticket, Problem(Kind.TIMEOUT, "the request's time was over before it was computed"))

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        ticket.error = error
        if ticket in self._ready:
            self._ready.remove(ticket)
        self._finish(ticket)

    def _finish(self, ticket: Ticket) -> None:
        ticket.finished_at = self._clock()
        self._num_tokens -= ticket.cost
        ticket.cost = 0
        self._tickets.discard(ticket)
        ticket.on_done()
        self._changed.notify_all()

    def _observe(self, num_tokens: int, seconds: float) -> None:
        kept = math.exp(-seconds / _MEMORY_S)
        self._speed_tokens = self._speed_tokens * kept + num_tokens
        self._speed_s = self._speed_s * kept + seconds
