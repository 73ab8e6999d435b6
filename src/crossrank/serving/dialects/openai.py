"""OpenAI's conventions: the list of models, and the error of every endpoint that belongs to no other dialect."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from crossrank.serving.problems import Problem

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class OpenAIModel(TypedDict):
    """One model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class OpenAIModels(TypedDict):
    """Body of `/v1/models`."""

    object: Literal["list"]
    data: list[OpenAIModel]


def openai_model(name: str, created: int) -> OpenAIModel:
    """Return a model as `/v1/models` lists it."""
    return {"id": name, "object": "model", "created": created, "owned_by": "crossrank"}


def openai_error(problem: Problem, status: int) -> dict[str, Any]:
    """Return the body of an error."""
    default = "invalid_request_error" if status < 500 else "server_error"
    kind = _TYPES.get(status, default)
    return {"error": {"message": problem.message, "type": kind, "param": None, "code": problem.kind.value}}
