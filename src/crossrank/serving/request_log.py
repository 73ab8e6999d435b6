"""Logs: one JSON object a line with the request's id; no query and no document unless switched on."""

from __future__ import annotations

import json
import logging
import threading
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from crossrank.serving.exchange import RerankRequest, RerankResult
from crossrank.serving.problems import Kind

REQUESTS = logging.getLogger("crossrank.serving.requests")
_FLUSH_INTERVAL_S = 0.05


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


class BatchHandler(logging.StreamHandler[TextIO]):
    """Writes lines in batches, twenty times a second; what is a warning or worse at once, with all before it.

    A write for each line has the event loop hand the interpreter to the threads that tokenise and compute, and wait
    until it gets it back: under load that took longer than everything else about a request that is refused.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._has_lines = threading.Event()
        self._closed = False
        threading.Thread(target=self._flush_often, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record in."""
        try:
            self._lines.append(self.format(record) + self.terminator)
            if record.levelno >= logging.WARNING or self._closed:
                self.flush()
            else:
                self._has_lines.set()
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Write what there is."""
        self.acquire()
        try:
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("".join(lines))
            super().flush()
        finally:
            self.release()

    def close(self) -> None:
        """Write what there is, and end."""
        self.flush()
        self._closed = True
        self._has_lines.set()
        super().close()

    def _flush_often(self) -> None:
        while not self._closed:
            self._has_lines.wait()
            time.sleep(_FLUSH_INTERVAL_S)
            self._has_lines.clear()
            self.flush()


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
