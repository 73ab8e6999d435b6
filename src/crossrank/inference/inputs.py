"""What callers hand in, checked before anything is computed: pairs, documents and options."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from crossrank.encoding import images
from crossrank.errors import InputError
from crossrank.inference.overflow import OnOverflow
from crossrank.inference.score_scale import ScoreType
from crossrank.models.visual_families import image_families
from crossrank.types import Document, DocumentLike, check_query, to_document, to_documents


def check_pairs(
    pairs: Sequence[tuple[str, str | Document]], *, reads_images: bool, what: str = "document"
) -> list[tuple[str, Document]]:
    """Return pairs of a query and a `Document` whose image has its place in the list, for errors.

    Raises:
        InputError: If an item is not a pair of a query and a document that the model can read.
    """
    if isinstance(pairs, str | bytes):
        raise InputError("pairs must be a list of (query, document), not one string")
    if not isinstance(pairs, Iterable):
        raise InputError(f"pairs must be a list of (query, document), not {type(pairs).__name__}")
    checked = [_check_pair(pair, i) for i, pair in enumerate(pairs)]
    _check_readable([document for _, document in checked], reads_images=reads_images)
    return with_image_sources(checked, reads_images=reads_images, what=what)


def check_documents(documents: Sequence[DocumentLike], *, reads_images: bool) -> list[Document]:
    """Return the documents as records.

    Raises:
        InputError: If one is neither a string, a record nor a mapping with its fields, or the model cannot read it.
    """
    checked = to_documents(documents, reads_images=True)
    _check_readable(checked, reads_images=reads_images)
    return checked


def with_image_sources(
    pairs: list[tuple[str, Document]], *, reads_images: bool, what: str = "document"
) -> list[tuple[str, Document]]:
    """Give each image its place, for errors, and one source to equal objects; a text model looks at none."""
    if not reads_images:
        return pairs
    documents = images.with_image_sources([document for _, document in pairs], what=what)
    return [(query, document) for (query, _), document in zip(pairs, documents, strict=True)]


def check_options(top_k: object, score_type: str, on_overflow: str, *, fused: bool) -> None:
    """Check the options of a ranking.

    Raises:
        InputError: If one cannot be used, or does not go with another.
    """
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int | np.integer) or top_k < 1):
        raise InputError(f"top_k must be a whole number of at least 1, or None for all, not {top_k!r}")
    if score_type not in get_args(ScoreType):
        raise InputError(f"score_type must be 'logit' or 'probability', not {score_type!r}")
    if on_overflow not in get_args(OnOverflow):
        known = ", ".join(map(repr, get_args(OnOverflow)))
        raise InputError(f"on_overflow must be one of {known}, not {on_overflow!r}")
    if fused and score_type != "logit":
        raise InputError("fused scores are no probabilities: leave score_type out where first_stage_scores are given")


def check_first(first_stage_scores: Sequence[float] | npt.NDArray[Any] | None, num_documents: int) -> list[float]:
    """Return the first-stage scores as numbers; none where none are given.

    Raises:
        InputError: If there is not one finite number for each document.
    """
    if first_stage_scores is None:
        return []
    if isinstance(first_stage_scores, str | bytes | Mapping | Set) or not isinstance(first_stage_scores, Collection):
        found = type(first_stage_scores).__name__
        raise InputError(f"first_stage_scores must be a list of numbers, one a document, not {found}")
    if len(first_stage_scores) != num_documents:
        raise InputError(f"{len(first_stage_scores)} first_stage_scores for {num_documents} documents: give one each")
    return [_finite(score, i) for i, score in enumerate(first_stage_scores)]


def _finite(score: Any, index: int) -> float:
    try:
        number = math.nan if isinstance(score, str | bytes) or np.ndim(score) else float(score)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"the first-stage score of document {index} must be a finite number, not {str(score)[:40]}")
    return number


def _check_pair(pair: object, index: int) -> tuple[str, Document]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InputError(f"pair {index} must be (query, document), not {str(pair)[:80]!r}")
    query, document = pair
    check_query(query, where=f" of pair {index}")
    return query, to_document(document, index, reads_images=True)


def _check_readable(documents: Sequence[Document], *, reads_images: bool) -> None:
    if reads_images:
        return
    unread = (i for i, document in enumerate(documents) if document.image is not None and not document.text.strip())
    index = next(unread, None)
    if index is not None:
        key = documents[index].id
        named = f"document {index}" if key is None else f"document {index} ({key})"
        raise InputError(
            f"{named} is an image without text, and this model reads text: give it a 'text' too, or load "
            f"a model that reads images, of one of the families {image_families()}"
        )
