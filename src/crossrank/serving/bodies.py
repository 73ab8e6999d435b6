"""The body of a request: read up to a limit, decoded, and watched for a client that goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from crossrank.serving.problems import Kind, Problem

T = TypeVar("T")


async def read_json(request: Request, *, max_bytes: int) -> object:
    """Return the decoded body.

    Raises:
        Problem: If it is no JSON, or as `read_body`.
    """
    body = await read_body(request, max_bytes=max_bytes)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "too deep, or not UTF-8"
        raise Problem(Kind.MALFORMED, f"invalid request: the body is no JSON: {reason}") from None


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """Return the body.

    Raises:
        Problem: If it is larger than allowed, or the client goes away while sending it.
    """
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
