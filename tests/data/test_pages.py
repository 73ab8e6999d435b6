import gzip
import json

import pytest

from crossrank.data.beir import open_beir
from crossrank.data.pages import in_modality, modalities
from crossrank.errors import InputError


@pytest.fixture
def pages(tmp_path):
    """A BEIR folder of two pages with text and image, the first without text."""

    def write(*, with_text: bool = True):
        texts = ("", "Sales of 2023") if with_text else ("", "")
        corpus = [{"_id": f"p{i}", "title": "", "text": t, "image": f"images/p{i}.png"} for i, t in enumerate(texts)]
        lines = "".join(json.dumps(record) + "\n" for record in corpus)
        (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "Sales?"}\n')
        (tmp_path / "qrels").mkdir()
        (tmp_path / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq\tp1\t1\n")
        return tmp_path

    return write


def test_images_are_paths_in_the_folder(pages):
    folder = pages()
    with open_beir(folder, split="dev") as data:
        assert data.modality == "image+text"
        page = data.corpus.get("p1")
        assert (page.text, page.image, page.metadata) == (
            "Sales of 2023",
            folder / "images" / "p1.png",
            {"image": "images/p1.png"},
        )
        assert [document.image.name for document in data.corpus] == ["p0.png", "p1.png"]
        assert len(data.corpus) == 2
        assert "p1" in data.corpus
        assert "p2" not in data.corpus
        assert data.corpus.get("p2") is None


def test_pages_may_stand_behind_many_texts(pages):
    folder = pages()
    (folder / "corpus.jsonl.gz").unlink()
    records = [{"_id": f"t{i}", "text": f"text {i}"} for i in range(300)] + [{"_id": "p1", "image": "p1.png"}]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    with open_beir(folder, split="dev") as data:
        assert data.modality == "image+text"
        assert data.corpus.get("p1").image == folder / "p1.png"
        assert data.corpus.get("t7").image is None


def test_other_pixels_under_the_same_names_are_another_set(pages):
    def fingerprint():
        with open_beir(folder, split="dev") as data:
            return data.fingerprint

    folder = pages()
    without = fingerprint()
    (folder / "images").mkdir()
    (folder / "images" / "p1.png").write_bytes(b"drawn at 72 dpi")
    before = fingerprint()
    (folder / "images" / "p1.png").write_bytes(b"drawn at 96 dpi")
    assert len({without, before, fingerprint()}) == 3, "stored scores of other pixels must not be taken for these"


def test_an_image_may_be_a_data_url(pages):
    folder = pages()
    (folder / "corpus.jsonl.gz").unlink()
    url = "data:image/png;base64,iVBORw0KGgo="
    (folder / "corpus.jsonl").write_text(json.dumps({"_id": "p1", "text": "Sales", "image": url}) + "\n")
    with open_beir(folder, split="dev") as data:
        assert data.corpus.get("p1").image == url


def test_three_columns_of_one_set(pages):
    with open_beir(pages(), split="dev") as data:
        assert modalities(data) == ("text", "image", "image+text")
        seen = {}
        for modality in modalities(data):
            view = in_modality(data, modality)
            page = view.corpus.get("p1")
            seen[view.modality] = (page.text, page.image is not None)
        assert seen == {"text": ("Sales of 2023", False), "image": ("", True), "image+text": ("Sales of 2023", True)}
        blank = in_modality(data, "text").corpus.get("p0")
        assert (blank.text, blank.image) == ("", None), "a page without text stays, empty"


def test_what_is_not_there_cannot_be_looked_at(pages):
    with open_beir(pages(with_text=False), split="dev") as data:
        assert modalities(data) == ("image",)
        assert in_modality(data, "image") is data
        with pytest.raises(InputError, match="are image alone, there is no text to read"):
            in_modality(data, "text")
