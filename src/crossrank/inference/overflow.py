"""From documents to the pairs that are computed, and back: windows in place of those that are too long, and hits.

Shape letters: `N` documents, each beside its query; `P` pairs to compute for them, one a document or one a window;
`L` labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from crossrank.encoding.pairs import EncodedPairs, concatenate
from crossrank.encoding.visual import Encoder, VisualEncoder
from crossrank.encoding.windows import split_into_windows
from crossrank.errors import InputError
from crossrank.types import Document, Hit, Scores

OnOverflow = Literal["truncate", "chunk", "fewer_tiles", "error"]
Span = tuple[int, int] | None
# Tokens of the smallest window over a text that has to share its room with an image.
_LEAST_WINDOW = 4


@dataclass(frozen=True)
class Windows:
    """The pairs to compute for documents.

    Attributes:
        pairs: Query and document, or query and window, `(P,)`.
        owners: The document that each pair belongs to, int64 `(P,)`, ascending.
        spans: The half-open range of characters of each window; None for a pair that is a whole document.
        encoded: The pairs as token ids, where finding the windows has made them.
    """

    pairs: list[tuple[str, Document]]
    owners: npt.NDArray[np.int64]
    spans: list[Span]
    encoded: EncodedPairs | None = None


@dataclass(frozen=True)
class ScoredDocuments:
    """Logits `(N, L)` of documents, whether each lost text `(N,)`, and the window that gave the score."""

    logits: npt.NDArray[np.float32]
    truncated: npt.NDArray[np.bool_]
    spans: list[Span]


@dataclass(frozen=True)
class PreparedDocuments:
    """Documents beside their queries as token ids `(P,)`, to be computed alone or together with those of others."""

    windows: Windows
    encoded: EncodedPairs


def encoder_for(on_overflow: OnOverflow, encoder: Encoder) -> Encoder:
    """Return the encoder that does what is asked for.

    Raises:
        InputError: If images are to become smaller, and the encoder reads text alone.
    """
    if on_overflow != "fewer_tiles":
        return encoder
    if isinstance(encoder, VisualEncoder):
        return encoder.with_fewer_tiles()
    raise InputError("on_overflow='fewer_tiles' is for models that read images, and this one reads text")


def cut(pairs: Sequence[tuple[str, Document]], *, encoder: Encoder, on_overflow: OnOverflow) -> Windows:
    """Return the pairs as they are, or with windows in place of those that are too long.

    Raises:
        InputError: If one is too long under `"error"`, or its title leaves windows little room.
    """
    if on_overflow in ("truncate", "fewer_tiles"):
        return Windows(list(pairs), np.arange(len(pairs)), [None] * len(pairs))
    encoded = encoder.encode(pairs)
    long = np.flatnonzero(encoded.truncated).tolist()
    if on_overflow == "error" and long:
        raise InputError(
            f"document {long[0]} does not fit in max_length={encoder.max_length} tokens beside the query "
            f"({len(long)} of {len(pairs)} do not): shorten it, or use on_overflow='truncate' or 'chunk'"
        )
    windows: list[list[Span]] = [[None]] * len(pairs)
    for i in long:
        windows[i] = _split(*pairs[i], index=i, encoder=encoder)
    owners = [i for i, spans in enumerate(windows) for _ in spans]
    spans = [span for spans in windows for span in spans]
    parts = [(pairs[i][0], _part(pairs[i][1], span)) for i, span in zip(owners, spans, strict=True)]
    if long:
        encoded = _with_windows(encoded, parts, owners, spans, encoder=encoder)
    return Windows(parts, np.array(owners, np.int64), spans, encoded)


def best_windows(
    logits: npt.NDArray[np.float32],
    scores: Scores,
    truncated: npt.NDArray[np.bool_],
    *,
    windows: Windows,
) -> ScoredDocuments:
    """Return for each document the logits of its best window, the first of equal ones.

    Args:
        logits: Of the pairs, float32 `(P, L)`.
        scores: The column of them that is the score, `(P,)`.
        truncated: Whether each pair lost tokens, bool `(P,)`.
        windows: What the pairs are.
    """
    if not any(windows.spans):  # each pair is a document
        return ScoredDocuments(logits, truncated, windows.spans)
    owners = windows.owners
    # Sorted by document, then score, then position: the first of each document is its best window.
    order = np.lexsort((np.arange(len(owners)), -scores, owners))
    best = order[np.unique(owners[order], return_index=True)[1]]
    kept = [windows.spans[b] for b in best]
    # What a window loses, the window beside it has read: windows overlap.
    lost = truncated[best] & np.fromiter((span is None for span in kept), np.bool_, len(kept))
    return ScoredDocuments(logits[best], lost, kept)


def sorted_hits(
    documents: Sequence[Document], scored: ScoredDocuments, scores: Scores, *, order_by: Scores, top_k: int | None
) -> tuple[Hit, ...]:
    """Return the best `top_k` documents, or all: `order_by` `(N,)` descending, equal ones in the order given.

    Args:
        documents: Of one query, `(N,)`.
        scored: What computing them gave.
        scores: What the hits show, float32 `(N,)`.
        order_by: What decides.
        top_k: How many are kept; all if None.
    """
    best = np.argsort(-order_by, kind="stable")[:top_k]
    return tuple(Hit(int(i), float(scores[i]), documents[i], bool(scored.truncated[i]), scored.spans[i]) for i in best)


def _split(query: str, document: Document, *, index: int, encoder: Encoder) -> list[Span]:
    room = encoder.document_room(query, document)
    if document.image is not None and room < _LEAST_WINDOW:
        raise InputError(f"beside its image and the query, {room} tokens are left for the text of document {index}")
    left = room - encoder.count_tokens(encoder.prompt.document_prefix(document))
    if left < room // 2:
        raise InputError(
            f"the title of document {index} takes more than half of max_length={encoder.max_length}: windows over the "
            "text would hold little of it; shorten the title"
        )
    return list(split_into_windows(document.text, encoder.tokenizer, room=left))


def _with_windows(
    encoded: EncodedPairs, parts: list[tuple[str, Document]], owners: list[int], spans: list[Span], *, encoder: Encoder
) -> EncodedPairs:
    """Return the token ids of all parts: the windows are encoded, whole documents `(N,)` are already."""
    windows = [i for i, span in enumerate(spans) if span is not None]
    both = concatenate([encoded, encoder.encode([parts[i] for i in windows])])
    places = dict(zip(windows, range(len(encoded), len(both)), strict=True))
    return both.select([places.get(i, owner) for i, owner in enumerate(owners)])


def _part(document: Document, span: Span) -> Document:
    return document if span is None else replace(document, text=document.text[slice(*span)])
