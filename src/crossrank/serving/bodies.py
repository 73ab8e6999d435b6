"""The body of a request: read up to a limit, decoded, and watched for a client that goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request

from crossrank.serving.problems import Kind, Problem

T = TypeVar("T")


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return what OpenAPI says of an endpoint that reads its body by itself."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


async def read_json(request: Request, *, max_bytes: int) -> object:
    """Return the decoded body.

    Raises:
        Problem: If it is no JSON, or as `read_body`.
    """
    body = await read_body(request, max_bytes=max_bytes)
    try:
        return json.loads(body)
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is not UTF-8"
    except RecursionError:
        reason = "it is nested too deep"
    except ValueError as error:  # what is no JSON, and whole numbers of thousands of digits
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "a number has too many digits"
    raise Problem(Kind.MALFORMED, f"invalid request: the body is no JSON: {reason}")


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """Return the body.

    Raises:
        Problem: If it is larger than allowed or compressed, or the client goes away while sending it.
    """
    encoding = request.headers.get("content-encoding") or "identity"
    if encoding.lower() != "identity":
        raise Problem(Kind.ENCODED, f"the body comes with content-encoding {encoding!r}: send it as it is")
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
    except ClientDisconnect:
        raise Problem(Kind.ABANDONED, "the client went away") from None
    return bytes(body)


async def unless_abandoned(request: Request, answer: Awaitable[T]) -> T:
    """Return an answer, or drop the work for it when the client goes away.

    Raises:
        Problem: If the client has gone.
    """
    working = asyncio.ensure_future(answer)
    watching = asyncio.ensure_future(_until_disconnect(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Problem(Kind.ABANDONED, "the client went away")
    finally:
        watching.cancel()
        working.cancel()


async def _until_disconnect(request: Request) -> None:
    """Return when the client has gone; after a body that was read whole nothing else can arrive."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _too_large(max_bytes: int) -> Problem:
    return Problem(Kind.BODY_TOO_LARGE, f"the body is larger than {max_bytes} bytes")
