"""The image of a document: where it comes from, what is refused, and its decoding to a PIL image.

A path, the bytes of a file, a data URL or a PIL image, decoded only when somebody looks. The rules:

    rotation             what EXIF says is applied: the page is read upright
    several frames       the first one: an animation, a TIFF of many pages, an MPO
    palette, grey, CMYK  handed over as they are: the published algorithms resize first and convert then
    16 bits a channel    scaled to 8 bits, grey; PIL alone would clip them to white
    floating point       refused, as are the formats that run programs (EPS) or that PIL reads by guessing
    empty, truncated     refused, and so is a file above 256 MiB or an image above 100 million pixels
    URLs                 never fetched
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import struct
import threading
import urllib.parse
import warnings
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from crossrank.errors import InputError, MissingExtra
from crossrank.types import Document, LazyImage

if TYPE_CHECKING:
    from PIL.Image import Image

AnyDocument = TypeVar("AnyDocument", bound=str | Document)

MAX_BYTES = 256 * 2**20
# An A3 page at 600 dpi has 70 million; beyond this a small file can fill the memory.
MAX_PIXELS = 100_000_000
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "AVIF")
_READ_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")
_SHOWN_CHARACTERS = 80
# What the plugins of PIL raise for a damaged file, at its header or at its pixels.
_DAMAGES = (
    OSError, SyntaxError, ValueError, EOFError, RuntimeError, TypeError, LookupError, ArithmeticError, struct.error,
    zlib.error,
)  # fmt: skip
# Held while a PIL image of the caller's is decoded: it may have been given to other threads too.
_CALLERS_IMAGES = threading.Lock()
# What undoes each EXIF orientation, as PIL names it.
_TURNS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE",
    8: "ROTATE_90",
}  # fmt: skip


class ImageSource(LazyImage):
    """One image, decoded when it is asked for; holds no pixels of what can be read again.

    Args:
        image: A path, the bytes of an image file, a data URL, or a PIL image.
        where: The document it belongs to, for errors.

    Raises:
        InputError: If it is of another type, or a URL.
        MissingExtra: If Pillow is not installed.
    """

    def __init__(self, image: Any, *, where: str) -> None:
        try:
            import PIL.Image
        except ImportError:
            raise MissingExtra("reading images", extra="vision") from None
        self.where = f"{where}: {_describe(image)}"
        if not isinstance(image, str | Path | bytes | bytearray | memoryview | PIL.Image.Image):
            raise InputError(
                f"{self.where}: give a path, the bytes of an image file, a data URL or a PIL image, not a "
                f"{type(image).__name__}"
            )
        if isinstance(image, str) and image[:8].lower().startswith(("http://", "https://", "ftp://")):
            raise InputError(f"{self.where}: URLs are not fetched: download it, and give the path or the bytes")
        self._image = bytes(image) if isinstance(image, bytearray | memoryview) else image
        self._size: tuple[int, int] | None = None
        self._key: bytes | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, upright; read off the header where that is possible.

        Raises:
            InputError: If it is no image, or too large.
        """
        if self._size is None:
            image = self._open()
            with self._guard(image):
                orientation = _orientation(image)
            # These lie on their side.
            self._size = image.size[::-1] if 5 <= orientation <= 8 else image.size
        return self._size

    @property
    def key(self) -> bytes:
        """A digest of the content: equal for equal files, and for equal pixels of PIL images."""
        if self._key is None:
            if hasattr(self._image, "tobytes"):
                pixels = self.load()
                palette = pixels.getpalette() if pixels.mode in ("P", "PA") else None
                data = f"{pixels.mode} {pixels.size} {palette}".encode() + pixels.tobytes()
            else:
                data = self._read()
            self._key = hashlib.blake2b(data, digest_size=16).digest()
        return self._key

    def load(self) -> Image:
        """Return the image, upright, in its own mode.

        Raises:
            InputError: If it is no image, too large, damaged, or of a kind that is not read.
        """
        import PIL.Image

        image = self._open()
        try:
            with self._guard(image):
                turn = _TURNS.get(_orientation(image))
                image.load()
            if turn is not None:
                upright = image.transpose(PIL.Image.Transpose[turn])
            else:
                upright = image.copy() if self._is_callers(image) else image
        except _DAMAGES as error:
            raise self._damaged(error) from None
        return self._eight_bits(upright)

    def check(self) -> None:
        """Decode the image and forget it.

        Raises:
            InputError: As `load`.
        """
        image = self._open()
        image.draft("RGB", (1, 1))
        try:
            image.load()
        except _DAMAGES as error:
            raise self._damaged(error) from None
        self._check_mode(image.mode)

    def _guard(self, image: Image) -> AbstractContextManager[Any]:
        """Return what is held while an image is decoded: of one object, two threads would get half an image each."""
        return _CALLERS_IMAGES if self._is_callers(image) else nullcontext()

    def _is_callers(self, image: Image) -> bool:
        return image is self._image

    def _open(self) -> Image:
        """Return the image with its header read, after all checks that need no pixels."""
        import PIL.Image

        if isinstance(self._image, PIL.Image.Image):
            self._check_pixels(self._image.size)
            return self._image
        data = self._read()
        PIL.Image.init()
        known = [name for name in _FORMATS if name in PIL.Image.OPEN]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # the limit here is the stricter
                image: Image = PIL.Image.open(io.BytesIO(data), formats=known)
        except PIL.Image.DecompressionBombError:
            raise self._too_large() from None
        except PIL.UnidentifiedImageError:
            raise InputError(f"{self.where}: not an image of a kind that is read: {', '.join(known)}") from None
        except _DAMAGES as error:
            raise self._damaged(error) from None
        self._check_pixels(image.size)
        return image

    def _read(self) -> bytes:
        """Return the bytes of the file."""
        if isinstance(self._image, bytes):
            data = self._image
        elif isinstance(self._image, str) and _is_data_url(self._image):
            data = self._decode_data_url(self._image)
        else:
            data = self._read_file(_expand_home(Path(str(self._image))))
        if not data:
            raise InputError(f"{self.where}: empty (0 bytes)")
        self._check_bytes(len(data))
        return data

    def _read_file(self, path: Path) -> bytes:
        try:
            self._check_bytes(path.stat().st_size)
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"{self.where}: cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.where}: not a path that can be read: {error}") from None

    def _decode_data_url(self, url: str) -> bytes:
        head, comma, body = url.partition(",")
        if not comma:
            raise InputError(f"{self.where}: a data URL has a comma before its content")
        self._check_bytes(len(body) * 3 // 4)
        if not head.lower().replace(" ", "").endswith(";base64"):
            return urllib.parse.unquote_to_bytes(body)
        try:
            return base64.b64decode("".join(urllib.parse.unquote(body).split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError(f"{self.where}: not valid base64: {error}") from None

    def _eight_bits(self, image: Image) -> Image:
        """Return an image in a mode that PIL resizes and converts as it should."""
        import numpy as np
        import PIL.Image

        self._check_mode(image.mode)
        if image.mode in _READ_MODES:
            return image
        pixels = np.asarray(image)
        if image.mode.startswith("I;16"):
            return PIL.Image.fromarray((pixels >> 8).astype(np.uint8))
        # 32-bit modes hold what a file of 16 bits, or of 8, says. Each copy of a large scan is hundreds of megabytes.
        shift = 8 if pixels.max(initial=0) > 255 else 0
        clipped = pixels.clip(0, 65535)
        clipped >>= shift
        return PIL.Image.fromarray(clipped.astype(np.uint8))

    def _check_mode(self, mode: str) -> None:
        if mode not in _READ_MODES and not mode.startswith("I"):
            raise InputError(f"{self.where}: pixels of mode {mode!r} are not read: save it as 8-bit RGB or grey")

    def _check_pixels(self, size: tuple[int, int]) -> None:
        if size[0] * size[1] == 0:
            raise InputError(f"{self.where}: has no pixels ({size[0]} x {size[1]})")
        if size[0] * size[1] > MAX_PIXELS:
            raise self._too_large(size)

    def _check_bytes(self, size: int) -> None:
        if size > MAX_BYTES:
            raise InputError(f"{self.where}: {size} bytes are more than the {MAX_BYTES} that are read: make it smaller")

    def _too_large(self, size: tuple[int, int] | None = None) -> InputError:
        stated = f"{size[0]} x {size[1]} pixels are" if size else "it has"
        return InputError(f"{self.where}: {stated} more than the {MAX_PIXELS} that are decoded: make it smaller")

    def _damaged(self, error: Exception) -> InputError:
        return InputError(f"{self.where}: damaged or cut short ({error}); copy it again")


def check_image(image: str | bytes) -> None:
    """Decode an image once, to know that it can be; a JPEG at a fraction of its size, which reads all of it too.

    Raises:
        InputError: If it cannot be read.
        MissingExtra: If Pillow is not installed.
    """
    source = ImageSource(image, where="an image")
    source.where = _describe(image)
    source.check()


def _orientation(image: Image) -> int:
    """Return the EXIF orientation that is left to apply, as far as it stands before the pixels."""
    # A TIFF is turned by PIL; a PNG would be decoded to look for the tag behind its pixels.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    try:
        return int(image.getexif().get(0x0112, 1))
    except _DAMAGES:
        return 1


def with_image_sources(documents: Sequence[AnyDocument], *, what: str = "document") -> list[AnyDocument]:
    """Return documents whose images are lazy ones that name them; one object for one image in several documents.

    Args:
        documents: In the order of the caller, who counts them from 0.
        what: What is counted.

    Raises:
        InputError: If an image is of a type that is not read.
        MissingExtra: If there is an image and Pillow is not installed.
    """
    sources: dict[int, ImageSource] = {}
    prepared: list[AnyDocument] = []
    for i, document in enumerate(documents):
        if not isinstance(document, Document) or document.image is None or isinstance(document.image, LazyImage):
            prepared.append(document)
            continue
        image = document.image
        if id(image) not in sources:
            named = f"{what} {i}" if document.id is None else f"{what} {i} ({document.id})"
            sources[id(image)] = ImageSource(image, where=named)
        prepared.append(replace(document, image=sources[id(image)]))
    return prepared


def _is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:"


def _expand_home(path: Path) -> Path:
    """Return a path whose `~` is the user's home; `~draft.png` may be a file's own name."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _describe(image: Any) -> str:
    """Name an image in a few words."""
    if isinstance(image, bytes | bytearray | memoryview):
        return f"the image of {len(image)} bytes"
    if isinstance(image, str | Path):
        text = str(image)
        kind = "data URL" if _is_data_url(text) else "image"
        return f"the {kind} {text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + '...'}"
    return "the image"
