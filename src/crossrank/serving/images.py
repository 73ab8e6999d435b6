"""Images of a request: from what the client wrote to the bytes of an image file, with a limit on everything.

Only the header is read here: the model unfolds one image at a time, and a request may hold many. Pillow is imported
only when a request has an image.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import re
from dataclasses import replace

from crossrank.errors import MissingExtra
from crossrank.serving.exchange import RerankRequest
from crossrank.serving.image_urls import ImageFetcher
from crossrank.serving.options import ImageLimits
from crossrank.serving.problems import Kind, Problem
from crossrank.types import Document

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)


async def resolve_images(request: RerankRequest, limits: ImageLimits, fetcher: ImageFetcher) -> RerankRequest:
    """Return the request with every image, given as a data URL, as base64 or as an address, as bytes.

    Raises:
        Problem: If an image cannot be had, is none, or is too large; says which document's.
    """
    documents = list(request.documents)
    if all(document.image is None for document in documents):
        return request
    for index, document in enumerate(documents):
        if document.image is not None:
            try:
                documents[index] = await _resolve(document, limits, fetcher)
            except Problem as problem:
                raise Problem(problem.kind, f"the image of document {index} {problem.message}") from None
    return request.with_documents(documents)


async def _resolve(document: Document, limits: ImageLimits, fetcher: ImageFetcher) -> Document:
    assert isinstance(document.image, str)
    if document.image.lower().startswith(("http:", "https:")):
        data = await fetcher.fetch(document.image)
    else:
        data = read_base64(document.image, limits)
    await asyncio.to_thread(check_image, data, limits)
    return replace(document, image=data)


def read_base64(text: str, limits: ImageLimits) -> bytes:
    """Return the bytes of a data URL or of bare base64.

    Raises:
        Problem: If it is neither, or too large.
    """
    prefix = _DATA_URL.match(text)
    if text.lower().startswith("data:") and not prefix:
        raise Problem(Kind.UNUSABLE, "must be a data URL as in data:image/png;base64,...")
    encoded = text[prefix.end() :] if prefix else text
    if len(encoded) * 3 // 4 > limits.max_bytes + 2:
        raise Problem(Kind.BODY_TOO_LARGE, f"has more than {limits.max_bytes} bytes")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise Problem(Kind.UNUSABLE, "is neither a data URL nor base64") from None


def check_image(data: bytes, limits: ImageLimits) -> None:
    """Check that bytes are an image file that may be unfolded.

    Raises:
        Problem: If it is no image of a known format, is broken, or has too many pixels.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise Problem(Kind.UNUSABLE, f"cannot be read here: {MissingExtra('an image', extra='vision')}") from None
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > limits.max_pixels:
                raise Problem(
                    Kind.UNUSABLE, f"has {width} x {height} pixels; at most {limits.max_pixels} in all are read"
                )
            image.verify()
    except UnidentifiedImageError:
        raise Problem(Kind.UNUSABLE, f"is none of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise Problem(Kind.UNUSABLE, f"has too many pixels; at most {limits.max_pixels} are read") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise Problem(Kind.UNUSABLE, f"is broken: {type(error).__name__}") from None
