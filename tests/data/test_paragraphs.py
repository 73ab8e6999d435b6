from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.data.paragraphs import markdown_documents, text_documents
from crossrank.data.text import Line, SkippedLines, decode_lines
from crossrank.errors import DataError


def lines(text):
    return [Line(i, 0, line) for i, line in enumerate(text.splitlines(keepends=True), start=1)]


def markdown(text):
    return [(document.title, document.text) for document in markdown_documents(lines(dedent(text)), "a.md")]


def test_blank_lines_separate_paragraphs():
    text = "one\ntwo  \n\n \t\nthree\r\n\r\n\x00four 🍞"
    documents = list(text_documents(lines(text), "notes.txt"))
    assert [(document.id, document.text) for document in documents] == [
        ("notes.txt#1", "one\ntwo"),
        ("notes.txt#2", "three"),
        ("notes.txt#3", "\x00four 🍞"),
    ]
    assert all(document.title is None for document in documents)


def test_the_nearest_heading_is_the_title():
    assert markdown("""\
        before any heading

        # Travel
        Book early.
        ## Flights ##
        Economy
        only.

        Six hours or more: premium.
        #hashtag is text
        """) == [
        (None, "before any heading"),
        ("Travel", "Book early."),
        ("Flights", "Economy\nonly."),
        ("Flights", "Six hours or more: premium.\n#hashtag is text"),
    ]


def test_underlined_headings_and_breaks():
    assert markdown("""\
        Travel
        ======
        Book early.

        ---

        Flights
        -------
        Economy only.
        And two lines
        ---
        are not a heading.
        """) == [
        ("Travel", "Book early."),
        ("Flights", "Economy only.\nAnd two lines"),
        ("Flights", "are not a heading."),
    ]


def test_a_fenced_block_stays_whole():
    assert markdown("""\
        # Deploy

        ```bash
        # not a heading

        make all
        ```
        ~~~~
        ~~~

        still inside
        ~~~~~

        after
        """) == [
        ("Deploy", "```bash\n# not a heading\n\nmake all\n```\n~~~~\n~~~\n\nstill inside\n~~~~~"),
        ("Deploy", "after"),
    ]


def test_an_unclosed_fence_reaches_to_the_end():
    assert markdown("a\n\n```\nb\n\nc\n") == [(None, "a"), (None, "```\nb\n\nc")]


def test_front_matter_is_left_out():
    assert markdown("---\ntitle: x\n\ntags: [a]\n---\n# H\ntext") == [("H", "text")]


def test_a_break_at_the_start_is_no_front_matter():
    assert markdown("---\n\ntext\n") == [(None, "text")]


def test_an_empty_heading_keeps_the_title_above():
    assert markdown("# A\n\n#\n\ntext") == [("A", "text")]


@pytest.mark.parametrize("reader", [text_documents, markdown_documents])
def test_no_text_no_documents(reader):
    assert list(reader([], "a")) == []
    assert list(reader(lines("\n \n\t\n"), "a")) == []


@pytest.mark.parametrize("reader", [text_documents, markdown_documents])
def test_a_paragraph_that_is_not_utf8_is_skipped_whole(tmp_path, reader):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ncaf\xe9\n\ntwo\n")
    with path.open("rb") as stream, pytest.raises(DataError, match=r"a\.txt:2: not valid UTF-8 at byte 7"):
        list(reader(decode_lines(stream, "a.txt"), "a.txt"))
    skipped = SkippedLines()
    with path.open("rb") as stream:
        documents = list(reader(decode_lines(stream, "a.txt"), "a.txt", skipped=skipped))
    assert [(document.id, document.text) for document in documents] == [("a.txt#2", "two")]
    assert skipped.count == 1


@given(st.text(alphabet="#=-`~*_ \n\ta0\x00\\"))
def test_paragraphs_hold_lines_of_the_file_in_order_and_never_only_space(text):
    documents = list(markdown_documents(lines(text), "a.md"))
    assert all(document.text.strip() for document in documents)
    position = 0
    for document in documents:
        for row in document.text.split("\n"):
            position = text.index(row, position) + len(row)
