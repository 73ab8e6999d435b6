"""Loading and unloading models while the server runs; needs the admin key."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from crossrank.errors import RerankError
from crossrank.serving.bodies import describe_body, read_json
from crossrank.serving.dialects.openai import OpenAIModel, openai_model
from crossrank.serving.options import ModelSpec, parse_model
from crossrank.serving.problems import Kind, Problem
from crossrank.serving.service import Service


class LoadRequest(BaseModel):
    """What to load, as for `crossrank serve --model`, and the name to serve it under."""

    model: str
    name: str | None = None


def add_admin_routes(app: FastAPI, service: Service) -> None:
    """Add the endpoints."""

    async def load(request: Request) -> OpenAIModel:
        """Load a model and serve it."""
        service.check_admin(request)
        body = await _read(request, service.options.max_body_bytes)
        spec = ModelSpec(body.name, body.model) if body.name else parse_model(body.model)
        try:
            runtime = await asyncio.to_thread(service.models.load, spec)
        except RerankError as error:
            raise Problem(Kind.UNUSABLE, str(error)) from None
        return openai_model(runtime.name, runtime.created)

    async def unload(request: Request, name: str) -> None:
        """Answer what the model has admitted, then drop it."""
        service.check_admin(request)
        await asyncio.to_thread(service.models.unload, name)

    app.add_api_route(
        "/admin/models",
        load,
        methods=["POST"],
        status_code=201,
        tags=["admin"],
        openapi_extra=describe_body(LoadRequest),
    )
    app.add_api_route(
        "/admin/models/{name:path}", unload, methods=["DELETE"], status_code=204, tags=["admin"], response_model=None
    )


async def _read(request: Request, max_bytes: int) -> LoadRequest:
    try:
        return LoadRequest.model_validate(await read_json(request, max_bytes=max_bytes))
    except ValidationError:
        raise Problem(Kind.MALFORMED, 'invalid request: give {"model": MODEL}, and "name": NAME if wanted') from None
