"""Documents that are pages: an image beside or instead of the text, and one of the two looked at alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from crossrank.data.evaluation_set import DocumentStore, EvaluationSet, Modality
from crossrank.errors import InputError
from crossrank.types import Document


@dataclass(frozen=True)
class _ChangedCorpus:
    """A corpus whose documents are changed when they are read."""

    corpus: DocumentStore
    change: Callable[[Document], Document]

    def get(self, document_id: str) -> Document | None:
        document = self.corpus.get(document_id)
        return None if document is None else self.change(document)

    def __contains__(self, document_id: object) -> bool:
        return document_id in self.corpus

    def __iter__(self) -> Iterator[Document]:
        return map(self.change, self.corpus)

    def __len__(self) -> int:
        return len(self.corpus)


def attach_images(corpus: DocumentStore, folder: Path) -> DocumentStore:
    """Return a corpus whose documents have the images that their records name; see `attach_image`."""
    return _ChangedCorpus(corpus, lambda document: attach_image(document, folder))


def attach_image(document: Document, folder: Path) -> Document:
    """Return a document with the image that its record names, if it does; only a data URL leaves the metadata.

    Args:
        document: Carries the field `image` in its metadata: a path, a data URL, or a URL, which is fetched by nobody.
        folder: What the path is relative to.
    """
    named = named_image(document)
    if named is None:
        return document
    if named.startswith("data:"):
        rest = {key: value for key, value in document.metadata.items() if key != "image"}
        return replace(document, metadata=rest, image=named)
    return replace(document, image=named if named.startswith(("http://", "https://")) else folder / named)


def named_image(document: Document) -> str | None:
    """Return the image that the record of a document names: a path, a data URL, or a URL."""
    named = document.metadata.get("image")
    return named if isinstance(named, str) and named else None


def in_modality(data: EvaluationSet, modality: Modality) -> EvaluationSet:
    """Return the set with that part of its documents alone; nothing is read yet.

    A page that lacks what is asked for stays in the corpus, empty: it can be a miss, and never a help.

    Raises:
        InputError: If the documents of the set do not have it.
    """
    if data.modality == modality:
        return data
    if data.modality != "image+text":
        raise InputError(f"the documents of {data.name} are {data.modality} alone, there is no {modality} to read")
    change = _text_alone if modality == "text" else _image_alone
    return replace(data, corpus=_ChangedCorpus(data.corpus, change), modality=modality)


def modalities(data: EvaluationSet) -> tuple[Modality, ...]:
    """Return what the set can be looked at as: the columns of a table of page data sets."""
    return ("text", "image", "image+text") if data.modality == "image+text" else (data.modality,)


def _text_alone(document: Document) -> Document:
    return replace(document, image=None)


def _image_alone(document: Document) -> Document:
    return replace(document, text="", title=None)
