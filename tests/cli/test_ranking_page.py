import base64
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from crossrank.cli.ranking_page import write_ranking_page
from crossrank.data.pdf import pdf_documents
from crossrank.types import Document, Hit, Ranking
from tiny_pdf import pdf_bytes


class Reader(HTMLParser):
    """Collects the addresses of a page, and checks that every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.open, self.tags = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def pictures(text):
    data = [source.partition("base64,")[2] for source in Reader(text).sources]
    return [Image.open(io.BytesIO(base64.b64decode(item))) for item in data]


def written(tmp_path, hits, documents, query="q"):
    path = tmp_path / "out.html"
    write_ranking_page(path, Ranking(query, tuple(hits), model="m"), documents, read="text")
    assert [file.name for file in tmp_path.glob("*.html*")] == ["out.html"]
    assert not list(tmp_path.glob(".*"))
    return path.read_text(encoding="utf-8")


def test_pages_stand_in_order_with_thumbnail_file_page_and_score(tmp_path):
    (tmp_path / "a.pdf").write_bytes(pdf_bytes("first", "", "third"))
    documents = list(pdf_documents(tmp_path / "a.pdf"))
    hits = [Hit(1, 2.5, documents[1]), Hit(0, -1.25, documents[0])]
    text = written(tmp_path, hits, documents)
    assert re.findall(r'class="name">([^<]*)<', text) == [f"{tmp_path}/a.pdf, page 2", f"{tmp_path}/a.pdf, page 1"]
    assert re.findall(r'class="score">([^<]*)<', text) == ["2.5000", "-1.2500"]
    assert "2 of 3 documents, ranked by m; read: text; scores: logit" in text
    square, _ = pictures(text)
    assert max(square.size) == 480 and square.format == "JPEG"
    assert sum(square.getpixel((20, 460))) < 30 < 700 < sum(square.getpixel((200, 100)))
    assert all(source.startswith("data:image/jpeg;base64,") for source in Reader(text).sources)


def test_the_span_is_marked_and_everything_is_escaped(tmp_path):
    document = Document("x" * 300 + "<b>here</b>" + "y" * 300, title="<T>", id='"&')
    text = written(tmp_path, [Hit(0, 1.0, document, span=(300, 311))], [document], query="<script>")
    assert f"…{'x' * 200}<mark>&lt;b&gt;here&lt;/b&gt;</mark>{'y' * 200}…" in text
    assert "&quot;&amp; · &lt;T&gt;" in text and "characters 300 to 311" in text
    assert "<script" not in text and not {"b", "script"} & set(Reader(text).tags)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "CMYK", "1", "I;16"])
def test_images_of_every_mode_become_thumbnails(tmp_path, mode):
    image = Image.new("L", (960, 100), 255).convert("RGB" if mode == "P" else "I" if mode == "I;16" else mode)
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    document = Document(image=image)
    [picture] = pictures(written(tmp_path, [Hit(0, 1.0, document)], [document]))
    assert picture.size == (480, 50) and picture.mode == "RGB"


def test_what_is_transparent_is_paper(tmp_path):
    document = Document(image=Image.new("RGBA", (40, 40), (0, 0, 0, 0)))
    [picture] = pictures(written(tmp_path, [Hit(0, 1.0, document)], [document]))
    assert picture.getpixel((20, 20)) == (255, 255, 255)


def test_a_damaged_image_beside_a_text_is_said_on_the_page(tmp_path):
    documents = [Document("text", image=b"no image"), Document("fine")]
    text = written(tmp_path, [Hit(0, 1.0, documents[0]), Hit(1, 0.5, documents[1])], documents)
    assert "not an image of a kind that is read" in text and Reader(text).sources == []


def test_the_command_writes_it_beside_its_usual_output(crossrank, reranker, tmp_path):
    (tmp_path / "a.pdf").write_bytes(pdf_bytes("a red dress", "the red planet"))
    html = tmp_path / "out.html"
    result = crossrank("rerank", "red planet", tmp_path / "a.pdf", "-k", 1, "--html", html)
    assert result.stdout == f"1\t1\t{tmp_path}/a.pdf#page=2\t\tthe red planet\n"
    assert len(pictures(html.read_text())) == 1


def test_a_folder_that_is_missing_is_said_before_the_work(crossrank, reranker, tmp_path):
    (tmp_path / "a.txt").write_text("text")
    result = crossrank("rerank", "red planet", tmp_path / "a.txt", "--html", tmp_path / "none" / "out.html")
    assert result.exit_code == 2 and "no folder" in result.stderr
    assert reranker.loaded == []
