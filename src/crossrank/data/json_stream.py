"""A large JSON file, value by value: only one element of a list is in memory at a time."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from crossrank.data.records import refuse_lone_surrogates
from crossrank.data.text import display_name, open_binary, reading
from crossrank.errors import DataError, InputError

_CHUNK_BYTES = 1 << 16
# Of the tokens that are not strings or numbers; an error so near the end of the text may be due to the end.
_LONGEST_TOKEN = 16
_WHITE_SPACE = " \t\n\r"
_AFTER_VALUE = set(_WHITE_SPACE + ",:]}")


class JsonItem(NamedTuple):
    """A value of a JSON file.

    Attributes:
        key: Its key in the object that the file is; None where the file is a list.
        line: Where it starts, counted from 1.
        value: One element, where a list stands under the key; otherwise the whole value.
    """

    key: str | None
    line: int
    value: Any


def stream_json(path: str | Path) -> Iterator[JsonItem]:
    """Yield the values of a file that holds one JSON object or list; lists one level down come element by element.

    Raises:
        DataError: If it cannot be read or is not valid JSON; names the line.
    """
    name = display_name(path)
    with reading(name), open_binary(path) as stream:
        parser = _Parser(stream, name)
        start = parser.peek()
        if start == "[":
            yield from (JsonItem(None, line, value) for line, value in parser.elements())
        elif start == "{":
            yield from parser.members()
        else:
            parser.fail("expected a JSON object or list")
        if parser.peek():
            parser.fail("text after the end of the JSON value")


class _Parser:
    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._parse = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._line = 1
        self._ended = False

    def fail(self, message: str) -> NoReturn:
        raise DataError(message, path=self._name, line=self._line)

    def _more(self) -> bool:
        """Read on, at least as much as is held already, so that a long value is parsed a few times alone."""
        if self._ended:
            return False
        raw = self._stream.read(max(_CHUNK_BYTES, len(self._text) - self._at))
        self._ended = not raw
        try:
            self._text, self._at = self._text[self._at :] + self._decode(raw, self._ended), 0
        except UnicodeDecodeError:
            self.fail("not valid UTF-8")
        return not self._ended

    def _advance(self, at: int) -> None:
        self._line += self._text.count("\n", self._at, at)
        self._at = at

    def peek(self) -> str:
        """Return the next character that is not white space; empty at the end."""
        while True:
            at = self._at
            while at < len(self._text) and self._text[at] in _WHITE_SPACE:
                at += 1
            self._advance(at)
            if at < len(self._text):
                return self._text[at]
            if not self._more():
                return ""

    def _expect(self, character: str) -> None:
        if self.peek() != character:
            self.fail(f"malformed JSON: expected {character!r}")
        self._advance(self._at + 1)

    def _value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = self._parse(self._text, self._at)
                length = end - self._at
                # A number at the end of the text may go on in the next piece: 12, or 1.5e before an exponent.
                rest = self._text[end : end + _LONGEST_TOKEN]
                if rest[:1] in _AFTER_VALUE or len(rest) == _LONGEST_TOKEN or not self._more():
                    refuse_lone_surrogates(self._text[self._at : self._at + length], value)
                    self._advance(self._at + length)
                    return value
            except InputError as error:
                self.fail(str(error))
            except json.JSONDecodeError as error:
                length = error.pos - self._at
                cut_off = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _LONGEST_TOKEN
                if not (cut_off and self._more()):
                    self._advance(self._at + length)
                    self.fail(f"malformed JSON: {error.msg}")
            except (ValueError, RecursionError) as error:
                self.fail(f"malformed JSON: {error}")

    def elements(self) -> Iterator[tuple[int, Any]]:
        """Yield the elements of the list that starts here, with their lines."""
        self._expect("[")
        if self.peek() != "]":
            while True:
                self.peek()
                line = self._line
                yield line, self._value()
                if self.peek() != ",":
                    break
                self._expect(",")
        self._expect("]")

    def members(self) -> Iterator[JsonItem]:
        """Yield the members of the object that starts here."""
        self._expect("{")
        if self.peek() != "}":
            while True:
                if self.peek() != '"':
                    self.fail("malformed JSON: expected a key")
                key = self._value()
                self._expect(":")
                if self.peek() == "[":
                    yield from (JsonItem(key, line, value) for line, value in self.elements())
                else:
                    line = self._line
                    yield JsonItem(key, line, self._value())
                if self.peek() != ",":
                    break
                self._expect(",")
        self._expect("}")
