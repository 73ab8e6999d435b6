"""Pairs whose documents may be images: prompts with places for image tokens, and limits by what a document holds.

Image tokens are never cut. Shape letters: `P` pairs, `T` tokens of one pair (ragged).
"""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from crossrank.encoding.images import with_image_sources
from crossrank.encoding.pairs import (
    WHAT_FITS,
    EncodedPairs,
    NoRoom,
    PairEncoder,
    Truncation,
    VisualInput,
    encode_texts,
)
from crossrank.encoding.patches import Patching
from crossrank.encoding.prompt import PromptTemplate
from crossrank.encoding.template import SequenceTemplate, TemplateEncoder
from crossrank.encoding.tiles import Tiling
from crossrank.errors import CheckpointError, InputError
from crossrank.types import Document, LazyImage

# Pieces of a template that stand for ids: an image with the tokens around it, and what a family states as ids.
IMAGE_PIECE = "{image}"
ENDING_PIECE = "{ending}"


@dataclass(frozen=True)
class VisualPrompt:
    """How a family of visual rerankers writes pairs; each template is one for a kind of document.

    Attributes:
        text: For a document without an image; None where the family reads images alone.
        image: For a document with an image; holds `IMAGE_PIECE`.
        reads_both: Whether a document may have a text beside its image.
        image_tokens: The special tokens before, for and behind an image, as the tokenizer spells them.
        reserved: Further special tokens that a text must not be able to write.
        ending: Ids that stand for `ENDING_PIECE`.
        empty_document: What stands for a document without text and image.
        query_tokens: Most tokens of a query; a document's text then has the rest of the limit. None caps neither.
    """

    text: SequenceTemplate | None
    image: SequenceTemplate
    image_tokens: tuple[str, str, str]
    reads_both: bool = True
    reserved: tuple[str, ...] = ()
    ending: tuple[int, ...] = ()
    empty_document: str = ""
    query_tokens: int | None = None


@dataclass(frozen=True)
class VisualLimits:
    """Most tokens of a pair, by what its document holds; image tokens and special tokens included."""

    text: int
    image: int
    image_text: int


@dataclass(frozen=True)
class VisualFormat:
    """How one checkpoint reads images: its prompt, its limits, and how images become tokens.

    Attributes:
        prompt: Of its family.
        limits: Most tokens of a pair.
        sizing: Tiles or patches.
        slot_id: What the checkpoint's configuration says the id of an image token is; None where it does not.
    """

    prompt: VisualPrompt
    limits: VisualLimits
    sizing: Tiling | Patching
    slot_id: int | None = None


class _Capped(NamedTuple):
    """A text, and whether it lost its end."""

    text: str
    is_cut: bool


class VisualEncoder:
    """Encodes pairs of a query and a text, an image, or both; safe to call from many threads.

    Text never becomes an image token: what spells one in a query or a document is tokenised as ordinary text.

    Args:
        tokenizer: The checkpoint's tokenizer.
        visual: How the checkpoint reads images.
        prompt: Which text of query and document fills the slots.
        instruction: Instead of the template's default.
        fewer_tiles: Whether an image may become smaller so that its document fits.

    Raises:
        CheckpointError: If the tokenizer lacks an image token, or `config.json` has another id for it.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        visual: VisualFormat,
        *,
        prompt: PromptTemplate | None = None,
        instruction: str | None = None,
        fewer_tiles: bool = False,
    ) -> None:
        self.visual = visual
        self.prompt = prompt or PromptTemplate()
        self.max_length = visual.limits.text
        self.image_ids = image_token_ids(tokenizer, visual.prompt.image_tokens, visual.slot_id)
        self.tokenizer = without_tokens(tokenizer, {*visual.prompt.image_tokens, *visual.prompt.reserved})
        self._instruction = instruction
        self._fewer_tiles = fewer_tiles
        self._truncation = WHAT_FITS

    @property
    def takes_instruction(self) -> bool:
        """Whether the template has a place for an instruction."""
        return self.visual.prompt.image.takes_instruction

    @property
    def slot_id(self) -> int:
        """The id that stands where a vector of an image goes."""
        return self.image_ids[1]

    def with_instruction(self, instruction: str | None) -> VisualEncoder:
        """Return an encoder whose prompt holds an instruction; None is the template's default.

        Raises:
            InputError: If the template has no place for one, or it is not a text.
        """
        if instruction is None:
            return self
        changed = copy.copy(self)
        changed._instruction = instruction
        changed._template_encoder(None)  # raises
        return changed

    def with_truncation(self, truncation: Truncation) -> VisualEncoder:
        """Return an encoder that reads less of a pair's text, or the end of a document instead of its beginning."""
        changed = copy.copy(self)
        changed._truncation = truncation
        changed.max_length = min(self.max_length, truncation.max_length or self.max_length)
        return changed

    def with_fewer_tiles(self) -> VisualEncoder:
        """Return an encoder that makes an image smaller where its document does not fit otherwise."""
        changed = copy.copy(self)
        changed._fewer_tiles = True
        return changed

    def encode(self, pairs: Sequence[tuple[str, str | Document]]) -> EncodedPairs:
        """Encode pairs.

        Only text is cut: a document's, at its end, and the query's where the family caps it.

        Raises:
            InputError: If an image cannot be read, an image with the query does not fit, a query leaves no room for a
                document, the family does not read what a document holds, or a text is not valid Unicode.
        """
        documents = with_image_sources([document for _, document in pairs])
        queries = [query for query, _ in pairs]
        encoded: list[EncodedPairs | None] = [None] * len(pairs)
        texts = [i for i, document in enumerate(documents) if _image_of(document) is None]
        for i, row in zip(texts, self._encode_texts([(queries[i], documents[i]) for i in texts]), strict=True):
            encoded[i] = row
        rows = [row or self._encode_page(queries[i], documents[i]) for i, row in enumerate(encoded)]
        return EncodedPairs(
            [row.input_ids[0] for row in rows],
            [row.token_type_ids[0] for row in rows],
            np.array([row.lengths[0] for row in rows], np.int64),
            np.array([row.truncated[0] for row in rows], np.bool_),
            [row.images[0] for row in rows],
        )

    def document_room(self, query: str, document: Document | None = None) -> int:
        """Return how many tokens of a document's text fit beside a query, given as text, and the document's image."""
        [image] = self.encode([(query, document)]).images if document is not None else [None]
        return self._template_encoder(image).document_room(self._within_caps(query, "")[0].text)

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text has, without special tokens."""
        return len(encode_texts(self.tokenizer, [text], "text")[0].ids)

    def _encode_texts(self, pairs: list[tuple[str, str | Document]]) -> list[EncodedPairs]:
        """Encode pairs without images."""
        if not pairs:
            return []
        if self.visual.prompt.text is None:
            raise InputError("a document has no image, and this model reads images alone")
        queries, texts = zip(*(self._within_caps(query, document) for query, document in pairs), strict=True)
        empty = self.visual.prompt.empty_document
        encoded = self._template_encoder(None).encode(
            [(query.text, text.text or empty) for query, text in zip(queries, texts, strict=True)]
        )
        cut = [query.is_cut or text.is_cut for query, text in zip(queries, texts, strict=True)]
        encoded = replace(encoded, truncated=encoded.truncated | np.array(cut), images=[None] * len(pairs))
        return [encoded.select([i]) for i in range(len(pairs))]

    def _encode_page(self, query: str, document: str | Document) -> EncodedPairs:
        """Encode a pair whose document has an image."""
        source = _image_of(document)
        assert source is not None
        kept_query, text = self._within_caps(query, document)
        if text.text.strip() and not self.visual.prompt.reads_both:
            raise InputError(f"{source.where}: this model reads a text or an image, not both at once: give one of them")
        encoded = self._fit_image(kept_query.text, text.text, source)
        return replace(encoded, truncated=encoded.truncated | (kept_query.is_cut or text.is_cut))

    def _fit_image(self, query: str, text: str, source: LazyImage) -> EncodedPairs:
        """Encode a pair with the largest form of the image with which all fits, or else, with which the image does."""
        problem: NoRoom | None = None
        fallback: EncodedPairs | None = None
        for image in self.visual.sizing.sizes(source):
            try:
                encoded = self._template_encoder(image, has_text=bool(text)).encode([(query, text)])
            except NoRoom as error:
                problem = error
            else:
                fallback = replace(encoded, images=[image])
                if not encoded.truncated[0]:
                    return fallback
            if not self._fewer_tiles:
                break
        if fallback is not None:
            return fallback
        limit = self._limit(has_image=True, has_text=bool(text))
        limit = min(limit, self._truncation.max_length or limit)
        advice = "" if self._fewer_tiles else ", let on_overflow='fewer_tiles' make the image smaller"
        raise InputError(
            f"{source.where}: image and query do not fit in max_length={limit} tokens, and image tokens are never cut: "
            f"allow more{advice}, or shorten the query"
        ) from problem

    def _within_caps(self, query: str, document: str | Document) -> tuple[_Capped, _Capped]:
        """Return query and document text within what the family allows for each."""
        text, cap = self.prompt.render_document(document), self.visual.prompt.query_tokens
        if cap is None:
            return _Capped(query, False), _Capped(text, False)
        return self._cap(query, cap, "query"), self._cap(text, max(1, self.max_length - cap), "document")

    def _cap(self, text: str, num_tokens: int, what: str) -> _Capped:
        offsets = encode_texts(self.tokenizer, [text], what)[0].offsets
        if len(offsets) <= num_tokens:
            return _Capped(text, False)
        return _Capped(text[: offsets[num_tokens - 1][1]], True)

    def _limit(self, *, has_image: bool, has_text: bool) -> int:
        limits = self.visual.limits
        return limits.text if not has_image else limits.image_text if has_text else limits.image

    def _template_encoder(self, image: VisualInput | None, *, has_text: bool = True) -> TemplateEncoder:
        prompt = self.visual.prompt
        template = prompt.text if image is None and prompt.text is not None else prompt.image
        begin, slot, end = self.image_ids
        num_slots = image.num_tokens if image is not None else 0
        ids = {IMAGE_PIECE: [begin, *[slot] * num_slots, end], ENDING_PIECE: list(prompt.ending)}
        encoder = TemplateEncoder(
            self.tokenizer,
            template,
            max_length=self._limit(has_image=image is not None, has_text=has_text),
            prompt=self.prompt,
            constants=ids,
            may_be_empty=image is not None,
        )
        return encoder.with_instruction(self._instruction).with_truncation(self._truncation)


def image_token_ids(tokenizer: Tokenizer, names: tuple[str, str, str], slot_id: int | None) -> tuple[int, int, int]:
    """Return the ids of the tokens before, for and behind an image.

    Args:
        tokenizer: The checkpoint's.
        names: How it spells them.
        slot_id: What `config.json` says that the second one is; None where it does not.

    Raises:
        CheckpointError: If the tokenizer lacks one, or `config.json` has another id for it.
    """
    begin, slot, end = (tokenizer.token_to_id(name) for name in names)
    if begin is None or slot is None or end is None:
        raise CheckpointError(f"tokenizer.json: no token {' or '.join(names)}: is it the tokenizer of this checkpoint?")
    if slot_id is not None and slot_id != slot:
        raise CheckpointError(
            f"config.json says that {slot_id} stands for an image, and the tokenizer has {slot} for {names[1]}: "
            "are both of one checkpoint?"
        )
    return begin, slot, end


def without_tokens(tokenizer: Tokenizer, names: Collection[str]) -> Tokenizer:
    """Return a tokenizer for which these special tokens are ordinary text; all ids stay as they are."""
    stated = json.loads(tokenizer.to_str())
    for token in stated["added_tokens"]:
        if token["content"] in names:
            token["content"] = uuid.uuid4().hex  # what no text spells; taking it away would shift the ids behind it
    return Tokenizer.from_str(json.dumps(stated))


def _image_of(document: str | Document) -> LazyImage | None:
    return None if isinstance(document, str) else document.image


# What makes token ids of pairs.
Encoder = PairEncoder | TemplateEncoder | VisualEncoder
