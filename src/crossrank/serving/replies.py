"""A reply of a dialect as a response of HTTP."""

from __future__ import annotations

import json

from starlette.responses import Response

from crossrank.serving.dialects.dialect import Reply
from crossrank.serving.dialects.openai import openai_error
from crossrank.serving.problems import STATUSES, Kind, Problem

_JSON = "application/json"


def json_response(reply: Reply) -> Response:
    """Return the response; NaN cannot be in it, as it is no JSON."""
    if reply.body is None:
        return Response(None, reply.status, reply.headers)
    body = json.dumps(reply.body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate in an echoed document has no bytes in UTF-8.
    return Response(body.encode("utf-8", "replace"), reply.status, reply.headers, _JSON)


def openai_response(problem: Problem) -> Response:
    """Return what went wrong outside the dialects, as OpenAI does."""
    status, headers = STATUSES[problem.kind], {}
    if problem.retry_after_s is not None:
        headers["retry-after"] = str(problem.retry_after_s)
    if problem.kind is Kind.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return json_response(Reply(status, openai_error(problem, status), headers))
