import json
import types

import pytest
from PIL import Image

from crossrank import Document, Reranker
from crossrank.cli.options import PageModality
from crossrank.cli.pages import choose_modality
from crossrank.errors import InputError
from crossrank.models.families import FAMILIES
from tiny_pdf import encrypted_pdf_bytes, pdf_bytes
from tiny_vision import save_tiny_nemotron_vl

QUERY = "red planet"


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf_bytes("Venus is the hottest", "the red planet", "a red dress", ""))
    return path


def checkpoint(family):
    visual = {family.name: family.visual for family in FAMILIES}[family]
    return types.SimpleNamespace(name=family, visual=visual and types.SimpleNamespace(prompt=visual))


@pytest.mark.parametrize(
    ("family", "known"),
    [
        ("bert", ["text"]),
        ("llama_nemotron_vl", ["both", "image", "text"]),
        ("jina_reranker_m0", ["image", "text"]),
        ("monoqwen2_vl", ["image"]),
        ("qwen3_vl_reranker", ["both", "image", "text"]),
    ],
)
def test_the_modality_is_the_most_that_the_model_reads(family, known):
    assert choose_modality(None, checkpoint(family)) == known[0]
    for modality in PageModality:
        if modality in known:
            assert choose_modality(modality, checkpoint(family)) == modality
        else:
            with pytest.raises(InputError, match=f"{family} reads {' or '.join(known)}: .*llama_nemotron_vl"):
                choose_modality(modality, checkpoint(family))


def test_hits_say_file_and_page(crossrank, reranker, report):
    result = crossrank("rerank", QUERY, report)
    assert result.stdout.splitlines() == [
        f"1\t1\t{report}#page=2\t\tthe red planet",
        f"2\t0.5\t{report}#page=3\t\ta red dress",
        f"3\t0\t{report}#page=1\t\tVenus is the hottest",
    ]
    assert result.stderr == f"1 page(s) or image(s) without a text to read are left out: {report}#page=4\n"
    [hit] = json.loads(crossrank("rerank", QUERY, report, "--json", "-k", 1).stdout)["hits"]
    assert hit["document"]["metadata"] == {"file": str(report), "page": 2}


def test_an_image_for_a_text_model_names_families_that_read_it(crossrank, reranker, report, tmp_path):
    scan = tmp_path / "scan.png"
    Image.new("RGB", (8, 8)).save(scan)
    for arguments in ((report, scan), (scan,), (report, "--modality", "image"), (report, "--modality", "both")):
        result = crossrank("rerank", QUERY, *arguments)
        assert result.exit_code == 2
        assert "of one of the families llama_nemotron_vl (nvidia/llama-nemotron-rerank-vl-1b-v2), " in result.stderr


def test_a_folder_of_slides_and_notes_is_read_as_far_as_it_holds_text(crossrank, reranker, tmp_path):
    (tmp_path / "note.txt").write_text("the red planet")
    (tmp_path / "slide.pdf").write_bytes(pdf_bytes(""))
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg")
    result = crossrank("rerank", QUERY, tmp_path)
    assert result.stdout == f"1\t1\t{tmp_path}/note.txt#1\t\tthe red planet\n"
    assert f"left out: {tmp_path}/photo.jpg, {tmp_path}/slide.pdf#page=1\n" in result.stderr


def test_a_file_that_cannot_be_read_is_named_or_skipped(crossrank, reranker, report, tmp_path):
    locked = tmp_path / "locked.pdf"
    locked.write_bytes(encrypted_pdf_bytes())
    result = crossrank("rerank", QUERY, report, locked)
    assert result.exit_code == 2
    assert f"Error: {locked}: encrypted" in result.stderr
    result = crossrank("rerank", QUERY, report, locked, "--skip-bad")
    assert result.exit_code == 0
    assert f"skipped {locked}: encrypted" in result.stderr


def test_a_pdf_on_standard_input_is_refused_by_what_it_is(crossrank, reranker, report):
    result = crossrank("rerank", QUERY, "-", input=report.read_bytes())
    assert result.exit_code == 2
    assert "<stdin>: a PDF cannot be piped in: give its path" in result.stderr


def test_urls_are_not_fetched(crossrank, reranker):
    result = crossrank("rerank", QUERY, "https://example.com/report.pdf")
    assert result.exit_code == 2
    assert "no such file" in result.stderr


@pytest.fixture(scope="module")
def nemotron(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nemotron-vl")
    save_tiny_nemotron_vl(folder)
    return folder


def test_a_model_that_reads_images_reads_what_it_is_told_to(crossrank, nemotron, report, tmp_path):
    """The same scores as from `rank` on images drawn by hand, in each modality."""
    import pypdfium2

    scan = tmp_path / "scan.png"
    Image.effect_noise((60, 40), 80).save(scan)
    drawn = [page.render(scale=150 / 72).to_pil() for page in pypdfium2.PdfDocument(report)]
    texts = ["Venus is the hottest", "the red planet", "a red dress", ""]
    expected = {
        "both": [
            *(Document(text, image=image) for text, image in zip(texts, drawn, strict=True)),
            Document(image=scan),
        ],
        "image": [*(Document(image=image) for image in drawn), Document(image=scan)],
        "text": [Document(text) for text in texts[:3]],
    }
    reranker = Reranker.load(nemotron, device="cpu", dtype="float32")
    for modality, documents in expected.items():
        files = [report] if modality == "text" else [report, scan]
        chosen = [] if modality == "both" else ["--modality", modality]
        result = crossrank("rerank", QUERY, *files, "--model", nemotron, "--device", "cpu", "--dtype", "float32",
                           "--jsonl", *chosen)  # fmt: skip
        assert result.exit_code == 0, result.stderr
        hits = [json.loads(line) for line in result.stdout.splitlines()]
        ranking = reranker.rank(QUERY, documents)
        assert [hit["index"] for hit in hits] == [hit.index for hit in ranking]
        assert [hit["score"] for hit in hits] == pytest.approx([hit.score for hit in ranking], abs=1e-5)
        assert len({round(hit["score"], 4) for hit in hits}) > 1


def test_a_scan_read_as_text_by_a_model_that_reads_images_says_which_option_is_in_the_way(
    crossrank, nemotron, tmp_path
):
    (tmp_path / "scan.pdf").write_bytes(pdf_bytes(""))
    result = crossrank("rerank", QUERY, tmp_path / "scan.pdf", "--model", nemotron, "--modality", "text")
    assert result.exit_code == 2
    assert "scan.pdf: a PDF without a text layer, and text is read: leave out --modality text" in result.stderr


def test_skip_bad_leaves_out_images_that_cannot_be_read(crossrank, nemotron, tmp_path):
    slides = tmp_path / "slides"
    slides.mkdir()
    Image.new("RGB", (40, 40), "red").save(slides / "good.png")
    (slides / "cut.png").write_bytes((slides / "good.png").read_bytes()[:60])
    (slides / "empty.png").write_bytes(b"")
    rerank = ["rerank", QUERY, slides, "--model", nemotron, "--device", "cpu"]
    result = crossrank(*rerank)
    assert result.exit_code == 2 and "empty.png: empty (0 bytes)" in result.stderr, "sizes are read first"
    result = crossrank(*rerank, "--skip-bad")
    assert result.exit_code == 0, result.stderr
    assert [line.split("\t")[2] for line in result.stdout.splitlines()] == [str(slides / "good.png")]
    assert f"skipped {slides / 'empty.png'}: " in result.stderr and "2 bad line(s) skipped" in result.stderr


def test_a_whole_run_reads_the_images_of_its_corpus(crossrank, exported, nemotron, tmp_path, write_jsonl):
    for i, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{i}.png")
    corpus = write_jsonl(tmp_path / "corpus.jsonl", *({"_id": f"d{i}", "image": f"{i}.png"} for i in range(3)))
    queries = write_jsonl(tmp_path / "queries.jsonl", {"_id": "q", "text": QUERY})
    (tmp_path / "run.trec").write_text("".join(f"q Q0 d{i} {i + 1} {3 - i} x\n" for i in range(3)))
    files = ["--queries", queries, "--corpus", corpus, "--run", tmp_path / "run.trec"]
    result = crossrank("rerank", *files, "-o", tmp_path / "out.trec", "-m", nemotron, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    found = {line.split()[2]: float(line.split()[4]) for line in (tmp_path / "out.trec").read_text().splitlines()}
    reranker = Reranker.load(nemotron, device="cpu")
    expected = reranker.score([(QUERY, Document(image=tmp_path / f"{i}.png")) for i in range(3)])
    assert found == {f"d{i}": pytest.approx(float(score), abs=2e-5) for i, score in enumerate(expected)}
    result = crossrank("rerank", *files, "-o", tmp_path / "text.trec", "-m", exported)
    assert result.exit_code == 2
    assert "(d0) is an image without text" in result.stderr and "llama_nemotron_vl" in result.stderr
