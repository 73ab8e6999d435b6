"""What all endpoints share: the models, who may call, and one request from its body to its reply."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from starlette.requests import Request

from crossrank.serving.bodies import read_json, unless_abandoned
from crossrank.serving.dialects.choice import choose
from crossrank.serving.dialects.dialect import Dialect, Reply
from crossrank.serving.exchange import RerankRequest, RerankResult
from crossrank.serving.image_urls import ImageFetcher
from crossrank.serving.images import resolve_images
from crossrank.serving.loop_lag import LoopLag
from crossrank.serving.metrics import Metrics
from crossrank.serving.models import Models
from crossrank.serving.options import ServeOptions
from crossrank.serving.problems import Kind, Problem
from crossrank.serving.queue import Ticket
from crossrank.serving.request_log import RequestRecord
from crossrank.serving.runtime import ModelRuntime, State
from crossrank.serving.security import CallerLimits, Hosts, Keys
from crossrank.serving.tracing import Tracer

_log = logging.getLogger("crossrank.serving")

_VERBOSE_HEADER = "x-verbose"
_TIMEOUT_HEADER = "x-request-timeout"
# The part of its time that a request may wait to be read, as its answer will to be sent; and the most seconds.
_LAG_PART, _MOST_LAG_S = 1 / 6, 1.0


class Service:
    """The server without its routes.

    Attributes:
        options: What it was told.
        metrics: What it counts.
        models: What it serves.
        hosts: The names that it answers to.
        loop_lag: How late requests are read.
        is_draining: Whether it answers what it has and takes nothing new.
        num_running: Rerank requests that are not answered yet.
    """

    def __init__(self, options: ServeOptions, *, fetcher: ImageFetcher | None = None) -> None:
        self.options = options
        self.metrics = Metrics()
        self.models = Models(options, self.metrics)
        self.tracer = Tracer.to_endpoint(options.otlp_endpoint)
        self.loop_lag = LoopLag()
        self.is_draining = False
        self.num_running = 0
        self._keys = Keys(options.api_keys)
        self._admin_keys = Keys({"admin": options.admin_key} if options.admin_key else {})
        self.hosts = Hosts(options.allowed_hosts)
        self._limits = CallerLimits(options.requests_per_minute, options.concurrent_requests)
        self._fetcher = fetcher or ImageFetcher(options.images)

    def identify(self, request: Request) -> str:
        """Return the caller's name.

        Raises:
            Problem: If the request has no valid key where one is needed.
        """
        return self._keys.identify(request.headers)

    @contextmanager
    def caller(self, request: Request) -> Iterator[None]:
        """Hold one of the caller's places for work that is no reranking.

        Raises:
            Problem: If the caller may not, or has none left.
        """
        with self._limits.request(self.identify(request)):
            yield

    def check_admin(self, request: Request) -> None:
        """Check that the caller may load and unload models.

        Raises:
            Problem: If nobody may, or the key is not the admin's.
        """
        if not self._admin_keys:
            raise Problem(Kind.FORBIDDEN, "no admin key is set: models cannot be loaded or unloaded here")
        self._admin_keys.identify(request.headers)
        if self.options.workers > 1:
            raise Problem(
                Kind.CONFLICT, "with several workers a model would be loaded into one of them: restart instead"
            )

    def readiness(self) -> Problem | None:
        """Return why no requests should be sent here, or None."""
        if self.is_draining:
            return Problem(Kind.UNAVAILABLE, "the server is stopping")
        states = self.models.states
        if not states:
            return Problem(Kind.UNAVAILABLE, "no model has been loaded yet")
        failed = [name for name, state in states.items() if state is not State.READY]
        return Problem(Kind.UNAVAILABLE, f"the backend of {', '.join(failed)} has failed") if failed else None

    def liveness(self) -> Problem | None:
        """Return why the process should be restarted, or None."""
        dead = [name for name, state in self.models.states.items() if state is State.DEAD]
        return Problem(Kind.UNAVAILABLE, f"the backend of {', '.join(dead)} does not recover") if dead else None

    async def rerank(self, dialect: Dialect[Any], path: str, request: Request) -> Reply:
        """Return the reply to a request; never raises a `Problem`.

        Args:
            dialect: That of the path.
            path: Without the prefix of a dialect.
            request: With its body not read yet.
        """
        record: RequestRecord = request.state.record
        record.dialect = dialect.name
        self.num_running += 1
        try:
            if self.is_draining:
                raise Problem(Kind.UNAVAILABLE, "the server is stopping: ask another one", retry_after_s=1)
            record.caller = self.identify(request)
            seconds = self._seconds(request.headers)
            # Until the body is read, the path and the headers say alone which dialect it is.
            dialect = choose(dialect, path, request.headers, None)
            self._check_load(seconds)
            with self._limits.request(record.caller):
                deadline = time.monotonic() + seconds
                async with asyncio.timeout(deadline - time.monotonic()):
                    body = await read_json(request, max_bytes=self.options.max_body_bytes)
                    dialect = choose(dialect, path, request.headers, body)
                    record.dialect = dialect.name
                    record.request = wanted = self._parse(dialect, body, request.headers)
                    runtime = self.models.get(wanted.model)
                    # Without a pause since the look at the queue: others would be read for the same room.
                    with runtime.place(wanted, deadline=deadline) as ticket:
                        answer = self._answer(runtime, wanted, ticket)
                        record.result = result = await unless_abandoned(request, answer)
                return dialect.reply(wanted, result)
        except TimeoutError:
            return self._refuse(dialect, Problem(Kind.TIMEOUT, "the request's time is over"), record)
        except Problem as problem:
            return self._refuse(dialect, problem, record)
        except Exception as error:
            _log.error("a request failed: %s", type(error).__name__, exc_info=True)
            return self._refuse(dialect, Problem(Kind.BACKEND, "the server made a mistake: see its log"), record)
        finally:
            self.num_running -= 1

    def _refuse(self, dialect: Dialect[Any], problem: Problem, record: RequestRecord) -> Reply:
        record.problem = problem.kind
        self.metrics.rejection(dialect.name, problem.kind.value)
        return dialect.refuse(problem)

    def _parse(self, dialect: Dialect[Any], body: object, headers: Mapping[str, str]) -> RerankRequest:
        wanted = dialect.parse(body)
        if len(wanted.pairs) > self.options.max_documents:
            raise Problem(
                Kind.TOO_MANY_DOCUMENTS,
                f"invalid request: {len(wanted.pairs)} documents, but at most {self.options.max_documents} at once",
            )
        asked = headers.get(_VERBOSE_HEADER, "").lower() in ("1", "true", "yes")
        return replace(wanted, verbose=wanted.verbose or asked)

    async def _answer(self, runtime: ModelRuntime, wanted: RerankRequest, ticket: Ticket) -> RerankResult:
        return await runtime.answer(await resolve_images(wanted, self.options.images, self._fetcher), ticket)

    def _check_load(self, seconds: float) -> None:
        """Refuse a request that nothing has time for; its body has not been read, and does not need to be."""
        lag_s = self.loop_lag.seconds
        if lag_s > min(seconds * _LAG_PART, _MOST_LAG_S):
            raise Problem(
                Kind.OVERLOADED, f"requests wait {lag_s:.1f} s before they are read: try again later", retry_after_s=1
            )
        deadline = time.monotonic() + seconds
        refusals = [runtime.queue.refusal(deadline=deadline) for runtime in self.models.all]
        if refusals and refusals[0] and all(refusals):  # which model it is for stands in the body
            raise refusals[0]

    def _seconds(self, headers: Mapping[str, str]) -> float:
        """Return how long the client waits."""
        stated = headers.get(_TIMEOUT_HEADER)
        if stated is None:
            return self.options.request_timeout_s
        try:
            seconds = float(stated.strip().removesuffix("s"))
        except ValueError:
            seconds = -1.0
        if not seconds > 0:
            raise Problem(Kind.MALFORMED, f"invalid request: {_TIMEOUT_HEADER} must be seconds above 0, not {stated!r}")
        return min(seconds, self.options.request_timeout_s)
