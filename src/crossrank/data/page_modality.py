"""Which documents a model can read, and what of their pages: the text, the image, or both."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from crossrank.data.evaluation_set import Modality
from crossrank.data.text import display_name
from crossrank.errors import InputError
from crossrank.types import Document


@dataclass(frozen=True)
class ReadablePages:
    """The documents that a model can read.

    Attributes:
        documents: As they are, for whoever shows them; `(N,)`.
        inputs: What is ranked: the same documents with what is read of them alone; `(N,)`.
        left_out: Pages and images that nothing can be read of.
    """

    documents: list[Document]
    inputs: list[Document]
    left_out: list[Document]


def readable_pages(
    documents: Sequence[Document], modality: Modality, *, named: Collection[str | Path], advice: str
) -> ReadablePages:
    """Return what can be read of documents, of which some are pages.

    A document without an image is its text, whatever the modality. Where text is read, a page without a text layer is
    left out, as a model may score an empty text above the others; and so is an image in a folder. An image file that
    was named is refused, as is a PDF without any text.

    Args:
        documents: In the order given.
        modality: What is read of a page.
        named: The files that the user named, rather than their folders.
        advice: What to do about an image that cannot be read, for the error.

    Raises:
        InputError: If a named file, or every file, is images alone, and text is read.
    """
    if modality != "text":
        inputs = [_image_alone(document) if modality == "image" else document for document in documents]
        return ReadablePages(list(documents), inputs, [])
    kept = [document for document in documents if document.image is None or document.text.strip()]
    left_out = [document for document in documents if document.image is not None and not document.text.strip()]
    files = {_file(document) for document in kept}
    names = {display_name(path) for path in named}
    for document in left_out:
        file = _file(document)
        if not kept or (file in names and file not in files):
            kind = "a PDF without a text layer" if "page" in document.metadata else "an image"
            raise InputError(f"{file}: {kind}, and text is read: {advice}")
    return ReadablePages(kept, [replace(document, image=None) for document in kept], left_out)


def _file(document: Document) -> str | None:
    """Return the file that a document with an image comes from, or its id."""
    file = document.metadata.get("file")
    return file if isinstance(file, str) else document.id


def _image_alone(document: Document) -> Document:
    return document if document.image is None else replace(document, text="", title=None)
