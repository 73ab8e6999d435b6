import sys
import threading
import tracemalloc

import numpy as np
import pypdfium2
import pytest

from crossrank.data.documents import read_documents
from crossrank.data.pdf import PdfPage, pdf_documents
from crossrank.data.text import SkippedLines
from crossrank.errors import DataError, MissingExtra
from tiny_pdf import encrypted_pdf_bytes, pdf_bytes


@pytest.fixture
def write(tmp_path):
    """Write a PDF and return its path."""

    def write(data, name="report.pdf"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def error_of(path):
    with pytest.raises(DataError) as caught:
        list(pdf_documents(path))
    assert str(caught.value).startswith(f"{path}: ")
    return caught.value.message


def test_a_page_is_a_document_with_its_text_layer_file_and_page(write):
    path = write(pdf_bytes("Revenue rose\nby 12 percent.", "", "Costs fell."))
    first, second, third = read_documents([path])
    assert (first.id, first.text) == (f"{path}#page=1", "Revenue rose\nby 12 percent.")
    assert (second.id, second.text) == (f"{path}#page=2", "")
    assert third.metadata == {"file": str(path), "page": 3}


def test_a_word_that_a_line_breaks_is_whole(write):
    [page] = pdf_documents(write(pdf_bytes("all the infor-\nmation there is")))
    assert page.text == "all the information there is"


@pytest.mark.parametrize("rotate", [0, 90])
@pytest.mark.parametrize("size", [(595, 842), (595.276, 841.89), (1, 1)])
def test_the_size_is_known_before_the_page_is_drawn(write, size, rotate):
    [page] = pdf_documents(write(pdf_bytes("x", size=size, rotate=rotate)))
    expected = [-(-length * 150 // 72) for length in size]
    assert page.image.size == tuple(expected[::-1] if rotate else expected)
    image = page.image.load()
    assert (image.size, image.mode) == (page.image.size, "RGB")


def test_the_page_is_drawn_at_the_stated_resolution(write):
    [page] = pdf_documents(write(pdf_bytes("")), dpi=72)
    pixels = np.asarray(page.image.load())
    # The square of 100 points at the lower left; the rest is paper.
    assert (pixels[-99:, :99] == 0).all()
    assert (pixels[:-101] == 255).all() and (pixels[:, 101:] == 255).all()


def test_a_thumbnail_is_small_and_shows_the_same(write):
    [page] = pdf_documents(write(pdf_bytes("")))
    thumbnail = page.image.thumbnail(200)
    assert max(thumbnail.size) == 200
    assert thumbnail.getpixel((5, 190)) == (0, 0, 0) and thumbnail.getpixel((100, 100)) == (255, 255, 255)


def test_equal_pages_of_equal_files_have_equal_keys_and_others_do_not(write):
    one, two = pdf_documents(write(pdf_bytes("a", "a"), "one.pdf"))
    copy, _ = pdf_documents(write(pdf_bytes("a", "a"), "copy.pdf"))
    finer, _ = pdf_documents(write(pdf_bytes("a", "a"), "copy.pdf"), dpi=300)
    assert one.image.key == copy.image.key
    assert len({one.image.key, two.image.key, finer.image.key}) == 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty (0 bytes)"),
        (b"<html>not found</html>", "no PDF, a damaged one, or one without pages"),
        (pdf_bytes("text")[:60], "no PDF, a damaged one, or one without pages"),
        (encrypted_pdf_bytes(), "encrypted, and opens with a password alone"),
        (pdf_bytes(), "no PDF, a damaged one, or one without pages"),
    ],
)
def test_files_that_cannot_be_read_say_why(write, data, message):
    path = write(data)
    assert error_of(path).startswith(message)
    skipped = SkippedLines()
    assert list(pdf_documents(path, skipped=skipped)) == []
    assert skipped.count == 1


def test_a_broken_page_is_named_or_skipped(write):
    path = write(pdf_bytes("one", "two", "three").replace(b"8 0 R]", b"99 0 R]"))
    assert error_of(path).startswith("page 3: cannot be read")
    skipped = SkippedLines()
    assert [page.metadata["page"] for page in pdf_documents(path, skipped=skipped)] == [1, 2]
    assert [str(error) for error in skipped.errors] == [f"{path}: page 3: cannot be read: Failed to load page."]


def test_a_huge_page_is_read_as_text_and_not_drawn(write):
    path = write(pdf_bytes("wall", size=(14400, 14400)))
    [page] = pdf_documents(path)
    assert page.text == "wall"
    with pytest.raises(DataError, match=r"report\.pdf: page 1: 200 x 200 inches are 30001 x 30001 pixels at 150 dpi"):
        page.image.load()
    assert page.image.thumbnail(100).size == (100, 100)


def test_a_page_without_area_is_named(write):
    box = "/CropBox [900 900 999 999] /Rotate"
    [page] = pdf_documents(write(pdf_bytes("margin").replace(b"/Rotate", box.encode())))
    for draw in (page.image.load, lambda: page.image.thumbnail(100)):
        with pytest.raises(DataError, match=r"report\.pdf: page 1: shows nothing, because its crop box lies outside"):
            draw()


def test_a_file_that_has_changed_or_gone_is_no_wrong_picture(write):
    path = write(pdf_bytes("a", "b"))
    _, page = pdf_documents(path)
    write(pdf_bytes("a", "b", size=(300, 300)))
    with pytest.raises(DataError, match="page 2: the file has changed since it was read"):
        page.image.load()
    write(pdf_bytes("a"))
    with pytest.raises(DataError, match="page 2: cannot be drawn"):
        page.image.load()
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        page.image.load()


def test_without_pypdfium2_the_error_names_the_extra(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(MissingExtra, match=r"crossrank\[vision\]"):
        list(pdf_documents(write(pdf_bytes("x"))))


def test_many_threads_draw_the_right_pages(write):
    pages = list(pdf_documents(write(pdf_bytes(*(f"page {i}" for i in range(8)))), dpi=20))
    expected = [page.image.load().tobytes() for page in pages]
    drawn = {}

    def draw(i):
        for _ in range(5):
            drawn[i] = pages[i].image.load().tobytes()

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [drawn[i] for i in range(8)] == expected


def test_five_hundred_pages_hold_their_text_and_no_pixels(write, monkeypatch):
    path = write(pdf_bytes(*(f"page {i} of many" for i in range(500))))
    open_documents, opened = [], pypdfium2.PdfDocument.__init__
    monkeypatch.setattr(
        pypdfium2.PdfDocument, "__init__", lambda self, *args: (open_documents.append(self), opened(self, *args))[1]
    )
    tracemalloc.start()
    pages = list(pdf_documents(path))
    for page in pages[::100]:
        page.image.load()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pages) == 500 and isinstance(pages[0].image, PdfPage)
    assert len(open_documents) == 1 + 5
    assert all(document.raw is None for document in open_documents)
    # One page in pixels is 6.5 MB.
    assert held < 2_000_000
