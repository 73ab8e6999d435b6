from dataclasses import replace

import pytest

from crossrank.data.page_modality import readable_pages
from crossrank.errors import InputError
from crossrank.types import Document


def page(file, number, text=""):
    return Document(text, id=f"{file}#page={number}", metadata={"file": file, "page": number}, image="drawn later")


def image(file):
    return Document(id=file, metadata={"file": file}, image=file)


NOTE = Document("a paragraph", title="Notes", id="notes.md#1")
TEXT, SCAN = page("report.pdf", 1, "the text layer"), page("report.pdf", 2)


def read(documents, modality, named=()):
    return readable_pages(documents, modality, named=named, advice="take another model")


def test_both_is_everything_as_it_is():
    documents = [TEXT, SCAN, image("a.png"), NOTE]
    pages = read(documents, "image+text")
    assert pages.documents == pages.inputs == documents
    assert pages.left_out == []


def test_image_drops_the_text_of_pages_and_keeps_what_has_no_image():
    pages = read([TEXT, NOTE], "image")
    assert pages.inputs == [replace(TEXT, text=""), NOTE]
    assert pages.documents == [TEXT, NOTE]


def test_text_drops_the_images_and_leaves_out_what_has_no_text():
    pages = read([TEXT, SCAN, image("slides/a.png"), NOTE], "text", named=["report.pdf", "slides"])
    assert pages.inputs == [replace(TEXT, image=None), NOTE]
    assert pages.documents == [TEXT, NOTE]
    assert pages.left_out == [SCAN, image("slides/a.png")]


@pytest.mark.parametrize(
    ("documents", "named", "message"),
    [
        ([NOTE, image("a.png")], ["notes.md", "a.png"], "a.png: an image, and text is read: take another model"),
        ([NOTE, page("s.pdf", 1), page("s.pdf", 2)], ["notes.md", "s.pdf"], "s.pdf: a PDF without a text layer, and"),
        ([image("slides/a.png")], ["slides"], "slides/a.png: an image, and text is read"),
    ],
)
def test_text_refuses_what_was_named_and_holds_none(documents, named, message):
    with pytest.raises(InputError, match=message):
        read(documents, "text", named=named)
