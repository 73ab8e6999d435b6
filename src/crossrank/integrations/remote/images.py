"""Images as the APIs want them: a data URL, or base64 alone."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from crossrank.errors import InputError

# The first bytes of each kind; RIFF may hold other things than WebP, which the service will say.
_KINDS = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"RIFF": "webp",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
}


def data_url(image: Any) -> str:
    """Return an image as `data:image/KIND;base64,...`; an address on the web stays one, for the service to fetch.

    Args:
        image: A path, the bytes of an image file, a data URL, an address, or a PIL image.

    Raises:
        InputError: If it is none of these, or cannot be read.
    """
    if isinstance(image, str) and image.startswith(("data:", "https://", "http://")):
        return image
    content = _bytes(image)
    kind = next((kind for start, kind in _KINDS.items() if content.startswith(start)), None)
    if kind is None:
        raise InputError("an image is of no known kind: give PNG, JPEG, GIF, BMP, WebP or TIFF")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def bare_base64(image: Any) -> str:
    """Return an image as base64 without the head of a data URL; an address on the web stays one."""
    url = data_url(image)
    return url.partition(",")[2] if url.startswith("data:") else url


def _bytes(image: Any) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise InputError(f"the image {image} cannot be read: {error.strerror}") from None
    if hasattr(image, "save"):
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return buffer.getvalue()
    raise InputError(f"an image is a {type(image).__name__}: give a path, bytes, a data URL or a PIL image")
