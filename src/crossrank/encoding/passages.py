"""Queries and pages as a bi-encoder reads them: each on its own, a prefix before it, the image before the text.

Image tokens are never cut. Shape letters: `D` documents, `T` tokens of one of them (ragged).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from crossrank.encoding.pairs import VisualInput, encode_texts
from crossrank.encoding.template import probe_special_tokens
from crossrank.encoding.tiles import Tiling
from crossrank.encoding.visual import VisualLimits, image_token_ids, without_tokens
from crossrank.errors import InputError
from crossrank.types import LazyImage

IMAGE_TOKENS = ("<img>", "<IMG_CONTEXT>", "</img>")


@dataclass(frozen=True)
class PassageFormat:
    """How one checkpoint writes queries and documents.

    Attributes:
        query_prefix: Before a query, with a space between them; nothing where empty.
        passage_prefix: The same before a document.
        max_query_tokens: Most tokens of a query, special tokens included.
        limits: Most tokens of a document, by what it holds.
        tiling: How images are cut.
        slot_id: What the checkpoint's configuration says the id of an image token is; None where it does not.
    """

    query_prefix: str
    passage_prefix: str
    max_query_tokens: int
    limits: VisualLimits
    tiling: Tiling
    slot_id: int | None = None


@dataclass(frozen=True)
class EncodedPassage:
    """Token ids, int32 `(T,)`, and the image whose tokens are among them."""

    input_ids: npt.NDArray[np.int32]
    image: VisualInput | None = None


class PassageEncoder:
    """Encodes queries and documents; safe to call from many threads.

    Text never becomes an image token: what spells one is tokenised as ordinary text.

    Args:
        tokenizer: The checkpoint's tokenizer; its own truncation and padding are switched off.
        passages: How the checkpoint writes them.

    Raises:
        CheckpointError: If the tokenizer lacks an image token, or `config.json` has another id for it.
    """

    def __init__(self, tokenizer: Tokenizer, passages: PassageFormat) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.passages = passages
        self.image_ids = image_token_ids(tokenizer, IMAGE_TOKENS, passages.slot_id)
        self.tokenizer = without_tokens(tokenizer, IMAGE_TOKENS)
        self._before, self._after = probe_special_tokens(self.tokenizer)

    def encode_queries(self, texts: Sequence[str]) -> list[EncodedPassage]:
        """Encode queries; one that is too long loses its end.

        Raises:
            InputError: If a text is not valid Unicode.
        """
        prefixed = [_with_prefix(self.passages.query_prefix, text) for text in texts]
        return [self._join(ids, self.passages.max_query_tokens) for ids in self._ids(prefixed, "query")]

    def encode_texts(self, texts: Sequence[str]) -> list[EncodedPassage]:
        """Encode documents without images; one that is too long loses its end.

        Raises:
            InputError: If a text is not valid Unicode.
        """
        prefixed = [_with_prefix(self.passages.passage_prefix, text) for text in texts]
        return [self._join(ids, self.passages.limits.text) for ids in self._ids(prefixed, "document")]

    def encode_page(self, source: LazyImage, text: str) -> EncodedPassage:
        """Encode a document with an image; of its text, which may be empty, what is too long loses its end.

        Raises:
            InputError: If the image cannot be read, or takes more tokens than a document may have.
        """
        limits = self.passages.limits
        limit = limits.image_text if text else limits.image
        image = next(iter(self.passages.tiling.sizes(source)))
        begin, slot, end = self.image_ids
        # The pieces on both sides of a special token are tokenised apart by any tokenizer.
        [head] = self._ids([_with_prefix(self.passages.passage_prefix, "")], "prefix")
        head += [begin, *[slot] * image.num_tokens, end]
        if len(self._before) + len(head) + len(self._after) > limit:
            raise InputError(
                f"{source.where}: {image.num_tokens} image tokens do not fit in {limit} tokens, and image tokens are "
                'never cut: allow fewer tiles, with "vision": {"max_input_tiles": ...} in crossrank.json'
            )
        [tail] = self._ids([f" {text}"], "document")
        encoded = self._join(head + tail, limit)
        return EncodedPassage(encoded.input_ids, image)

    def _join(self, ids: list[int], limit: int) -> EncodedPassage:
        room = limit - len(self._before) - len(self._after)
        return EncodedPassage(np.array([*self._before, *ids[:room], *self._after], np.int32))

    def _ids(self, texts: list[str], what: str) -> list[list[int]]:
        return [encoding.ids for encoding in encode_texts(self.tokenizer, texts, what, with_offsets=False)]


def _with_prefix(prefix: str, text: str) -> str:
    return f"{prefix} {text}" if prefix else text
