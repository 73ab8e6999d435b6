"""The texts of the pages of a PDF that somebody sent."""

from __future__ import annotations

from typing import Any

from crossrank.data.pdf import PDFIUM, page_text
from crossrank.serving.problems import Kind, Problem

MAX_PAGES = 1000


def page_texts(content: bytes) -> list[str]:
    """Return the text layer of each page; empty where a page has none, as a scan.

    Raises:
        Problem: If it cannot be read, is encrypted, or has too many pages.
    """
    try:
        import pypdfium2
    except ImportError:
        raise Problem(Kind.UNUSABLE, "reading a PDF needs crossrank[vision] on the server") from None
    with PDFIUM:
        try:
            document = pypdfium2.PdfDocument(content)
        except pypdfium2.PdfiumError:
            raise Problem(Kind.UNUSABLE, "this is no PDF, or it is broken or encrypted") from None
        try:
            if len(document) > MAX_PAGES:
                raise Problem(Kind.UNUSABLE, f"the PDF has {len(document)} pages; at most {MAX_PAGES} are read here")
            return [_text(document, index) for index in range(len(document))]
        finally:
            document.close()


def _text(document: Any, index: int) -> str:
    from pypdfium2 import PdfiumError

    try:
        page = document[index]
        text = page_text(page)
    except PdfiumError:
        raise Problem(Kind.UNUSABLE, f"page {index + 1} of the PDF cannot be read") from None
    page.close()
    return text
