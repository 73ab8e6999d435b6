"""Answers that were paid for, on disk: what was asked before costs nothing."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crossrank.errors import DataError
from crossrank.llm.chat import ChatModel, Completion, Messages, Schema

_CREATE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, completion TEXT NOT NULL)"


class AnswerCache:
    """Completions by a hash of model, address and prompt, in one SQLite file; safe for threads and processes.

    The file holds hashes and answers: no prompts, and no keys.

    Args:
        path: The file; made where there is none.

    Raises:
        DataError: If it cannot be opened as a cache.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._path, timeout=60, check_same_thread=False, isolation_level=None)
            self._connection.execute(_CREATE)
        except (sqlite3.Error, OSError) as error:
            raise DataError(f"cannot be used as a cache of answers: {error}", path=path) from error

    def get(self, key: str) -> Completion | None:
        """Return the answer, or None where there is none yet."""
        row = self._run("SELECT completion FROM answers WHERE key = ?", key)
        return Completion(**json.loads(row[0])) if row else None

    def put(self, key: str, completion: Completion) -> None:
        """Keep an answer; it is on disk when this returns."""
        self._run("INSERT OR REPLACE INTO answers VALUES (?, ?)", key, json.dumps(asdict(completion)))

    def _run(self, statement: str, *values: str) -> Any:
        try:
            with self._lock:
                return self._connection.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            raise DataError(f"the cache of answers is broken: {error}", path=self._path) from error


def answer_key(model: ChatModel, messages: Messages, *, schema: Schema, max_tokens: int) -> str:
    """Return the hash of everything that an answer depends on."""
    asked = [model.name, model.address, [dict(message) for message in messages], dict(schema), max_tokens]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
