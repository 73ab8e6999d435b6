"""Who may call: API keys, and the limits of each."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from crossrank.errors import DataError, InputError
from crossrank.serving.problems import Kind, Problem

ANONYMOUS = "anonymous"
_MIN_KEY_LENGTH = 8


def read_keys(file: Path | None, environment: str | None) -> dict[str, str]:
    """Return the API keys by the names that logs use for them.

    Args:
        file: One key a line, with a name before it or not; `#` begins a comment.
        environment: Keys, separated by commas or white space.

    Raises:
        DataError: If the file cannot be read or a line of it is no key.
        InputError: If a key of the environment is too short.
    """
    keys: dict[str, str] = {}
    for key in (environment or "").replace(",", " ").split():
        if len(key) < _MIN_KEY_LENGTH:
            raise InputError(f"CROSSRANK_API_KEYS: a key needs at least {_MIN_KEY_LENGTH} characters")
        keys[f"key{len(keys) + 1}"] = key
    for number, line in enumerate(_lines(file), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) > 2 or len(words[-1]) < _MIN_KEY_LENGTH:
            raise DataError(
                f"write KEY or NAME KEY, the key with at least {_MIN_KEY_LENGTH} characters",
                path=str(file),
                line=number,
            )
        name = words[0] if len(words) == 2 else f"key{len(keys) + 1}"
        if name in keys:
            raise DataError(f"the name {name} is given twice", path=str(file), line=number)
        keys[name] = words[-1]
    if file is not None and not keys:
        raise DataError("holds no key", path=str(file))
    return keys


def is_loopback(host: str) -> bool:
    """Whether an address to bind to is reachable from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Keys:
    """Finds the caller by the key of a request, in a time that tells nothing about the keys.

    Args:
        keys: Name to key; everybody may call if empty.
    """

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._digests = {name: _digest(key) for name, key in keys.items()}

    def __bool__(self) -> bool:
        return bool(self._digests)

    def identify(self, headers: Mapping[str, str]) -> str:
        """Return the caller's name for the header `Authorization: Bearer KEY`, else for `X-Api-Key` or `Api-Key: KEY`.

        Raises:
            Problem: If there are keys and this is none of them.
        """
        if not self._digests:
            return ANONYMOUS
        given = _digest(_given_key(headers))
        # Every key is compared, also after a match.
        found = [name for name, digest in self._digests.items() if hmac.compare_digest(digest, given)]
        if not found:
            raise Problem(Kind.UNAUTHORIZED, "missing or invalid API key: send the header 'Authorization: Bearer KEY'")
        return found[0]


class Hosts:
    """The names of this machine that requests may be for: a web page cannot call it under another one.

    Args:
        names: As in `localhost`, `[::1]` or `*.example.com`; any name if empty.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def check(self, host: str) -> None:
        """Check the header `Host`.

        Raises:
            Problem: If it holds another name.
        """
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._names and not any(matches_host(name, pattern) for pattern in self._names):
            raise Problem(
                Kind.WRONG_HOST,
                f"this server answers to {', '.join(self._names)}, not to {name!r}: --allowed-host adds a name",
            )


def matches_host(host: str, pattern: str) -> bool:
    """Whether a host is the one of a pattern, or below it where that begins with `*.`."""
    host, pattern = host.lower().rstrip("."), pattern.lower()
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


class CallerLimits:
    """The rate and the number of requests at a time of each caller.

    Args:
        requests_per_minute: A bucket of this size, filled evenly; any number if None.
        concurrent_requests: At a time; any number if None.
        clock: In seconds.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        concurrent_requests: int | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_minute = requests_per_minute
        self._concurrent = concurrent_requests
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._running: dict[str, int] = {}

    @contextmanager
    def request(self, caller: str) -> Iterator[None]:
        """Hold one of the caller's places.

        Raises:
            Problem: If the caller has none left; says when there will be one.
        """
        running = self._running.get(caller, 0)
        if self._concurrent is not None and running >= self._concurrent:
            raise Problem(
                Kind.RATE_LIMITED, f"at most {self._concurrent} requests at a time with this key", retry_after_s=1
            )
        self._take_token(caller)
        self._running[caller] = running + 1
        try:
            yield
        finally:
            self._running[caller] -= 1

    def _take_token(self, caller: str) -> None:
        if self._per_minute is None:
            return
        now = self._clock()
        tokens, then = self._buckets.get(caller, (float(self._per_minute), now))
        tokens = min(float(self._per_minute), tokens + (now - then) * self._per_minute / 60)
        if tokens < 1:
            wait_s = (1 - tokens) * 60 / self._per_minute
            raise Problem(
                Kind.RATE_LIMITED,
                f"at most {self._per_minute} requests a minute with this key",
                retry_after_s=max(1, int(wait_s + 0.999)),
            )
        self._buckets[caller] = (tokens - 1, now)


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", path=file) from None


def _given_key(headers: Mapping[str, str]) -> str:
    scheme, _, key = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    return headers.get("x-api-key") or headers.get("api-key") or ""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
