"""What `crossrank rerank` does with pages: which part of them the model reads, and what the user is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crossrank.cli.options import PageModality
from crossrank.cli.terminal import note
from crossrank.errors import DataError, InputError

if TYPE_CHECKING:
    from crossrank.data.evaluation_set import Modality
    from crossrank.data.page_modality import ReadablePages
    from crossrank.data.text import SkippedLines
    from crossrank.models.checkpoint import Checkpoint
    from crossrank.types import Document

# Of the pages that are left out so many are named.
_NAMED_PAGES = 5


def choose_modality(chosen: PageModality | None, checkpoint: Checkpoint) -> PageModality:
    """Return what is read of a page: what the user says, or the most that the model can.

    Raises:
        InputError: If the model cannot read that.
    """
    known = _modalities(checkpoint)
    if chosen is None:
        return known[0]
    if chosen not in known:
        raise InputError(
            f"--modality {chosen.value}: {checkpoint.name} reads {' or '.join(known)}: leave the option out, or "
            f"{_other_model()}"
        )
    return chosen


def read_pages(
    documents: Sequence[Document],
    modality: PageModality,
    checkpoint: Checkpoint,
    *,
    named: Sequence[Path],
    skipped: SkippedLines | None = None,
) -> ReadablePages:
    """Return what the model reads of documents, and say what it does not.

    Args:
        documents: Of the files, in order.
        modality: What is read of a page.
        checkpoint: The model.
        named: The files that the user named, rather than their folders.
        skipped: Images that cannot be read are counted here and left out, each decoded once more for that. Without it
            the first one is an error when it is read.

    Raises:
        InputError: If a file that was named is an image or a PDF of scans, and text is read.
    """
    from crossrank.data.page_modality import readable_pages

    if skipped is not None and modality is not PageModality.text:
        documents = [document for document in documents if _has_whole_image(document, skipped)]

    parts: dict[PageModality, Modality] = {
        PageModality.text: "text", PageModality.image: "image", PageModality.both: "image+text"
    }  # fmt: skip
    advice = _other_model() if checkpoint.visual is None else "leave out --modality text"
    pages = readable_pages(documents, parts[modality], named=named, advice=advice)
    if pages.left_out:
        names = ", ".join(str(page.id) for page in pages.left_out[:_NAMED_PAGES])
        more = ", ..." if len(pages.left_out) > _NAMED_PAGES else ""
        note(f"{len(pages.left_out)} page(s) or image(s) without a text to read are left out: {names}{more}")
    return pages


def _has_whole_image(document: Document, skipped: SkippedLines) -> bool:
    """Decode the image of a document, if it has one, and count it where that fails."""
    from crossrank.encoding.images import ImageSource
    from crossrank.types import LazyImage

    image, name = document.image, str(document.id)
    if image is None:
        return True
    try:
        (image if isinstance(image, LazyImage) else ImageSource(image, where=name)).load()
    except DataError as error:
        skipped.add(error)
    except InputError as error:
        skipped.add(DataError(str(error).removeprefix(f"{name}: "), path=name))
    else:
        return True
    return False


def _modalities(checkpoint: Checkpoint) -> tuple[PageModality, ...]:
    """Return what a model reads of a page, the most first."""
    visual = checkpoint.visual
    if visual is None:
        return (PageModality.text,)
    both = (PageModality.both,) if visual.prompt.reads_both else ()
    text = (PageModality.text,) if visual.prompt.text is not None else ()
    return (*both, PageModality.image, *text)


def _other_model() -> str:
    from crossrank.models.visual_families import image_families

    return f"load a model that reads images with --model, of one of the families {image_families()}"
