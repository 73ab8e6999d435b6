"""Around every request: an id, safe headers, a log line, metrics and a trace."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossrank.serving.problems import Problem
from crossrank.serving.replies import openai_response
from crossrank.serving.request_log import REQUESTS, RequestRecord
from crossrank.serving.service import Service

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_POLICY = b"content-security-policy"
_SAFE_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
    _POLICY: b"default-src 'none'; frame-ancestors 'none'",
}
# Swagger's page takes its script and its style from where fastapi says.
_DOCS_POLICY = (
    b"default-src 'none'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; "
    b"style-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; img-src 'self' data: https://fastapi.tiangolo.com; "
    b"connect-src 'self'; frame-ancestors 'none'"
)
DOCS_PATH = "/docs"
# Asked every few seconds by machines; logged at debug.
_PROBES = ("/health", "/ping", "/v1/health/live", "/v1/health/ready", "/metrics", "/v1/metrics")


class Surroundings:
    """An ASGI middleware; it wraps `receive` in nothing, so that a client that goes away is seen.

    Args:
        app: What it surrounds.
        service: Whose metrics and traces are written.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        record = RequestRecord(request_id, scope["method"], scope["path"])
        scope.setdefault("state", {})["record"] = record
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                safe = _SAFE_HEADERS | {_POLICY: _DOCS_POLICY} if scope["path"] == DOCS_PATH else _SAFE_HEADERS
                given = message["headers"]
                names = {name for name, _ in given}
                own = [(b"x-request-id", request_id.encode()), *(pair for pair in safe.items() if pair[0] not in names)]
                message["headers"] = [*given, *own]
            await send(message)

        try:
            self._service.hosts.check(headers.get("host", ""))
            await self._app(scope, receive, send_with_headers)
        except Problem as problem:
            record.problem = problem.kind
            await openai_response(problem)(scope, receive, send_with_headers)
        finally:
            self._report(record, status, time.monotonic() - began, headers)

    def _report(self, record: RequestRecord, status: int, seconds: float, headers: Headers) -> None:
        fields = record.fields(status=status, seconds=seconds, content=self._service.options.log_content)
        if record.path in _PROBES:
            REQUESTS.debug("probe", extra={"fields": fields})
            return
        REQUESTS.info("request", extra={"fields": fields})
        self._service.metrics.request(record.dialect, status, seconds)
        self._service.tracer.request(
            f"{record.method} {record.path}",
            headers=headers,
            seconds=seconds,
            result=record.result,
            attributes={
                "http.response.status_code": status,
                "crossrank.request_id": record.id,
                "crossrank.dialect": record.dialect,
                "crossrank.model": record.result.model if record.result else None,
                "crossrank.documents": len(record.request.pairs) if record.request else None,
                "crossrank.tokens": record.result.num_tokens if record.result else None,
            },
        )


class Shortcut:
    """An ASGI middleware that hands a request to its endpoint where the path alone says which one that is.

    Finding it by routes and calling it through the layers of the framework takes as long as refusing a request.

    Args:
        app: What answers everything else.
        endpoints: By path, for POST.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        endpoint = self._endpoints.get(scope["path"]) if is_post else None
        if endpoint is None:
            await self._app(scope, receive, send)
        else:
            response = await endpoint(Request(scope, receive))
            await response(scope, receive, send)
