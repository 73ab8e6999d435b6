"""One POST that survives what passes: retries with backoff, `Retry-After`, timeouts; keys stay out of every message."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crossrank.errors import InputError, MissingExtra, RemoteError
from crossrank.integrations.remote.providers import message_of

if TYPE_CHECKING:
    import httpx

# Worth another try: the same request may pass later.
RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 60.0
_LONGEST_MESSAGE = 300


class Transport:
    """Posts JSON and returns JSON.

    Args:
        key: Sent as a bearer key; none if None.
        timeout_s: Of one attempt: to connect, and between two pieces of the answer.
        max_retries: Attempts after the first.
        client: To send with, for proxies or certificates of one's own; made here if None.

    Raises:
        MissingExtra: If httpx is not installed.
    """

    def __init__(
        self, *, key: str | None, timeout_s: float, max_retries: int, client: httpx.Client | None = None
    ) -> None:
        try:
            import httpx
        except ImportError:
            raise MissingExtra("A remote reranker", extra="remote") from None
        self._key = key
        self._timeout_s = timeout_s
        self._max_retries = max_retries
        self._failures = (httpx.TransportError,)
        self._owned = client is None
        self._client = client or httpx.Client()

    def __repr__(self) -> str:
        return f"Transport(timeout_s={self._timeout_s}, max_retries={self._max_retries})"

    def close(self) -> None:
        """Close the connections, unless the client was given."""
        if self._owned:
            self._client.close()

    def post(self, url: str, body: Mapping[str, Any]) -> Any:
        """Return the decoded answer to a request.

        Raises:
            RemoteError: If the service refuses it, cannot be reached after all retries, or answers no JSON.
        """
        for attempt in range(self._max_retries + 1):
            last = attempt == self._max_retries
            try:
                response = self._client.post(
                    url, json=body, headers=self._headers(), timeout=self._timeout_s, follow_redirects=False
                )
            except self._failures as error:
                # The cause is left out: it carries the request and so the key.
                problem = RemoteError(f"{_shown(url)} cannot be reached: {type(error).__name__}")
                wait_s = _backoff(attempt)
            else:
                if response.status_code == 200:
                    return self._decode(response, url)
                problem = self._refusal(response, url)
                wait_s = _wait(response, attempt)
                last = last or response.status_code not in RETRIED_STATUSES or wait_s > _LONGEST_WAIT_S
            if last:
                raise problem from None
            time.sleep(wait_s)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._key}"} if self._key else {}

    def _decode(self, response: httpx.Response, url: str) -> Any:
        try:
            return response.json()
        except ValueError:
            raise RemoteError(f"{_shown(url)} answered something that is not JSON", status=200) from None

    def _refusal(self, response: httpx.Response, url: str) -> RemoteError:
        try:
            message = message_of(response.json())
        except ValueError:
            message = ""
        # Some services repeat a wrong key.
        message = message.replace(self._key, "***") if self._key else message
        reason = message[:_LONGEST_MESSAGE] or response.reason_phrase
        return RemoteError(f"{_shown(url)} answered {response.status_code}: {reason}", status=response.status_code)


def check_url(url: str) -> str:
    """Return a URL without the slash at its end.

    Raises:
        InputError: If it is not http or https, or holds a password: that would be shown in errors.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"url must begin with http:// or https://, not {_shown(url)!r}")
    if parts.username or parts.password:
        raise InputError("url holds a name or a password: put the key into the environment instead")
    return url.rstrip("/")


def _shown(url: str) -> str:
    """Return a URL without what may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _backoff(attempt: int) -> float:
    """Return a wait in seconds, from a range that doubles.

    Source: M. Brooker, "Exponential Backoff And Jitter" (2015): full jitter.
    """
    return random.uniform(0, min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt))


def _wait(response: httpx.Response, attempt: int) -> float:
    """Return what the service asks for in seconds or as a date, and a little more so that clients spread."""
    stated = response.headers.get("retry-after", "").strip()
    if stated.isdigit():
        return float(stated) + _backoff(0)
    try:
        until = email.utils.parsedate_to_datetime(stated)
    except (TypeError, ValueError):
        return _backoff(attempt)
    return max(0.0, until.timestamp() - time.time()) + _backoff(0)
