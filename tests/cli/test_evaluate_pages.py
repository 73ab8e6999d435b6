"""Pages through the whole command: a real model, however small, reads images, texts and both."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from crossrank import Document, Reranker
from crossrank.data.trec import read_run
from tiny_vision import save_tiny_nemotron_vl

WORDS = ("revenue", "protein", "mountain", "sales")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page-model") / "tiny-vl"
    save_tiny_nemotron_vl(folder)
    return folder


@pytest.fixture
def page_set(tmp_path):
    """Write a set of page images, with texts or without."""

    def write(name, *, has_text):
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        (folder / "qrels").mkdir()
        corpus = []
        for i, word in enumerate(WORDS):
            pixels = np.random.default_rng(i).integers(0, 256, (40 + 20 * i, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
            corpus.append({"_id": f"p{i}", "text": f"a page on {word}" * has_text, "image": f"images/{i}.png"})
        queries = [{"_id": f"q{i}", "text": f"about {word}"} for i, word in enumerate(WORDS)]
        for file, rows in (("corpus", corpus), ("queries", queries)):
            (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        lines = "".join(f"q{i}\tp{i}\t1\n" for i in range(len(WORDS)))
        (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + lines)
        return folder

    return write


def scores_of(out, dataset, query_id):
    [run] = [path for path in (out / "runs" / dataset).glob("tiny-vl.trec.gz")]
    return {c.document_id: c.score for item in read_run(run) if item.query_id == query_id for c in item.candidates}


def test_each_column_is_what_the_model_says_of_that_part_of_a_page(crossrank, model, page_set, tmp_path):
    pages, out = page_set("pages", has_text=True), tmp_path / "out"
    wanted = [part for modality in ("text", "image", "image+text") for part in ("--modality", modality)]
    result = crossrank("evaluate", "-d", pages, "-m", model, "-o", out, *wanted, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    reranker = Reranker.load(model, device="cpu")
    for dataset, parts in {
        "pages-text": ["text"],
        "pages-image": ["image"],
        "pages-image-text": ["text", "image"],
    }.items():
        found = scores_of(out, dataset, "q1")
        whole = {"text": "a page on protein", "image": pages / "images" / "1.png"}
        document = Document(**{part: whole[part] for part in parts})
        # BM25 finds the page of the word, and words that all pages have are stop words.
        assert found == {"p1": pytest.approx(float(reranker.score([("about protein", document)])[0]), abs=2e-5)}
    report = (out / "report.md").read_text()
    assert "| data set | system | text | image | image+text |" in report
    assert "No BM25" not in report
    assert '"max_tiles": 6' in json.dumps(json.loads((out / "results.json").read_text())["model"])


def test_images_without_text_have_no_bm25_and_the_report_says_so(crossrank, model, page_set, tmp_path):
    charts, out = page_set("charts", has_text=False), tmp_path / "out"
    evaluate = ["evaluate", "-d", charts, "-m", model, "--device", "cpu"]
    result = crossrank(*evaluate, "-o", out)
    assert result.exit_code == 0, result.stderr
    facts = json.loads((out / "results.json").read_text())["datasets"]["charts"]
    assert facts["first_stage_name"] == "all documents (no order)" and facts["pairs"] == 16 and "bm25" not in facts
    for file in ("report.md", "report.html"):
        assert "No BM25 for charts: the documents have no text." in (out / file).read_text()
    few = crossrank(*evaluate, "-o", tmp_path / "few", "--max-input-tiles", "1")
    assert few.exit_code == 0, few.stderr
    assert scores_of(tmp_path / "few", "charts", "q0") != scores_of(out, "charts", "q0"), "fewer tiles are other scores"
    refused = crossrank(*evaluate, "-o", tmp_path / "small", "--depth", "3")
    assert refused.exit_code == 2
    assert "--first-stage dense:MODEL" in re.sub(r"\s+", " ", refused.stderr)


@pytest.mark.parametrize("modality", ["image", "image+text"])
def test_a_model_of_texts_has_no_column_for_images(crossrank, exported, page_set, tmp_path, modality):
    pages, out = page_set("pages", has_text=True), tmp_path / "out"
    result = crossrank("evaluate", "-d", pages, "-m", exported, "-o", out, "--modality", "text", "--modality", modality)
    assert result.exit_code == 2
    assert f"tiny reads text alone, and --modality {modality} needs a model that reads images" in result.stderr
    assert not out.exists()


def test_texts_have_no_images_to_look_at(crossrank, model, make_folder, tmp_path):
    result = crossrank("evaluate", "-d", make_folder("words"), "-m", model, "-o", tmp_path / "out",
                       "--modality", "image", "--device", "cpu")  # fmt: skip
    assert result.exit_code == 2
    assert "none of the data sets has image to look at" in result.stderr
