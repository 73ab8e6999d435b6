"""Image files as documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crossrank.data.text import display_name, reading
from crossrank.types import Document

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".jp2", ".ppm", ".avif")


def image_documents(path: Path) -> Iterator[Document]:
    """Yield the one document of an image file; its pixels are decoded by what reads them.

    Raises:
        DataError: If the file is missing.
    """
    name = display_name(path)
    with reading(name):
        path.stat()
    yield Document(id=name, metadata={"file": name}, image=path)
