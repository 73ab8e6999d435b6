"""PDF files as documents: a page is its text layer and an image that is drawn when somebody looks.

PDFium may be used by one thread at a time, so every call into it holds one lock.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crossrank.data.text import SkippedLines, display_name, reading, skip_or_raise
from crossrank.errors import DataError, MissingExtra
from crossrank.types import Document, LazyImage

if TYPE_CHECKING:
    from PIL.Image import Image

PDF_EXTENSION = ".pdf"
# Dots per inch: an A4 page becomes 1240 x 1754 pixels, above what the published models look at.
PAGE_DPI = 150
# An A0 poster has 35 million at 150 dpi; three bytes each.
MAX_PAGE_PIXELS = 40_000_000
_POINTS_PER_INCH = 72
# Source: fpdfview.h of PDFium, FPDF_GetLastError.
_PASSWORD, _SECURITY = 4, 5
# A hyphen that PDFium found to break a word at the end of a line.
_BROKEN_WORD = re.compile("[\x02\ufffe\u00ad](?:\r?\n)?")
_CONTROL_CHARACTERS = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127], " ")
PDFIUM = threading.Lock()


class PdfFile:
    """A PDF that is opened anew for each look, so that its pages hold neither a handle nor pixels.

    Args:
        path: The file; it must not change while its pages are in use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = display_name(path)
        self._digest: bytes | None = None

    @contextmanager
    def open(self) -> Iterator[Any]:
        """Open the file, and keep PDFium to this thread meanwhile.

        Raises:
            DataError: If it is missing, empty, encrypted, broken, no PDF, or has no page.
            MissingExtra: If pypdfium2 is not installed.
        """
        try:
            import pypdfium2
        except ImportError:
            raise MissingExtra("reading PDF", extra="vision") from None
        with reading(self.name), self.path.open("rb") as stream:
            if not stream.read(1):
                raise DataError("empty (0 bytes)", path=self.name)
        with PDFIUM:
            # For a file without pages PDFium states the reason of an earlier failure: make that one a known one.
            pypdfium2.raw.FPDF_LoadMemDocument(b"", 0, None)
            try:
                document = pypdfium2.PdfDocument(self.path)
            except pypdfium2.PdfiumError as error:
                raise DataError(_reason(error), path=self.name) from None
            try:
                yield document
            finally:
                document.close()

    def error(self, page: int, message: str) -> DataError:
        """Return an error that names the file and the page, from 1."""
        return DataError(f"page {page}: {message}", path=self.name)

    @property
    def digest(self) -> bytes:
        """A digest of the file's content."""
        if self._digest is None:
            with reading(self.name), self.path.open("rb") as stream:
                self._digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).digest()
        return self._digest


class PdfPage(LazyImage):
    """The image of one page, drawn when it is asked for.

    Args:
        file: The PDF.
        number: Of the page, from 1.
        points: Width and height, 72 to the inch, upright.
        dpi: The resolution of `load`.
    """

    def __init__(self, file: PdfFile, number: int, points: tuple[float, float], *, dpi: float = PAGE_DPI) -> None:
        self.file = file
        self.number = number
        self.points = points
        self.dpi = dpi
        self.where = f"{file.name}: page {number}"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels.

        Raises:
            DataError: If the page has too many, or no area.
        """
        self._check_area()
        # As PDFium rounds them.
        scale = self.dpi / _POINTS_PER_INCH
        width, height = (max(1, math.ceil(length * scale)) for length in self.points)
        if width * height > MAX_PAGE_PIXELS:
            inches = " x ".join(f"{length / _POINTS_PER_INCH:.0f}" for length in self.points)
            raise self.file.error(
                self.number,
                f"{inches} inches are {width} x {height} pixels at {self.dpi:g} dpi, above the {MAX_PAGE_PIXELS} that "
                "are drawn: scale the page down, or read its text alone",
            )
        return width, height

    @property
    def key(self) -> bytes:
        """A digest of the file's content, the page and the resolution."""
        key = self.file.digest + f" page {self.number} at {self.dpi:g}".encode()
        return hashlib.blake2b(key, digest_size=16).digest()

    def load(self) -> Image:
        """Return the page as an RGB image, filled-in forms included.

        Raises:
            DataError: If the page has too many pixels, or the file cannot be read any more or has changed.
        """
        assert self.size  # not too large
        return self._draw(self.dpi / _POINTS_PER_INCH)

    def thumbnail(self, longest: int) -> Image:
        """Return the page as a small RGB image, its longer side of so many pixels, however large the page is.

        Raises:
            DataError: If the page has no area, or the file cannot be read any more or has changed.
        """
        self._check_area()
        return self._draw(longest / max(self.points))

    def _check_area(self) -> None:
        if min(self.points) <= 0:
            raise self.file.error(
                self.number, "shows nothing, because its crop box lies outside of it: save the page anew"
            )

    def _draw(self, scale: float) -> Image:
        with self.file.open() as document:
            import pypdfium2

            try:
                document.init_forms()
                page = document[self.number - 1]
                if page.get_size() != self.points:
                    raise self.file.error(self.number, "the file has changed since it was read")
                bitmap = page.render(scale=scale)
            except (pypdfium2.PdfiumError, IndexError) as error:
                raise self.file.error(
                    self.number, f"cannot be drawn ({error}); the file is damaged or changed"
                ) from None
            # From BGR, so a copy: the memory of the bitmap belongs to PDFium.
            image: Image = bitmap.to_pil()
            assert image.mode == "RGB"
            bitmap.close()
            page.close()
        return image


def pdf_documents(path: Path, *, dpi: float = PAGE_DPI, skipped: SkippedLines | None = None) -> Iterator[Document]:
    """Yield the pages of a PDF: the text layer as text, and the page as an image that is drawn when it is read.

    A page gets the id `name#page=n` (as browsers open it), `n` from 1, and `file` and `page` as metadata. One without
    a text layer has an empty text.

    Args:
        path: The file.
        dpi: Pixels an inch of the images.
        skipped: Files and pages that cannot be read are counted here and left out. Without it the first is an error.

    Raises:
        DataError: If the file is missing, empty, encrypted, broken, no PDF, or has no page; or a page is broken.
        MissingExtra: If pypdfium2 is not installed.
    """
    file = PdfFile(path)
    try:
        pages = _read_pages(file)
    except DataError as error:
        skip_or_raise(error, skipped)
        return
    for page in pages:
        if isinstance(page, DataError):
            skip_or_raise(page, skipped)
            continue
        yield Document(
            page.text,
            id=f"{file.name}#page={page.number}",
            metadata={"file": file.name, "page": page.number},
            image=PdfPage(file, page.number, page.points, dpi=dpi),
        )


class _TextLayer(NamedTuple):
    number: int
    points: tuple[float, float]
    text: str


def _read_pages(file: PdfFile) -> list[_TextLayer | DataError]:
    """Read all pages at once: whoever takes them one by one may draw them meanwhile."""
    with file.open() as document:
        import pypdfium2

        pages: list[_TextLayer | DataError] = []
        for number in range(1, len(document) + 1):
            try:
                page = document[number - 1]
                pages.append(_TextLayer(number, page.get_size(), page_text(page)))
            except pypdfium2.PdfiumError as error:
                pages.append(file.error(number, f"cannot be read: {error}"))
                continue
            page.close()
    return pages


def page_text(page: Any) -> str:
    """Return the text layer of a page of pypdfium2, empty where it has none; `PDFIUM` is held meanwhile."""
    layer = page.get_textpage()
    try:
        return _clean(layer.get_text_bounded())
    finally:
        layer.close()


def _clean(text: str) -> str:
    """Return text without broken words, control characters and blank ends of lines."""
    whole = _BROKEN_WORD.sub("", text).replace("\r\n", "\n").replace("\r", "\n").translate(_CONTROL_CHARACTERS)
    return "\n".join(line.rstrip() for line in whole.split("\n")).strip()


def _reason(error: Any) -> str:
    """Say why PDFium does not open a file, and what to do."""
    if error.err_code == _PASSWORD:
        return "encrypted, and opens with a password alone: save a copy without one"
    if error.err_code == _SECURITY:
        return "encrypted in a way that is not supported: save a copy without protection"
    return "no PDF, a damaged one, or one without pages: open it in a viewer, and save or copy it again"
