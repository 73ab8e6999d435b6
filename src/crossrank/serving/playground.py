"""The page at `/`, and the texts of a PDF for it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from functools import cache
from importlib import resources

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from crossrank.serving.bodies import read_body
from crossrank.serving.pdf_texts import page_texts
from crossrank.serving.service import Service


def add_playground(app: FastAPI, service: Service) -> None:
    """Add the page, which needs no key and asks for the user's own, and what it needs beside the dialects."""
    app.add_api_route("/", _page, methods=["GET", "HEAD"], include_in_schema=False)

    async def pdf(request: Request) -> Response:
        """Return the text of each page of a PDF."""
        with service.caller(request):
            content = await read_body(request, max_bytes=service.options.max_body_bytes)
            return JSONResponse({"pages": await asyncio.to_thread(page_texts, content)})

    app.add_api_route("/playground/pdf", pdf, methods=["POST"], include_in_schema=False)


def _page() -> Response:
    page, policy = _page_and_policy()
    return HTMLResponse(page, headers={"content-security-policy": policy})


@cache
def _page_and_policy() -> tuple[str, str]:
    """Return the page, and a policy that runs its own script and style, and loads nothing from anywhere else."""
    page = resources.files("crossrank.serving").joinpath("playground.html").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src {_hash(page, 'script')}; style-src {_hash(page, 'style')}; img-src data:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _hash(page: str, tag: str) -> str:
    found = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    assert found, f"the page has no <{tag}>"
    digest = hashlib.sha256(found[1].encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
