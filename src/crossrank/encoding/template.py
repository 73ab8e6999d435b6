"""Pairs as one sequence: the prompts of rerankers that are language models, rendered and cut to length.

Shape letters: `P` pairs, `T` tokens of one pair (ragged).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from crossrank.encoding.pairs import (
    CHARS_PER_TOKEN,
    CUT_MARGIN,
    WHAT_FITS,
    EncodedPairs,
    Truncation,
    encode_texts,
    no_instruction,
    no_room,
)
from crossrank.encoding.prompt import PromptTemplate
from crossrank.errors import CheckpointError, InputError
from crossrank.types import Document

Slot = Literal["query", "document", "instruction"]
_SLOT = re.compile(r"\{(query|document|instruction)\}")
# Stands for a document where the text behind one is tokenised: a letter, which no tokenizer joins with what follows.
_STAND_IN = "a"


@dataclass(frozen=True)
class SequenceTemplate:
    """How a pair becomes one sequence of tokens. Saved in `crossrank.json`.

    Every piece is tokenised on its own, as one string, and the ids are joined; so tokens merge across the border of
    prompt and text within a piece and never between two. Special tokens are written out, as in `"<bos>"` or
    `"<|im_start|>"`. `{query}`, `{document}` and `{instruction}` are slots; every other brace is text, and braces in a
    query or document are never expanded.

    Attributes:
        pieces: The texts, in order. `{query}` and `{document}` stand in them once, `{instruction}` at most once.
        instruction: What fills `{instruction}` where the caller gives one; holds `{instruction}` itself once.
        without_instruction: What fills it otherwise: nothing, or a default.
        special_tokens: Whether the tokenizer's own special tokens for a single text stand around everything.
        query_share: A piece with the query and without the document keeps at most this share of `max_length`; None
            never cuts a query.
        stripped: Slots whose text loses the white space around it.
    """

    pieces: tuple[str, ...]
    instruction: str = "{instruction}"
    without_instruction: str = ""
    special_tokens: bool = False
    query_share: float | None = None
    stripped: tuple[Slot, ...] = ()

    def __post_init__(self) -> None:
        slots = [slot for piece in self.pieces for slot in _SLOT.findall(piece)]
        for slot in ("query", "document"):
            if slots.count(slot) != 1:
                raise CheckpointError(f"template: the pieces must hold {{{slot}}} once, not {slots.count(slot)} times")
        if slots.count("instruction") > 1 or self.instruction.count("{instruction}") != 1:
            raise CheckpointError("template: {instruction} may stand once in the pieces, and once in `instruction`")
        if self.without_instruction and not self.takes_instruction:
            raise CheckpointError("template: without_instruction needs {instruction} in a piece")
        if self.query_share is not None and not 0 < self.query_share < 1:
            raise CheckpointError(f"template: query_share must be between 0 and 1, not {self.query_share}")

    @property
    def takes_instruction(self) -> bool:
        """Whether the caller may give an instruction."""
        return any("{instruction}" in piece for piece in self.pieces)

    def render_instruction(self, instruction: str | None) -> str:
        """Return what fills `{instruction}`."""
        if instruction is None:
            return self.without_instruction
        return self.instruction.replace("{instruction}", self.read("instruction", instruction))

    def read(self, slot: Slot, text: str) -> str:
        """Return what of a text stands in its slot."""
        return text.strip() if slot in self.stripped else text


class _Frame(NamedTuple):
    """Everything but the document of a pair, for one query.

    Attributes:
        before: Ids of the pieces before the document's.
        head: Text before the document in its own piece.
        tail: Text behind it there.
        tail_ids: The tail behind a document that was cut.
        after: Ids of the pieces behind the document's.
        room: How many document tokens are read.
        left: How many tokens the document's piece may have.
        query_cut: Whether the template cut the query.
    """

    before: list[int]
    head: str
    tail: str
    tail_ids: list[int]
    after: list[int]
    room: int
    left: int
    query_cut: bool


class TemplateEncoder:
    """Encodes pairs by a template; safe to call from many threads.

    Args:
        tokenizer: The checkpoint's tokenizer; its own truncation and padding are switched off.
        template: The pieces.
        max_length: Most tokens of a pair, special tokens included.
        prompt: Which text of query and document fills the slots.
        instruction: Instead of the template's default.
        constants: Ids of pieces that are not tokenised, such as an image.
        may_be_empty: Whether a pair without room for any document token may be encoded.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: SequenceTemplate,
        *,
        max_length: int,
        prompt: PromptTemplate | None = None,
        instruction: str | None = None,
        constants: Mapping[str, list[int]] | None = None,
        may_be_empty: bool = False,
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.template = template
        self.prompt = prompt or PromptTemplate()
        self.max_length = max_length
        self._instruction = template.render_instruction(instruction)
        self._special_before, self._special_after = (
            probe_special_tokens(tokenizer) if template.special_tokens else ([], [])
        )
        self.truncation = WHAT_FITS
        self._given = dict(constants or {})
        self._may_be_empty = may_be_empty
        self._constant = {
            piece: self._given[piece] if piece in self._given else self._ids(piece, "template")
            for piece in template.pieces
            if not _SLOT.search(piece)
        }

    @property
    def takes_instruction(self) -> bool:
        """Whether the template has a place for an instruction."""
        return self.template.takes_instruction

    def with_instruction(self, instruction: str | None) -> TemplateEncoder:
        """Return an encoder whose prompt holds an instruction; None is the template's default.

        Raises:
            InputError: If the template has no place for one, or it is not a text.
        """
        if instruction is None:
            return self
        if not self.template.takes_instruction:
            raise no_instruction()
        if not isinstance(instruction, str) or not instruction.strip():
            raise InputError(f"the instruction must be a text, not {instruction!r}: leave it out for the default")
        return TemplateEncoder(
            self.tokenizer,
            self.template,
            max_length=self.max_length,
            prompt=self.prompt,
            instruction=instruction,
            constants=self._given,
            may_be_empty=self._may_be_empty,
        )

    def with_truncation(self, truncation: Truncation) -> TemplateEncoder:
        """Return an encoder that reads less of a pair, or the end of a document instead of its beginning."""
        if truncation == self.truncation:
            return self
        encoder = copy.copy(self)
        encoder.truncation = truncation
        encoder.max_length = min(self.max_length, truncation.max_length or self.max_length)
        return encoder

    def encode(self, pairs: Sequence[tuple[str, str | Document]]) -> EncodedPairs:
        """Encode pairs; what does not depend on the document is tokenised once for each query.

        Only the document is cut, at its end, and the query where the template caps it. A pair takes at most
        `max_length` tokens.

        Raises:
            InputError: If a query leaves no room for a document, or a text is not valid Unicode.
        """
        frames = {query: self._frame(query) for query in dict.fromkeys(query for query, _ in pairs)}
        framed = [frames[query] for query, _ in pairs]
        documents = [self.template.read("document", self.prompt.render_document(document)) for _, document in pairs]
        ends = [self._end(document, frame.room) for document, frame in zip(documents, framed, strict=True)]
        input_ids: list[npt.NDArray[np.int32]] = []
        truncated = np.zeros(len(pairs), np.bool_)
        for i, (encoding, frame) in enumerate(zip(self._encode_documents(framed, ends), framed, strict=True)):
            ids, is_cut = self._fit(encoding, frame, len(frame.head) + len(ends[i]))
            truncated[i] = is_cut or frame.query_cut or len(ends[i]) < len(documents[i])
            input_ids.append(np.array([*frame.before, *ids, *frame.after], np.int32))
        lengths = np.fromiter((len(ids) for ids in input_ids), np.int64, len(input_ids))
        return EncodedPairs(input_ids, [np.zeros(len(ids), np.int32) for ids in input_ids], lengths, truncated)

    def document_room(self, query: str, document: Document | None = None) -> int:
        """Return how many document tokens fit beside a query, given as text; all documents have the same room."""
        return self._frame(query).room

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text has, without special tokens."""
        return len(self._ids(text, "text"))

    def _fit(self, encoding: Encoding, frame: _Frame, document_end: int) -> tuple[list[int], bool]:
        """Return the ids of the document's piece, and whether the document was cut to make them fit."""
        ids: list[int] = encoding.ids
        if len(ids) <= frame.left:
            return ids, False
        # A token that reaches from the document into the tail goes too: the tail is whole in `tail_ids`.
        inside = next((i for i, (_, end) in enumerate(encoding.offsets) if end > document_end), len(ids))
        return ids[: min(inside, frame.left - len(frame.tail_ids))] + frame.tail_ids, True

    def _encode_documents(self, frames: list[_Frame], documents: list[str]) -> list[Encoding]:
        """Tokenise the pieces that hold documents; of one that is far too long, only a prefix."""
        texts = [_shortened(document, frame) for document, frame in zip(documents, frames, strict=True)]
        encodings = self._encode_pieces(frames, texts)
        again = [
            i
            for i, (text, frame) in enumerate(zip(texts, frames, strict=True))
            if len(text) < len(documents[i]) and len(encodings[i].ids) < frame.left + CUT_MARGIN
        ]
        if again:
            whole = self._encode_pieces([frames[i] for i in again], [documents[i] for i in again])
            for i, encoding in zip(again, whole, strict=True):
                encodings[i] = encoding
        return encodings

    def _end(self, document: str, room: int) -> str:
        """Return the words in the last `room` tokens of a document where its end is asked for, else all of it."""
        if self.truncation.keep == "start":
            return document
        part = document[-CHARS_PER_TOKEN * (room + CUT_MARGIN) :]
        offsets = encode_texts(self.tokenizer, [part], "document")[0].offsets
        if len(part) < len(document) and len(offsets) < room + CUT_MARGIN:
            part = document
            offsets = encode_texts(self.tokenizer, [part], "document")[0].offsets
        if len(offsets) <= room:
            return part
        starts = [start for start, _ in offsets[-room:]]
        # From the beginning of a word on, because what is left of a word may have more tokens than it had inside.
        return part[next((start for start in starts if not part[start - 1 : start].strip()), starts[0]) :]

    def _encode_pieces(self, frames: Iterable[_Frame], documents: Iterable[str]) -> list[Encoding]:
        texts = [frame.head + document + frame.tail for frame, document in zip(frames, documents, strict=True)]
        return encode_texts(self.tokenizer, texts, "document")

    def _frame(self, query: str) -> _Frame:
        """Render everything around the document.

        Raises:
            InputError: If it leaves no room for one.
        """
        values = {"query": self._query(query), "instruction": self._instruction}
        query_cap = None if self.template.query_share is None else int(self.max_length * self.template.query_share)
        before, after, query_cut = list(self._special_before), list[int](), False
        head = tail = ""
        side = before
        for piece in self.template.pieces:
            if "{document}" in piece:
                head, tail = (_fill(part, values) for part in piece.split("{document}"))
                side = after
                continue
            ids = self._constant.get(piece) or self._ids(_fill(piece, values), "query")
            if query_cap is not None and "{query}" in piece:
                query_cut = len(ids) > query_cap
                ids = ids[:query_cap]
            side += ids
        after += self._special_after
        num_head, tail_ids = self._probe_document_piece(head, tail)
        used = len(before) + num_head + len(tail_ids) + len(after)
        if used + (not self._may_be_empty) > self.max_length:
            raise no_room("the query with its prompt", query, used, self.max_length)
        room = min(self.max_length - used, self.truncation.max_document_tokens or self.max_length)
        return _Frame(before, head, tail, tail_ids, after, room, num_head + room + len(tail_ids), query_cut)

    def _query(self, query: str) -> str:
        """Return the text of a query, cut where the caller asked for that."""
        rendered, most = self.template.read("query", self.prompt.render_query(query)), self.truncation.max_query_tokens
        if most is None:
            return rendered
        offsets = encode_texts(self.tokenizer, [rendered], "query")[0].offsets
        return rendered if len(offsets) <= most else rendered[: offsets[most - 1][1]]

    def _probe_document_piece(self, head: str, tail: str) -> tuple[int, list[int]]:
        """Return how many tokens stand before a document in its piece, and the ids behind it.

        Raises:
            CheckpointError: If the text behind a document cannot be told from it.
        """
        encoding = encode_texts(self.tokenizer, [head + _STAND_IN + tail], "query")[0]
        document_end = len(head) + len(_STAND_IN)
        num_head = sum(end <= len(head) for _, end in encoding.offsets)
        num_kept = sum(end <= document_end for _, end in encoding.offsets)
        if any(start < document_end for start, _ in encoding.offsets[num_kept:]):
            raise CheckpointError(
                f"template: {tail[:20]!r} right behind {{document}} melts into it: begin with a space"
            )
        return num_head, encoding.ids[num_kept:]

    def _ids(self, text: str, what: str) -> list[int]:
        ids: list[int] = encode_texts(self.tokenizer, [text], what)[0].ids
        return ids


def _fill(piece: str, values: Mapping[str, str]) -> str:
    """Fill the slots of a piece in one pass, so that braces in a value stay text."""
    return _SLOT.sub(lambda slot: values[slot[1]], piece)


def _shortened(document: str, frame: _Frame) -> str:
    return document[: CHARS_PER_TOKEN * (frame.room + CUT_MARGIN)]


def probe_special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the special tokens that the tokenizer puts before and behind a single text."""
    encoding = tokenizer.encode("a", add_special_tokens=True)
    text = [i for i, is_special in enumerate(encoding.special_tokens_mask) if not is_special]
    if not text:
        raise CheckpointError("tokenizer.json: the tokenizer encodes a letter to nothing; is it the right file?")
    return encoding.ids[: text[0]], encoding.ids[text[-1] + 1 :]
