"""The socket of a dialect, and the few field types that several dialects share."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from crossrank.inference.overflow import OnOverflow
from crossrank.serving.exchange import RerankRequest, RerankResult
from crossrank.serving.problems import STATUSES, Kind, Problem
from crossrank.types import Document

RequestT = TypeVar("RequestT", bound="Wishes")


def _none_if_zero(value: object) -> object:
    return None if value in (0, "0", "") else value


def _off_if_null(value: object) -> object:
    return False if value is None else value


# Clients send null, 0, numeric strings, and numbers larger than what they count.
Count = Annotated[Annotated[int, Field(gt=0)] | None, BeforeValidator(_none_if_zero)]
Flag = Annotated[bool, BeforeValidator(_off_if_null)]


# What pydantic calls the forms of a field that may have several, and what they are to a client.
_FORMS = {
    "str": "give a string",
    "dict[str,any]": "give an object",
    "list[union[str,dict[str,any]]]": "give a list",
}
# Half of what the strictest clients take as a line.
_HEADER_LENGTH = 4096


class Wishes(BaseModel):
    """The keys of crossrank that every dialect takes beside its own."""

    verbose: Flag = False
    on_overflow: OnOverflow | None = None


@dataclass(frozen=True)
class Reply:
    """What goes back over HTTP; a body of None is an empty one."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


class Dialect(ABC, Generic[RequestT]):
    """A pure mapping between the requests and answers of one API and those of crossrank.

    Attributes:
        name: Also the prefix under which its paths are never taken for those of another dialect.
        paths: Where its clients send their requests.
        request: The model of a request's body.
        answer: The type of an answer's body.
        statuses: Of its errors, where they differ from `problems.STATUSES`.
    """

    name: ClassVar[str]
    paths: ClassVar[tuple[str, ...]]
    request: type[RequestT]
    answer: ClassVar[Any]
    statuses: ClassVar[Mapping[Kind, int]] = {}

    @abstractmethod
    def to_request(self, body: RequestT) -> RerankRequest:
        """Return what a request means."""

    @abstractmethod
    def to_answer(self, request: RerankRequest, result: RerankResult) -> Any:
        """Return the body of an answer."""

    @abstractmethod
    def to_error(self, problem: Problem, status: int) -> Any:
        """Return the body of an error."""

    def to_headers(self, request: RerankRequest, result: RerankResult) -> dict[str, str]:
        """Return the headers that the dialect adds to an answer."""
        return {}

    def to_error_headers(self, problem: Problem) -> dict[str, str]:
        """Return the headers that the dialect adds to an error."""
        return {}

    def parse(self, body: object) -> RerankRequest:
        """Return what the decoded JSON of a request means.

        Raises:
            Problem: If it is not of the dialect's shape, or has no query or no documents.
        """
        if not isinstance(body, dict):
            raise Problem(Kind.MALFORMED, "invalid request: the body must be a JSON object")
        try:
            parsed = self.request.model_validate(body)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False, include_context=False)
            raise Problem(Kind.MALFORMED, f"invalid request: {_sentence(errors)}", errors=errors) from None
        request = self.to_request(parsed)
        if not request.pairs:
            raise Problem(Kind.EMPTY, "invalid request: list of documents must not be empty")
        if any(not query.strip() for query in {query for query, _ in request.pairs}):
            raise Problem(Kind.EMPTY, "invalid request: query must not be empty or be only whitespace")
        return replace(request, verbose=parsed.verbose, on_overflow=parsed.on_overflow or request.on_overflow)

    def reply(self, request: RerankRequest, result: RerankResult) -> Reply:
        """Return an answer; a verbose one says more, in its body where that is an object and otherwise in a header."""
        body = self.to_answer(request, result)
        headers = self.to_headers(request, result)
        headers["x-truncated-documents"] = str(len(result.truncated))
        if request.verbose and isinstance(body, dict):
            body["details"] = result.details()
        elif request.verbose:
            headers["x-details"] = _in_a_header(result.details())
        return Reply(200, body, headers)

    def refuse(self, problem: Problem) -> Reply:
        """Return an error."""
        status = self.statuses.get(problem.kind, STATUSES[problem.kind])
        headers = self.to_error_headers(problem)
        if problem.kind is Kind.UNAUTHORIZED:
            headers["www-authenticate"] = "Bearer"
        if problem.retry_after_s is not None:
            headers["retry-after"] = str(problem.retry_after_s)
        return Reply(status, self.to_error(problem, status), headers)


def pairs_of(query: str, documents: list[Document]) -> tuple[tuple[str, Document], ...]:
    """Return a query beside each of its documents."""
    return tuple((query, document) for document in documents)


def text_document(value: str | Mapping[str, Any], index: int) -> Document:
    """Return a document that came as a string or as an object with `text`; the object itself is kept in `metadata`.

    Raises:
        Problem: If the object has no text.
    """
    if isinstance(value, str):
        return Document(value)
    if not isinstance(value.get("text"), str):
        raise Problem(Kind.MALFORMED, f"invalid request: documents.{index}: an object must have a 'text' string")
    return Document(value["text"], metadata=value)


def echo(document: Document) -> dict[str, Any]:
    """Return a document as an object: the client's own, or one around the client's string."""
    return dict(document.metadata) or {"text": document.text}


def _sentence(errors: list[Any]) -> str:
    """Return the first few errors of pydantic in a line, without the values that the client sent."""
    wanted: dict[str, list[str]] = {}
    for error in errors:
        place, message = error["loc"], error["msg"]
        if place[-1] in _FORMS:  # one of the forms that this field may have
            place, message = place[:-1], _FORMS[place[-1]]
        wanted.setdefault(".".join(map(str, place)), []).append(message)
    parts = [f"{place}: {' or '.join(messages)}" for place, messages in list(wanted.items())[:3]]
    more = f" (and {len(wanted) - 3} more)" if len(wanted) > 3 else ""
    return "; ".join(parts) + more


def _in_a_header(details: dict[str, Any]) -> str:
    """Return details as JSON; without the lists of documents where clients would refuse a header of that length."""
    text = json.dumps(details)
    if len(text) <= _HEADER_LENGTH:
        return text
    return json.dumps(details | {"truncated": len(details["truncated"]), "spans": None})
