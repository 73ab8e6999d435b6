import json

import pytest

from crossrank.data.layouts.beir import read
from crossrank.data.published import open_published, parse_published
from crossrank.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """A Portuguese collection of one document."""
    folder = tmp_path / "faq"
    (folder / "qrels").mkdir(parents=True)
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "Quando abre?"}) + "\n")
    (folder / "corpus.jsonl").write_text(json.dumps({"_id": "d", "title": "Horário", "text": "Abre às nove."}) + "\n")
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    return folder


def test_the_language_stands_beside_the_folder(folder, tmp_path):
    (published,) = parse_published(f"beir:{folder}:pt", split="dev")
    assert (published.title, published.language, published.family) == ("faq-pt", "pt", "beir")
    with open_published(published, cache=tmp_path / "cache") as data:
        assert (data.language, data.qrels) == ("pt", {"q": {"d": 1}})
        assert data.corpus.get("d").title == "Horário"


def test_what_is_no_language_is_refused(folder):
    with pytest.raises(InputError, match="'portuguese' is no language"):
        read(folder, config="portuguese", split="dev", revision=None)
