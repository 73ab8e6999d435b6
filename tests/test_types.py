"""Rankings print well, in a terminal and in a notebook, and become plain values."""

from __future__ import annotations

import json

from crossrank import Document, Hit, Ranking

RANKING = Ranking(
    "red <planet>?",
    (
        Hit(2, 3.5, Document("Mars is red & dusty.", title="Mars", id="d3", metadata={"lang": "en"})),
        Hit(0, -1.25, Document("x" * 500), truncated=True),
        Hit(1, -2.0, Document("First sentence. Best one. Last."), span=(16, 25)),
    ),
    model="tiny",
)


def test_a_ranking_is_a_sequence_of_hits():
    assert len(RANKING) == 3
    assert RANKING[0].index == 2
    assert [hit.index for hit in RANKING] == [2, 0, 1]
    assert RANKING[-2:] == RANKING.hits[1:]


def test_to_dicts_is_ready_for_json():
    rows = json.loads(json.dumps(RANKING.to_dicts()))
    assert rows[0] == {
        "rank": 1,
        "index": 2,
        "score": 3.5,
        "document": {"text": "Mars is red & dusty.", "title": "Mars", "id": "d3", "metadata": {"lang": "en"}},
        "truncated": False,
        "span": None,
    }
    assert rows[2]["span"] == [16, 25]


def test_an_image_is_carried_but_neither_printed_nor_written():
    page = Document(id="p1", image=b"PNG")
    assert page.text == ""
    assert "PNG" not in repr(page)
    assert Hit(0, 1.0, page).to_dict()["document"] == {"text": "", "id": "p1"}


def test_print_draws_a_table():
    text = repr(RANKING)
    assert "3 results for 'red <planet>?'" in text
    assert "3.5000" in text
    assert "d3 · Mars · Mars is red & dusty." in text
    assert "[truncated]" in text
    assert "Best one." in text
    assert "First sentence" not in text, "the span is what is shown"


def test_markup_in_a_document_is_not_interpreted():
    assert "[bold]x[/bold]" in repr(Ranking("q", (Hit(0, 1.0, Document("[bold]x[/bold]")),)))


def test_control_characters_do_not_reach_the_terminal():
    text = repr(Ranking("q", (Hit(0, 1.0, Document("red \x1b[31m planet \x00 \x9b", id="a\x07")),)))
    assert "a\ufffd · red \ufffd[31m planet \ufffd \ufffd" in text
    assert not set(text) & {"\x1b", "\x00", "\x9b", "\x07"}


def test_a_number_as_id_is_shown():
    ranking = Ranking("q", (Hit(0, 1.0, Document("text", id=0)), Hit(1, 0.5, Document("more", id=17))))
    assert "0 · text" in repr(ranking) and "17 · more" in repr(ranking)
    assert "<td>0 · text</td>" in ranking._repr_html_()


def test_the_notebook_form_escapes_html():
    page = RANKING._repr_html_()
    assert "red &lt;planet&gt;?" in page
    assert "Mars is red &amp; dusty." in page
    assert page.count("<tr>") == 4
