"""A ranking as an HTML page that needs nothing beside itself: thumbnails, scores, and the text that gave them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrank.errors import RerankError

if TYPE_CHECKING:
    from PIL.Image import Image

    from crossrank.types import Document, Hit, Ranking

# Pixels of the longer side; twice what is shown, for dense screens.
_THUMBNAIL = 480
_JPEG_QUALITY = 80
# Characters of a text that are shown before and behind its span, and of one without a span.
_AROUND_SPAN = 200
_SHOWN_TEXT = 600
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } .note { color: #777; }
ol { list-style: none; padding: 0; }
li { display: flex; flex-wrap: wrap; gap: 1rem; padding: 1rem 0; border-top: 1px solid #8884; }
.hit { flex: 1 1 24rem; min-width: 0; } .picture { flex: 0 0 240px; }
img { max-width: 240px; max-height: 240px; background: #fff; border: 1px solid #8884; }
.score { font-variant-numeric: tabular-nums; font-weight: 600; }
.name { font-weight: 600; overflow-wrap: anywhere; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
mark { background: #ffe08a; color: #000; }
"""


def write_ranking_page(path: Path, ranking: Ranking, documents: Sequence[Document], *, read: str) -> None:
    """Write a ranking as one HTML file, in one step: it appears when it is whole.

    One image is held at a time.

    Args:
        path: Where to.
        ranking: What `rank` gave.
        documents: The documents by `Hit.index`, with their images even where text alone was read.
        read: What was read of the pages, for the reader.

    Raises:
        OSError: If it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", errors="replace") as file:
            file.writelines(_page(ranking, documents, read))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _page(ranking: Ranking, documents: Sequence[Document], read: str) -> Iterator[str]:
    title = html.escape(ranking.query)
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n"
        f'<p class="note">{len(ranking)} of {len(documents)} documents, ranked by {html.escape(ranking.model)}; '
        f"read: {html.escape(read)}; scores: {html.escape(ranking.score_type)}</p>\n<ol>\n"
    )
    for rank, hit in enumerate(ranking, start=1):
        yield f'<li id="rank-{rank}">{_picture(documents[hit.index])}{_hit(rank, hit)}</li>\n'
    yield "</ol></body></html>\n"


def _hit(rank: int, hit: Hit) -> str:
    names = [_name(hit.document), hit.document.title]
    name = " · ".join(html.escape(part) for part in names if part)
    cut = ' <span class="note">truncated</span>' if hit.truncated else ""
    span = f' <span class="note">characters {hit.span[0]} to {hit.span[1]}</span>' if hit.span else ""
    return (
        f'<div class="hit"><div>{rank}. <span class="name">{name}</span></div>'
        f'<div><span class="score">{hit.score:.4f}</span>{cut}{span}</div><div class="text">{_text(hit)}</div></div>'
    )


def _name(document: Document) -> str | None:
    """Return the file and the page, or the id of what is no page."""
    if "page" not in document.metadata or "file" not in document.metadata:
        return document.id
    return f"{document.metadata['file']}, page {document.metadata['page']}"


def _text(hit: Hit) -> str:
    """Return the text as HTML: the span that gave the score, marked, with what stands around it; or the beginning."""
    text = hit.document.text
    if hit.span is None:
        return html.escape(text[:_SHOWN_TEXT]) + ("…" if len(text) > _SHOWN_TEXT else "")
    start, end = hit.span
    before, behind = max(0, start - _AROUND_SPAN), min(len(text), end + _AROUND_SPAN)
    return (
        ("…" if before else "")
        + f"{html.escape(text[before:start])}<mark>{html.escape(text[start:end])}</mark>{html.escape(text[end:behind])}"
        + ("…" if behind < len(text) else "")
    )


def _picture(document: Document) -> str:
    if document.image is None:
        return ""
    try:
        thumbnail = _thumbnail(document.image)
    except RerankError as error:  # read as text, its image may be damaged
        return f'<div class="picture note">{html.escape(str(error))}</div>'
    buffer = io.BytesIO()
    thumbnail.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    name = html.escape(_name(document) or "")
    return f'<div class="picture"><img alt="{name}" src="data:image/jpeg;base64,{data}"></div>'


def _thumbnail(image: Any) -> Image:
    """Return a small RGB image; what is transparent becomes white, as on paper."""
    import PIL.Image

    from crossrank.data.pdf import PdfPage
    from crossrank.encoding.images import ImageSource

    if isinstance(image, PdfPage):
        return image.thumbnail(_THUMBNAIL)
    picture = ImageSource(image, where="thumbnail").load()
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = PIL.Image.new("RGBA", layer.size, "white")
        picture.alpha_composite(layer)
    picture = picture.convert("RGB")
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return picture
