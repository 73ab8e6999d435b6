"""Running text to documents: plain text and Markdown, one document a paragraph."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from crossrank.data.text import Line, SkippedLines, skip_or_raise
from crossrank.types import Document

Block = tuple[str | None, list[Line]]

_HEADING = re.compile(r" {0,3}#{1,6}(?=[ \t]|$)")
_CLOSING_HASHES = re.compile(r"(?:^|[ \t])#+$")
_UNDERLINE = re.compile(r" {0,3}(?:={2,}|-{2,})[ \t]*$")
_BREAK = re.compile(r" {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$")
_FENCE = re.compile(r"\s*(`{3,}(?=[^`]*$)|~{3,})")
_FRONT_MATTER_END = ("---", "...")


def text_documents(lines: Iterable[Line], name: str, *, skipped: SkippedLines | None = None) -> Iterator[Document]:
    """Yield the paragraphs of plain text, which blank lines separate.

    Each gets the id `name#n`, `n` from 1.

    Raises:
        DataError: At the first paragraph that is not UTF-8, without `skipped`.
    """
    return _documents(_text_blocks(lines), name, skipped)


def markdown_documents(lines: Iterable[Line], name: str, *, skipped: SkippedLines | None = None) -> Iterator[Document]:
    """Yield the paragraphs of Markdown, each with the nearest heading above it as its title.

    A fenced code block stays whole, blank lines included; front matter and thematic breaks are left out. Each
    paragraph gets the id `name#n`, `n` from 1.

    Raises:
        DataError: At the first paragraph that is not UTF-8, without `skipped`.
    """
    return _documents(_MarkdownBlocks().split(_after_front_matter(lines)), name, skipped)


def _documents(blocks: Iterable[Block], name: str, skipped: SkippedLines | None) -> Iterator[Document]:
    for number, (title, block) in enumerate(blocks, start=1):
        error = next((line.error for line in block if line.error), None)
        if error:
            skip_or_raise(error, skipped)
            continue
        text = "\n".join(line.text.rstrip() for line in block)
        yield Document(text, title=title, id=f"{name}#{number}")


def _text_blocks(lines: Iterable[Line]) -> Iterator[Block]:
    block: list[Line] = []
    for line in lines:
        if line.text.strip():
            block.append(line)
        elif block:
            yield None, block
            block = []
    if block:
        yield None, block


class _MarkdownBlocks:
    """The state of one pass over a Markdown file."""

    def __init__(self) -> None:
        self.title: str | None = None
        self.block: list[Line] = []
        self.fence: str | None = None

    def split(self, lines: Iterable[Line]) -> Iterator[Block]:
        for line in lines:
            text = line.text.rstrip("\r\n")
            if self.fence:
                self.block.append(line)
                self._close_fence(text)
            elif self._opens_fence(text):
                self.block.append(line)
            else:
                yield from self._outside_fence(line, text)
        yield from self._flush()

    def _outside_fence(self, line: Line, text: str) -> Iterator[Block]:
        heading = _HEADING.match(text)
        if heading:
            yield from self._flush()
            self.title = _CLOSING_HASHES.sub("", text[heading.end() :].strip()).strip() or self.title
        elif len(self.block) == 1 and _UNDERLINE.match(text):
            self.title = self.block.pop().text.strip()
        elif _BREAK.match(text) or not text.strip():
            yield from self._flush()
        else:
            self.block.append(line)

    def _flush(self) -> Iterator[Block]:
        if self.block:
            yield self.title, self.block
            self.block = []

    def _opens_fence(self, text: str) -> bool:
        opened = _FENCE.match(text)
        self.fence = opened[1] if opened else None
        return opened is not None

    def _close_fence(self, text: str) -> None:
        assert self.fence
        closing = text.strip()
        if len(closing) >= len(self.fence) and set(closing) == {self.fence[0]}:
            self.fence = None


def _after_front_matter(lines: Iterable[Line]) -> Iterator[Line]:
    rest = iter(lines)
    first = next(rest, None)
    if first is None:
        return iter(())
    held = [first]
    if first.text.rstrip() == "---":
        for line in rest:
            held.append(line)
            if line.text.rstrip() in _FRONT_MATTER_END:
                return rest
    return chain(held, rest)
