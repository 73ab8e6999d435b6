"""The app: which path goes to which dialect, and the endpoints about the server itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from crossrank import __version__
from crossrank.serving.admin import add_admin_routes
from crossrank.serving.bodies import describe_body
from crossrank.serving.dialects.choice import ADDRESSES, Address, dialect_of_path
from crossrank.serving.middleware import DOCS_PATH, Endpoint, Shortcut, Surroundings
from crossrank.serving.options import ServeOptions
from crossrank.serving.playground import add_playground
from crossrank.serving.problems import Kind, Problem
from crossrank.serving.replies import json_response, openai_response
from crossrank.serving.service import Service
from crossrank.serving.status import add_status_routes

_DESCRIPTION = """
Rerank documents for a query, in the dialect that your client speaks already. Every dialect also answers under a prefix
of its own, as in `/jina/v1/rerank`, where its requests are never taken for those of another. In each, `"verbose": true`
or the header `X-Verbose: true` asks for tokens, truncated documents, spans and the score type, and
`"on_overflow": "chunk"` reads long documents whole.
"""


def create_app(options: ServeOptions | None = None, *, service: Service | None = None) -> FastAPI:
    """Return the ASGI app; models that the service does not have yet are loaded when it starts.

    Args:
        options: What the server is told; defaults serve the shipped model.
        service: One that may have loaded its models already; made from the options if None.
    """
    service = service or Service(options or ServeOptions())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not service.models.all:
            for spec in service.options.models:
                await asyncio.to_thread(service.models.load, spec)
        service.loop_lag.start()
        yield
        service.loop_lag.stop()
        await asyncio.to_thread(service.models.stop, timeout_s=service.options.request_timeout_s)
        service.tracer.close()

    endpoints = {path: _endpoint(service, address) for path, address in ADDRESSES.items()}
    app = FastAPI(
        title="crossrank",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=DOCS_PATH,
        redoc_url=None,
        middleware=_middleware(service, endpoints),
    )
    app.state.service = service
    app.add_exception_handler(Problem, _answer_problem)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _answer_refusal)  # type: ignore[arg-type]
    for path, endpoint in endpoints.items():
        _add_route(app, path, ADDRESSES[path], endpoint)
    add_status_routes(app, service)
    add_admin_routes(app, service)
    add_playground(app, service)
    return app


def _middleware(service: Service, endpoints: Mapping[str, Endpoint]) -> list[Middleware]:
    options = service.options
    layers = [Middleware(Surroundings, service=service)]
    if options.cors_origins:
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(options.cors_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["authorization", "content-type", "x-request-timeout", "x-verbose"],
            )
        )
    return [*layers, Middleware(Shortcut, endpoints=endpoints)]


def _add_route(app: FastAPI, path: str, address: Address, endpoint: Endpoint) -> None:
    """Describe an endpoint, and answer what does not take the shortcut: other methods, and an app below a prefix."""
    dialect = address.dialect
    app.router.add_api_route(
        path,
        endpoint,
        methods=["POST"],
        route_class_override=_Direct,
        name=f"{dialect.name}: {address.path}",
        operation_id=re.sub(r"\W+", "_", path.strip("/")),
        tags=[dialect.name],
        summary=(type(dialect).__doc__ or "").splitlines()[0],
        response_model=None,
        responses={200: {"model": dialect.answer}},
        openapi_extra=describe_body(dialect.request),
    )


def _endpoint(service: Service, address: Address) -> Endpoint:
    dialect, path = address

    async def endpoint(request: Request) -> Response:
        return json_response(await service.rerank(dialect, path, request))

    return endpoint


async def _answer_problem(_: Request, problem: Problem) -> Response:
    return openai_response(problem)


async def _answer_refusal(request: Request, error: HTTPException) -> Response:
    """Answer a path or a method that there is not, in the dialect of the path."""
    path, method = request.url.path, request.method
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        problem = Problem(Kind.WRONG_METHOD, f"{path} takes {allowed}, not {method}")
    else:
        problem = Problem(Kind.NOT_FOUND, f"there is no {path} here: /docs says what there is")
    dialect = dialect_of_path(path)
    response = json_response(dialect.refuse(problem)) if dialect else openai_response(problem)
    response.headers.update(error.headers or {})
    return response


class _Direct(APIRoute):
    """A route that fastapi describes and does not stand in the way of: the endpoint reads the request by itself."""

    def get_route_handler(self) -> Endpoint:
        """Return the endpoint."""
        return self.endpoint
