"""Retries, waits and timeouts on a clock that does not tick; keys that are never shown."""

from __future__ import annotations

import email.utils
import logging
import time
import traceback

import httpx
import pytest

from crossrank.errors import InputError, RemoteError
from crossrank.integrations.remote import transport
from crossrank.integrations.remote.transport import Transport, check_url

KEY = "sk-very-secret-0123456789"
URL = "http://server/v1/rerank"


@pytest.fixture
def waits(monkeypatch):
    waited: list[float] = []
    monkeypatch.setattr(transport.time, "sleep", waited.append)
    return waited


def over(answers, *, max_retries=5) -> tuple[Transport, list[httpx.Request]]:
    """A transport whose service gives these answers, one a request."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        given = answers[len(asked) - 1]
        if isinstance(given, Exception):
            raise given
        return given

    client = httpx.Client(transport=httpx.MockTransport(answer))
    return Transport(key=KEY, timeout_s=7.0, max_retries=max_retries, client=client), asked


def test_what_passes_is_tried_again_with_longer_waits(waits):
    failing = [httpx.ReadTimeout("slow"), httpx.Response(503), httpx.ConnectError("refused")]
    service, asked = over([*failing, httpx.Response(200, json={"ok": 1})])
    assert service.post(URL, {"query": "q"}) == {"ok": 1}
    assert len(asked) == 4 and len(waits) == 3
    assert all(0 <= wait <= longest for wait, longest in zip(waits, (0.5, 1.0, 2.0), strict=True))
    assert asked[0].extensions["timeout"]["read"] == 7.0
    assert asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_the_service_says_how_long_to_wait(waits):
    date = email.utils.formatdate(time.time() + 9, usegmt=True)
    limited = [httpx.Response(429, headers={"retry-after": stated}) for stated in ("3", date)]
    service, _ = over([*limited, httpx.Response(200, json=[])])
    service.post(URL, {})
    assert 3 <= waits[0] <= 3.5
    assert 7.5 <= waits[1] <= 9.6


def test_a_wait_beyond_a_minute_is_the_callers_to_make(waits):
    service, asked = over([httpx.Response(429, headers={"retry-after": "3600"}, json={"message": "monthly limit"})])
    with pytest.raises(RemoteError, match="429: monthly limit"):
        service.post(URL, {})
    assert len(asked) == 1 and not waits


def test_it_gives_up_after_all_retries(waits):
    service, asked = over([httpx.Response(500)] * 3, max_retries=2)
    with pytest.raises(RemoteError, match="500: Internal Server Error") as raised:
        service.post(URL, {})
    assert raised.value.status == 500 and len(asked) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 302])
def test_what_does_not_pass_is_not_tried_again(status, waits):
    service, asked = over([httpx.Response(status, headers={"location": "http://elsewhere/"})])
    with pytest.raises(RemoteError, match=str(status)):
        service.post(URL, {})
    assert len(asked) == 1, "and a redirect does not carry the key elsewhere"


@pytest.mark.parametrize("answer", [httpx.Response(401, json={"message": f"bad key {KEY}"}), httpx.ConnectError(KEY)])
def test_the_key_is_in_no_error_and_no_log(answer, waits, caplog):
    caplog.set_level(logging.DEBUG)
    service, _ = over([answer], max_retries=0)
    with pytest.raises(RemoteError) as raised:
        service.post(URL, {})
    shown = "".join(traceback.format_exception(raised.value)) + repr(service) + caplog.text
    assert KEY not in shown
    assert raised.value.__cause__ is None and raised.value.__suppress_context__


def test_no_json_is_an_error():
    service, _ = over([httpx.Response(200, text="<html>a proxy</html>")])
    with pytest.raises(RemoteError, match="not JSON"):
        service.post(URL, {})


@pytest.mark.parametrize("url", ["server:8000", "ftp://server", "https://user:pass@server", "http://"])
def test_addresses_that_cannot_be_used(url):
    with pytest.raises(InputError) as raised:
        check_url(url)
    assert "pass@" not in str(raised.value)
