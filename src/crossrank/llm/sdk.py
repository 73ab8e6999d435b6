"""What the SDKs of OpenAI and Anthropic have in common: keys from the environment, and the same tree of exceptions."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import urlsplit

from crossrank.errors import ChatError, InputError

# Without a byte from the server; a model that thinks for longer than that is asked again.
TIMEOUT_S = 120.0
# With the SDKs' backoff (half a second, doubled up to 8 s, or what the server's Retry-After says): about 20 s in all.
MAX_RETRIES = 5

_OVERFLOW = re.compile(
    r"context.?(length|window)|maximum context|too long|too many tokens|exceeds? .{0,30}tokens", re.I
)
_STATUS_KINDS = {401: "key", 403: "key", 408: "timeout", 409: "server", 413: "overflow", 429: "rate limit"}


def read_key(variable: str) -> str | None:
    """Return the key that an environment variable holds, or None where it is empty.

    Raises:
        InputError: If it cannot be a key; the message does not show it.
    """
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise InputError(f"{variable} holds white space or characters that no key has: set it anew")
    return key or None


def host_of(base_url: str) -> str:
    """Return scheme, host, port and path of an address, without user and password.

    Raises:
        InputError: If it is no http address.
    """
    try:
        parts = urlsplit(base_url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        parts, port = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("the address of the chat server (base_url) must start with http:// or https://")
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path.rstrip('/')}"


def chat_error(error: Exception, sdk: Any, *, model: str, secrets: list[str]) -> ChatError:
    """Return the error of an SDK as one of ours, without anything secret.

    Args:
        error: An `APIError` of the SDK.
        sdk: The module.
        model: Named in the message.
        secrets: Struck out of whatever the server said.
    """
    if isinstance(error, sdk.APITimeoutError):
        return ChatError(f"{model}: no answer in time", kind="timeout")
    if isinstance(error, sdk.APIConnectionError):
        return ChatError(f"{model}: the server cannot be reached", kind="connection")
    status = getattr(error, "status_code", 0)
    if status in (401, 403):
        return ChatError(f"{model}: the server refused the key (status {status})", kind="key")
    said = str(getattr(error, "message", error))
    if status == 400 and (_OVERFLOW.search(said) or getattr(error, "code", "") == "context_length_exceeded"):
        return ChatError(f"{model}: the prompt is too long for the model", kind="overflow")
    kind = _STATUS_KINDS.get(status, "server" if status >= 500 else "request")
    return ChatError(f"{model}: {_struck(said, secrets)[:300]}", kind=kind)


def _struck(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return " ".join(text.split())
