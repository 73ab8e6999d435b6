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
        left_out: Images that stand in folders and that nothing can be read of.
        without_text: Pages that are ranked as empty, because they have no text layer.
    """

    documents: list[Document]
    inputs: list[Document]
    left_out: list[Document]
    without_text: list[Document]


def readable_pages(
    documents: Sequence[Document], modality: Modality, *, named: Collection[str | Path], advice: str
) -> ReadablePages:
    """Return what can be read of documents, of which some are pages.

    A document without an image is its text, whatever the modality. As text, an image file is refused where it was
    named and left out where it stood in a folder, and so is a PDF of scans, without any text layer; a single page
    without text stays, empty: it can be a miss, never a help.

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
        return ReadablePages(list(documents), inputs, [], [])
    with_text = {_file(document) for document in documents if document.text.strip()}
    kept = [document for document in documents if document.image is None or _file(document) in with_text]
    left_out = [document for document in documents if document.image is not None and _file(document) not in with_text]
    names = {display_name(path) for path in named}
    refused = next((document for document in left_out if not kept or _file(document) in names), None)
    if refused:
        kind = "a PDF without a text layer" if "page" in refused.metadata else "an image"
        raise InputError(f"{_file(refused)}: {kind}, and text is read: {advice}")
    without_text = [document for document in kept if document.image is not None and not document.text.strip()]
    return ReadablePages(kept, [replace(document, image=None) for document in kept], left_out, without_text)


def _file(document: Document) -> str | None:
    """Return the file that a document with an image comes from, or its id."""
    file = document.metadata.get("file")
    return file if isinstance(file, str) else document.id


def _image_alone(document: Document) -> Document:
    return document if document.image is None else replace(document, text="", title=None)
