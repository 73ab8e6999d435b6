"""Query and document pairs to token ids, encoded as the checkpoint's own tokenizer encodes a pair.

Shape letters: `P` pairs, `T` tokens of one pair (ragged).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from crossrank.encoding.prompt import PromptTemplate
from crossrank.errors import CheckpointError, InputError
from crossrank.types import Document

# Of a document that is far too long only a prefix is tokenised: this many characters for each token of room. Text with
# longer words than that on average (white space, base64) is tokenised whole, so the token ids never depend on it.
CHARS_PER_TOKEN = 24
# Tokens at the end of such a prefix that a cut in the middle of a word may have changed.
CUT_MARGIN = 16


class VisualInput(Protocol):
    """The image of a document, sized for a model; its pixels are made when they are needed."""

    @property
    def num_tokens(self) -> int:
        """Image tokens of the sequence."""
        ...

    @property
    def key(self) -> bytes:
        """A digest of everything that the vision tower sees."""
        ...

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Return RGB pixels, in the shape that the model wants them."""
        ...


class NoRoom(InputError):
    """A query with its prompt fills all of `max_length`."""


@dataclass(frozen=True)
class EncodedPairs:
    """Token ids of many pairs, ragged, and what they show.

    Attributes:
        input_ids: One int32 array `(T,)` a pair, special tokens included.
        token_type_ids: The segments, same shapes.
        lengths: Number of tokens of each pair, int64 `(P,)`.
        truncated: Whether the document of a pair lost tokens, bool `(P,)`.
        images: The image of each pair, or None; empty where no pair can have one.
    """

    input_ids: list[npt.NDArray[np.int32]]
    token_type_ids: list[npt.NDArray[np.int32]]
    lengths: npt.NDArray[np.int64]
    truncated: npt.NDArray[np.bool_]
    images: Sequence[VisualInput | None] = ()

    def __len__(self) -> int:
        return len(self.input_ids)

    def select(self, rows: Sequence[int]) -> EncodedPairs:
        """Return some of the pairs, in the order of `rows`."""
        return EncodedPairs(
            [self.input_ids[row] for row in rows],
            [self.token_type_ids[row] for row in rows],
            self.lengths[list(rows)],
            self.truncated[list(rows)],
            [self.images[row] for row in rows] if self.images else (),
        )

    def __getitem__(self, rows: slice) -> EncodedPairs:
        """Return some of the pairs."""
        return EncodedPairs(
            self.input_ids[rows],
            self.token_type_ids[rows],
            self.lengths[rows],
            self.truncated[rows],
            self.images[rows],
        )


def concatenate(parts: Sequence[EncodedPairs]) -> EncodedPairs:
    """Return the pairs of all parts, in order; there is at least one part."""
    return EncodedPairs(
        [ids for part in parts for ids in part.input_ids],
        [types for part in parts for types in part.token_type_ids],
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.truncated for part in parts]),
        [image for part in parts for image in (part.images or [None] * len(part))]
        if any(part.images for part in parts)
        else (),
    )


@dataclass(frozen=True)
class Truncation:
    """How much of a pair is read, where a caller wants less than the checkpoint can.

    Attributes:
        max_length: Most tokens of a pair, special tokens included; the checkpoint's limit if None or above it.
        max_document_tokens: Most tokens of a document, its title included; what fits if None.
        max_query_tokens: Most tokens of a query; all of them if None: a query is cut only where a caller asks for it.
        keep: Which end of a document that is too long is read.
    """

    max_length: int | None = None
    max_document_tokens: int | None = None
    max_query_tokens: int | None = None
    keep: Literal["start", "end"] = "start"


WHAT_FITS = Truncation()


@dataclass(frozen=True)
class PairFrame:
    """The special tokens around and between the two sides of a pair, and their segments."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    before_types: tuple[int, ...]
    between_types: tuple[int, ...]
    after_types: tuple[int, ...]
    query_type: int
    document_type: int

    @property
    def num_tokens(self) -> int:
        """Number of special tokens of one pair."""
        return len(self.before) + len(self.between) + len(self.after)


def probe_frame(tokenizer: Tokenizer) -> PairFrame:
    """Read the special tokens of a pair off the tokenizer, by encoding one.

    Raises:
        CheckpointError: If the tokenizer puts the document first, or encodes a probe word to nothing.
    """
    encoded = tokenizer.encode("a", "a", add_special_tokens=True)
    sides = encoded.sequence_ids
    if 0 not in sides or 1 not in sides:
        raise CheckpointError("tokenizer.json: the tokenizer drops one side of a pair; is it the right file?")
    query = [i for i, side in enumerate(sides) if side == 0]
    document = [i for i, side in enumerate(sides) if side == 1]
    if query[-1] > document[0]:
        raise CheckpointError("tokenizer.json: the tokenizer puts the second text of a pair first")
    ids, types = encoded.ids, encoded.type_ids
    before, between, after = (
        slice(0, query[0]),
        slice(query[-1] + 1, document[0]),
        slice(document[-1] + 1, len(ids)),
    )
    return PairFrame(
        tuple(ids[before]),
        tuple(ids[between]),
        tuple(ids[after]),
        tuple(types[before]),
        tuple(types[between]),
        tuple(types[after]),
        types[query[0]],
        types[document[0]],
    )


class PairEncoder:
    """Encodes pairs for one checkpoint; safe to call from many threads.

    Args:
        tokenizer: The checkpoint's tokenizer; its own truncation and padding are switched off.
        max_length: Most tokens of a pair, special tokens included.
        prompt: Which text of query and document is read.
    """

    takes_instruction = False

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, prompt: PromptTemplate | None = None) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.prompt = prompt or PromptTemplate()
        self.max_length = max_length
        self.truncation = WHAT_FITS
        self.frame = probe_frame(tokenizer)

    def with_instruction(self, instruction: str | None) -> PairEncoder:
        """Return the encoder itself: a pair has no place for an instruction.

        Raises:
            InputError: If one is given.
        """
        if instruction is not None:
            raise no_instruction()
        return self

    def with_truncation(self, truncation: Truncation) -> PairEncoder:
        """Return an encoder that reads less of a pair, or the end of a document instead of its beginning."""
        if truncation == self.truncation:
            return self
        encoder = copy.copy(self)
        encoder.truncation = truncation
        encoder.max_length = min(self.max_length, truncation.max_length or self.max_length)
        return encoder

    def encode(self, pairs: Sequence[tuple[str, str | Document]]) -> EncodedPairs:
        """Encode pairs; a query that stands in several of them is tokenised once.

        Only the document is cut. A pair takes at most `max_length` tokens.

        Raises:
            InputError: If a query leaves no room for a document, or a text is not valid Unicode.
        """
        queries = self._encode_queries([query for query, _ in pairs])
        rooms = [self.room(queries[query], query) for query, _ in pairs]
        texts = [self.prompt.render_document(document) for _, document in pairs]
        documents = self._encode_documents(texts, rooms)
        input_ids: list[npt.NDArray[np.int32]] = []
        type_ids: list[npt.NDArray[np.int32]] = []
        truncated = np.zeros(len(pairs), np.bool_)
        for i, ((query, _), room) in enumerate(zip(pairs, rooms, strict=True)):
            kept = documents[i][:room] if self.truncation.keep == "start" else documents[i][-room:]
            truncated[i] = len(documents[i]) > room
            input_ids.append(self._join_ids(queries[query], kept))
            type_ids.append(self._join_types(len(queries[query]), len(kept)))
        lengths = np.fromiter((len(ids) for ids in input_ids), np.int64, len(input_ids))
        return EncodedPairs(input_ids, type_ids, lengths, truncated)

    def room(self, query_ids: Sequence[int], query: str) -> int:
        """Return how many document tokens are read beside a query.

        Raises:
            InputError: If none fit.
        """
        room = self.max_length - self.frame.num_tokens - len(query_ids)
        if room < 1:
            raise no_room("the query", query, len(query_ids), self.max_length)
        return min(room, self.truncation.max_document_tokens or room)

    def document_room(self, query: str, document: Document | None = None) -> int:
        """Return how many document tokens are read beside a query, given as text; all documents have the same room."""
        return self.room(self._encode_queries([query])[query], query)

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text has, without special tokens."""
        return len(self._tokenise([text], "text")[0])

    def _encode_queries(self, queries: Sequence[str]) -> dict[str, list[int]]:
        distinct = list(dict.fromkeys(queries))
        encoded = self._tokenise([self.prompt.render_query(query) for query in distinct], "query")
        return {query: ids[: self.truncation.max_query_tokens] for query, ids in zip(distinct, encoded, strict=True)}

    def _encode_documents(self, texts: list[str], rooms: list[int]) -> list[list[int]]:
        limits = [CHARS_PER_TOKEN * (room + CUT_MARGIN) for room in rooms]
        parts = [slice(limit) if self.truncation.keep == "start" else slice(-limit, None) for limit in limits]
        ids = self._tokenise([text[part] for text, part in zip(texts, parts, strict=True)], "document")
        for i, (text, limit, room) in enumerate(zip(texts, limits, rooms, strict=True)):
            if len(text) > limit and len(ids[i]) < room + CUT_MARGIN:
                ids[i] = self._tokenise([text], "document")[0]
        return ids

    def _tokenise(self, texts: list[str], what: str) -> list[list[int]]:
        return [encoding.ids for encoding in encode_texts(self.tokenizer, texts, what, with_offsets=False)]

    def _join_ids(self, query: list[int], document: list[int]) -> npt.NDArray[np.int32]:
        frame = self.frame
        return np.array([*frame.before, *query, *frame.between, *document, *frame.after], np.int32)

    def _join_types(self, num_query: int, num_document: int) -> npt.NDArray[np.int32]:
        frame = self.frame
        types = np.array(
            [*frame.before_types, frame.query_type, *frame.between_types, frame.document_type, *frame.after_types],
            np.int32,
        )
        repeats = np.ones(len(types), np.int64)
        repeats[len(frame.before)] = num_query
        repeats[len(frame.before) + 1 + len(frame.between)] = num_document
        return np.repeat(types, repeats)


def encode_texts(tokenizer: Tokenizer, texts: list[str], what: str, *, with_offsets: bool = True) -> list[Encoding]:
    """Tokenise texts without adding special tokens.

    Args:
        tokenizer: Of the checkpoint.
        texts: In any order.
        what: What they are, for the error.
        with_offsets: Whether anybody reads where in the text each token stands; it takes a little time.

    Raises:
        InputError: If a text is not valid Unicode.
    """
    encode = tokenizer.encode_batch if with_offsets else tokenizer.encode_batch_fast
    try:
        encodings: list[Encoding] = encode(texts, add_special_tokens=False)
    except (UnicodeEncodeError, TypeError):
        bad = next((i for i, text in enumerate(texts) if not _is_unicode(text)), None)
        if bad is None:
            raise
        raise InputError(
            f"{what} {bad} is not valid Unicode (a lone surrogate): {texts[bad][:60]!a}; "
            "decode it with errors='replace' first"
        ) from None
    return encodings


def no_instruction() -> InputError:
    """Return the error for an instruction that the prompt has no place for."""
    return InputError("the prompt of this checkpoint has no place for an instruction: leave it out")


def no_room(what: str, query: str, num_tokens: int, max_length: int) -> NoRoom:
    """Return the error for a query, alone or with its prompt, beside which no document fits."""
    return NoRoom(
        f"{what} has {num_tokens} tokens and leaves no room for a document in max_length={max_length}: "
        f"shorten it ({query[:60]!r}...)"
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
