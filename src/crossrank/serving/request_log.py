"""Logs: one JSON object a line with the request's id; no query and no document unless switched on."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from queue import Empty, SimpleQueue
from typing import Any, TextIO

from crossrank.serving.exchange import RerankRequest, RerankResult
from crossrank.serving.problems import Kind

REQUESTS = logging.getLogger("crossrank.serving.requests")
_FLUSH_INTERVAL_S = 0.05
# How long anybody waits for lines to be written, and how many of them are kept meanwhile.
_PATIENCE_S = 1.0
_MOST_LINES = 10_000


@dataclass
class RequestRecord:
    """What is known of a request by the time it ends.

    Attributes:
        id: The client's own, or a new one.
        method, path: Of the request line; the query string is left out.
        dialect: The API that was spoken.
        caller: The name of the key.
        request, result: In no dialect.
        problem: Why there was no answer.
    """

    id: str
    method: str
    path: str
    dialect: str = "none"
    caller: str | None = None
    request: RerankRequest | None = None
    result: RerankResult | None = None
    problem: Kind | None = None

    def fields(self, *, status: int, seconds: float, content: bool) -> dict[str, Any]:
        """Return the fields of the log line; texts only where `content` says so."""
        fields: dict[str, Any] = {
            "request_id": self.id,
            "method": self.method,
            "path": self.path,
            "status": status,
            "milliseconds": round(1000 * seconds, 3),
            "dialect": self.dialect,
            "caller": self.caller,
            "problem": self.problem.value if self.problem else None,
        }
        if self.request:
            fields["documents"] = len(self.request.pairs)
        if self.request and content:
            fields["query"] = self.request.query
            fields["texts"] = [document.text for document in self.request.documents]
        if self.result:
            fields |= {"model": self.result.model, "tokens": self.result.num_tokens}
            fields |= {"truncated": len(self.result.truncated), "stages": self.result.timings.in_milliseconds()}
        return {name: value for name, value in fields.items() if value is not None}


class JsonFormatter(logging.Formatter):
    """A record as one JSON object; fields come in `extra={"fields": {...}}`.

    Of an exception it keeps the type and the lines of code: its message may quote a query or a document.

    Args:
        content: Keep the message, too.
    """

    def __init__(self, *, content: bool = False) -> None:
        super().__init__()
        self._content = content

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1]:
            error = record.exc_info[1]
            entry["error"] = type(error).__name__ + (f": {error}" if self._content else "")
            entry["traceback"] = "".join(traceback.format_tb(error.__traceback__))
        return json.dumps(entry, ensure_ascii=False, default=str)


class BatchHandler(logging.Handler):
    """Writes lines in batches, twenty times a second; what is a warning or worse at once, with all before it.

    A write for each line has the event loop hand the interpreter to the threads that tokenise and compute, and wait
    until it gets it back: under load that took longer than everything else about a request that is refused.

    Only a thread of its own ever writes, so a stream that nobody reads stops that thread and nothing else: a warning
    and the end wait for it a second, and the oldest lines go once there are ten thousand. What cannot be written is
    dropped.

    Args:
        stream: Where to; standard error if None.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stderr
        self._descriptor = _find_descriptor(self._stream)
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        # What the thread is called for: None is lines, an event is to be set when they are written. Whoever handles a
        # signal may log in the middle of anything, so nothing that is shared here has a lock in Python.
        self._calls: SimpleQueue[threading.Event | _End | None] = SimpleQueue()
        self._is_called = False
        self._is_stuck = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._write_often, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record in; one that comes after the end is written by the caller."""
        try:
            self._lines.append(self.format(record) + "\n")
        except Exception:
            with suppress(Exception):  # what is wrong is said on standard error, which may be closed
                self.handleError(record)
            return
        if self._is_closed:
            self._write_unless_alive()
        elif record.levelno >= logging.WARNING:
            self.flush()
        else:
            self._call()

    def flush(self) -> None:
        """Have everything written that has been taken in, and wait for that a second at most."""
        if self._is_closed:
            return
        if self._is_stuck:
            self._call()
        else:
            written = threading.Event()
            self._calls.put(written)
            self._is_stuck = not written.wait(_PATIENCE_S)

    def close(self) -> None:
        """Have everything written, and end."""
        if not self._is_closed:
            self._is_closed = True
            self._calls.put(_End.END)
            self._thread.join(0 if self._is_stuck else _PATIENCE_S)
            self._write_unless_alive()
        super().close()

    def _call(self) -> None:
        if not self._is_called:
            self._is_called = True
            self._calls.put(None)

    def _write_often(self) -> None:
        call: threading.Event | _End | None = None
        while call is not _End.END:
            call = self._calls.get()
            if call is None:
                with suppress(Empty):
                    call = self._calls.get(timeout=_FLUSH_INTERVAL_S)
            self._is_called = False
            self._write()
            self._is_stuck = False
            if isinstance(call, threading.Event):
                call.set()

    def _write_unless_alive(self) -> None:
        if not self._thread.is_alive():
            self._write()

    def _write(self) -> None:
        lines: list[str] = []
        with suppress(IndexError):  # after the end several threads may write
            lines.extend(self._lines.popleft() for _ in range(len(self._lines)))
        text = "".join(lines)
        with suppress(OSError, ValueError):  # closed, or nobody is there to read it
            if self._descriptor is None:
                self._stream.write(text)
                self._stream.flush()
                return
            data = text.encode("utf-8", "backslashreplace")
            while data:
                data = data[os.write(self._descriptor, data) :]


class _End(Enum):
    END = "the thread's last call"


def _find_descriptor(stream: TextIO) -> int | None:
    """Return the file behind a stream: a write to it holds no lock that the end of the process would wait for."""
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def log_config(level: str, *, content: bool) -> dict[str, Any]:
    """Return the configuration of logging for the process of a server, on standard error."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter, "content": content}},
        "handlers": {"stderr": {"()": BatchHandler, "stream": "ext://sys.stderr", "formatter": "json"}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "crossrank": {"level": level.upper(), "handlers": ["stderr"], "propagate": False},
            "uvicorn": {"level": level.upper(), "handlers": ["stderr"], "propagate": False},
            # Its lines have no request id; ours stand in for them.
            "uvicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
        },
    }
