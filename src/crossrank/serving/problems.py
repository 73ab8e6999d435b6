"""What can go wrong with a request: one exception, of a kind that every dialect has a status and a body for."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Why a request is not answered; the values label metrics and logs."""

    MALFORMED = "malformed"  # no JSON, or not of the shape that the dialect wants
    EMPTY = "empty"  # no query or no documents
    UNUSABLE = "unusable"  # well-formed, but the model cannot use it: too long, an image for a text model, ...
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    WRONG_METHOD = "wrong_method"
    WRONG_HOST = "wrong_host"  # a name of this machine that it does not answer to
    UNKNOWN_MODEL = "unknown_model"
    CONFLICT = "conflict"
    ENCODED = "encoded"  # a compressed body
    BODY_TOO_LARGE = "body_too_large"
    TOO_MANY_DOCUMENTS = "too_many_documents"
    OVERLOADED = "overloaded"  # the queue is full
    RATE_LIMITED = "rate_limited"  # the caller's own limit
    TIMEOUT = "timeout"
    ABANDONED = "abandoned"  # the client has gone
    BACKEND = "backend"
    UNAVAILABLE = "unavailable"  # loading, draining, or the backend has failed


# Where a dialect does not say otherwise.
STATUSES = {
    Kind.MALFORMED: 422,
    Kind.EMPTY: 422,
    Kind.UNUSABLE: 422,
    Kind.UNAUTHORIZED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.WRONG_METHOD: 405,
    Kind.WRONG_HOST: 400,
    Kind.ENCODED: 415,
    Kind.UNKNOWN_MODEL: 404,
    Kind.CONFLICT: 409,
    Kind.BODY_TOO_LARGE: 413,
    Kind.TOO_MANY_DOCUMENTS: 422,
    Kind.OVERLOADED: 429,
    Kind.RATE_LIMITED: 429,
    Kind.TIMEOUT: 504,
    Kind.ABANDONED: 499,
    Kind.BACKEND: 500,
    Kind.UNAVAILABLE: 503,
}


class Problem(Exception):
    """A request that is not answered.

    Attributes:
        kind: Why.
        message: For the caller; may quote the caller's own text, so it is not logged.
        retry_after_s: When it is worth trying again, in whole seconds, or None.
        errors: What is wrong with each field of a malformed request, as pydantic lists it.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        retry_after_s: int | None = None,
        errors: Sequence[Any] = (),
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.retry_after_s = retry_after_s
        self.errors = list(errors)
