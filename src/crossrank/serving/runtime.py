"""One served model: its queue, the threads that tokenise beside the one that computes, and its health."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from enum import StrEnum

import numpy as np

from crossrank.encoding.pairs import concatenate
from crossrank.errors import InputError, NumericalError
from crossrank.inference.overflow import ScoredDocuments
from crossrank.inference.planner import padding_share
from crossrank.reranker import Reranker, sigmoid
from crossrank.serving.estimate import estimate_tokens
from crossrank.serving.exchange import RerankRequest, RerankResult, Scale, Timings
from crossrank.serving.metrics import Metrics
from crossrank.serving.options import ServeOptions
from crossrank.serving.problems import Kind, Problem
from crossrank.serving.queue import Slice, Ticket, TokenQueue
from crossrank.types import Hit, Scores

# Tokens of one step: a fraction of a second on a CPU, enough to fill any other device.
_CPU_BATCH_TOKENS, _DEVICE_BATCH_TOKENS = 2048, 32768
# Between two tries of a backend that has failed.
_PROBE_INTERVAL_S = 5.0
_WARM_UP = [("which planet is red", "Mars is called the red planet because iron oxide covers its surface. " * 6)] * 16

_log = logging.getLogger("crossrank.serving")


class State(StrEnum):
    """Of a served model."""

    READY = "ready"
    FAILED = "failed"  # the backend has failed and will be tried again
    DEAD = "dead"  # it has failed again: a new process may help
    STOPPED = "stopped"


class ModelRuntime:
    """A model that answers requests of many clients.

    Attributes:
        name: That it is served under.
        reranker: The loaded checkpoint.
        revision: Which weights it has.
        created: Unix time of the loading.
        state: Whether it can answer.
        batch_tokens: Most tokens of one step.
        queue: What waits.
    """

    num_tokenisers = 2

    def __init__(
        self, name: str, reranker: Reranker, options: ServeOptions, metrics: Metrics, *, revision: str | None = None
    ) -> None:
        self.name = name
        self.reranker = reranker
        self.revision = revision
        self.created = int(time.time())
        self.state = State.READY
        self.queue = TokenQueue(options.max_queue_tokens, max_requests=options.max_batch_requests)
        on_cpu = reranker.engine.device == "cpu"
        self.batch_tokens = options.batch_tokens or (_CPU_BATCH_TOKENS if on_cpu else _DEVICE_BATCH_TOKENS)
        self._on_overflow = options.on_overflow
        self._metrics = metrics
        self._stopping = threading.Event()
        self._warm_up = reranker.prepare(_WARM_UP).encoded
        self._tokenisers = ThreadPoolExecutor(self.num_tokenisers, thread_name_prefix=f"tokenise-{name}")
        self._computing = threading.Thread(target=self._compute_forever, name=f"compute-{name}", daemon=True)

    def start(self) -> None:
        """Warm the model up, which also measures its speed, and begin to answer.

        Raises:
            RerankError: If the model cannot compute.
        """
        for _ in range(2):
            began = time.monotonic()
            self._check_backend()
        # The second time, because the first one also prepares the runtime for the shapes.
        self.queue.observe(int(self._warm_up.lengths.sum()), time.monotonic() - began)
        self._metrics.queue(self.name, self.queue)
        self._computing.start()

    @contextmanager
    def place(self, request: RerankRequest, *, deadline: float) -> Iterator[Ticket]:
        """Hold a place in the queue for a request, whose images need not be decoded yet.

        Args:
            request: Of which the lengths of its texts count.
            deadline: On the clock of `time.monotonic`.

        Raises:
            Problem: If there is no room or no time, or the backend has failed.
        """
        if self.state is not State.READY:
            raise Problem(Kind.UNAVAILABLE, f"model {self.name} is {self.state.value}", retry_after_s=5)
        ticket = self.queue.admit(self._estimate(request), deadline=deadline, priority=request.priority)
        try:
            yield ticket
        finally:
            self.queue.withdraw(ticket)

    async def answer(self, request: RerankRequest, ticket: Ticket) -> RerankResult:
        """Return the result of a request, with its images, if any, decoded, that has a place in the queue.

        Raises:
            Problem: If its time is over, the model cannot use the request, or the backend fails.
        """
        await self._wait_for(ticket, request)
        if ticket.error is not None:
            raise ticket.error
        return self._result(request, ticket)

    def stop(self, *, timeout_s: float | None = None) -> None:
        """Answer what was admitted, then stop; what is left after the timeout is refused."""
        self.queue.close()
        self._stopping.set()
        if self._computing.is_alive():
            self._computing.join(timeout_s)
        self.queue.withdraw_all(Problem(Kind.UNAVAILABLE, "the model has been stopped", retry_after_s=1))
        self.state = State.STOPPED
        self._tokenisers.shutdown(wait=False, cancel_futures=True)
        self._metrics.forget(self.name)

    async def _wait_for(self, ticket: Ticket, request: RerankRequest) -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        ticket.on_done = lambda: _wake(loop, done)
        self._tokenisers.submit(self._tokenise, ticket, request)
        try:
            async with asyncio.timeout(ticket.deadline - time.monotonic()):
                await done.wait()
        except TimeoutError:
            raise Problem(Kind.TIMEOUT, "the request's time was over before it was computed") from None

    def _tokenise(self, ticket: Ticket, request: RerankRequest) -> None:
        """Runs in a thread beside the one that computes."""
        if ticket.is_done:
            return
        try:
            prepared = self.reranker.prepare(
                request.pairs,
                on_overflow=request.on_overflow or self._on_overflow,
                truncation=request.truncation,
                # Clients send one to any model; where there is no place for it, the answer warns of that.
                instruction=request.instruction if self.reranker.takes_instruction else None,
            )
        except InputError as error:
            self.queue.withdraw(ticket, Problem(Kind.UNUSABLE, str(error)))
        except Exception as error:
            _log.error("tokenising failed: %s", type(error).__name__, exc_info=True)
            self.queue.withdraw(ticket, Problem(Kind.BACKEND, "the request could not be tokenised"))
        else:
            self.queue.fill(ticket, prepared)

    def _compute_forever(self) -> None:
        while step := self.queue.take(self.batch_tokens):
            if not self._compute(step):
                self._recover()

    def _compute(self, step: list[Slice]) -> bool:
        """Compute a step; return whether the backend works."""
        encoded = concatenate([part.encoded for part in step])
        began = time.monotonic()
        try:
            logits = self.reranker.compute(encoded)
        except Exception as error:
            # An image that passed for one, and is cut short, is known when it is decoded: its request's own fault.
            others = self._refuse_unreadable(step) if isinstance(error, InputError) else step
            if len(others) < len(step):
                return not others or self._compute(others)
            # The traceback of a runtime holds shapes and kernels, never texts.
            _log.error("the backend of model %s failed: %s", self.name, type(error).__name__, exc_info=True)
            self.state = State.FAILED
            self.queue.withdraw_all(Problem(Kind.BACKEND, f"the backend of model {self.name} failed"))
            return False
        seconds = time.monotonic() - began
        padding = padding_share(encoded.lengths, self.reranker.engine.plan(encoded.lengths))
        self.queue.put(step, logits)
        self._metrics.step(self.name, len({part.ticket for part in step}), encoded.lengths, padding, seconds)
        self._metrics.queue(self.name, self.queue)
        return True

    def _refuse_unreadable(self, step: list[Slice]) -> list[Slice]:
        """Refuse the requests of a step that have an image that cannot be read, and return the slices of the others."""
        others = []
        for part in step:
            try:
                for image in part.encoded.images:
                    if image is not None:
                        image.pixels()
            except InputError as error:
                self.queue.withdraw(part.ticket, Problem(Kind.UNUSABLE, str(error)))
            else:
                others.append(part)
        return others

    def _recover(self) -> None:
        """Try the backend until it works again or the server stops."""
        while not self._stopping.wait(_PROBE_INTERVAL_S):
            try:
                self._check_backend()
            except Exception as error:
                _log.error("the backend of model %s still fails: %s", self.name, type(error).__name__)
                self.state = State.DEAD
            else:
                _log.warning("the backend of model %s works again", self.name)
                self.state = State.READY
                return

    def _check_backend(self) -> None:
        if not np.isfinite(self.reranker.compute(self._warm_up)).all():
            raise NumericalError(f"model {self.name} gives NaN or infinity for plain English")

    def _result(self, request: RerankRequest, ticket: Ticket) -> RerankResult:
        assert ticket.prepared is not None and ticket.logits is not None
        try:
            scored = self.reranker.collect(ticket.prepared, ticket.logits)
        except NumericalError as error:
            raise Problem(Kind.BACKEND, str(error)) from None
        logits, _ = self.reranker.to_scores(scored, "logit")
        scores, score_type = self._scaled(request.scale, scored, logits)
        # What the sigmoid rounds to the same number is still told apart by its logits, down to their own rounding.
        order = np.lexsort((np.arange(len(scores)), -np.round(logits, 3), -scores)).tolist()
        values, truncated = scores.tolist(), scored.truncated.tolist()
        documents = request.documents
        hits = tuple(Hit(i, values[i], documents[i], truncated[i], scored.spans[i]) for i in order)
        timings = Timings(
            tokenise_s=ticket.filled_at - ticket.admitted_at,
            queue_s=ticket.started_at - ticket.filled_at,
            compute_s=ticket.finished_at - ticket.started_at,
            total_s=ticket.finished_at - ticket.admitted_at,
        )
        num_truncated = sum(truncated)
        self._metrics.answered(self.name, timings, len(hits), num_truncated)
        return RerankResult(
            hits=hits,
            score_type=score_type,
            model=self.name,
            revision=self.revision,
            num_tokens=int(ticket.prepared.encoded.lengths.sum()),
            device=self.reranker.engine.device,
            timings=timings,
            warnings=_warnings(request, num_truncated, self.reranker.takes_instruction),
        )

    def _scaled(self, scale: Scale, scored: ScoredDocuments, logits: Scores) -> tuple[Scores, str]:
        """Return the scores on the scale that a dialect promises, and what that scale is called."""
        checkpoint = self.reranker.checkpoint
        if scale == "logit" or (scale == "activation" and checkpoint.activation == "identity"):
            return logits, "logit"
        if scale == "probability" or checkpoint.num_labels > 1:
            scores, kind = self.reranker.to_scores(scored, "probability")
            if kind == "probability":
                return scores, kind
        return sigmoid(logits), "sigmoid"

    def _estimate(self, request: RerankRequest) -> int:
        visual = self.reranker.checkpoint.visual
        return estimate_tokens(
            request,
            max_length=self.reranker.checkpoint.max_length,
            on_overflow=request.on_overflow or self._on_overflow,
            image_tokens=visual.sizing.max_tokens if visual else 0,
        )


def _warnings(request: RerankRequest, num_truncated: int, takes_instruction: bool) -> tuple[str, ...]:
    warnings = []
    if num_truncated:
        warnings.append(f"{num_truncated} of {len(request.pairs)} documents were truncated")
    if request.instruction and not takes_instruction:
        warnings.append("the model takes no instruction: it was not read")
    return tuple(warnings)


def _wake(loop: asyncio.AbstractEventLoop, done: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop has been closed: nobody waits
        loop.call_soon_threadsafe(done.set)
