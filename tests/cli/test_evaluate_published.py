import gzip
import json

import numpy as np
import pytest

from crossrank.data.trec import read_run
from crossrank.evaluation.grid import Contestant
from tiny_vision import save_tiny_nemotron_embedding

NANO = (
    "ClimateFEVER", "DBPedia", "FEVER", "FiQA2018", "HotpotQA", "MSMARCO", "NFCorpus", "NQ", "QuoraRetrieval",
    "SCIDOCS", "SciFact", "ArguAna", "Touche2020",
)  # fmt: skip
WORDS = ("planet", "river", "bread")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSRANK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def nanobeir(tmp_path, monkeypatch):
    """A copy of NanoBEIR in the working folder, so that its hub name finds it."""
    root = tmp_path / "sentence-transformers" / "NanoBEIR-en"
    documents = [{"_id": f"{kind}{w}", "text": f"{kind} words on the {w}"} for w in WORDS for kind in ("good", "other")]
    for name in NANO:
        write(root / "corpus" / f"Nano{name}.jsonl", [*documents, {"_id": "planet", "text": "the planet"}])
        write(root / "queries" / f"Nano{name}.jsonl", [{"_id": w, "text": f"the {w}"} for w in WORDS])
        write(root / "qrels" / f"Nano{name}.jsonl", [{"query-id": w, "corpus-id": f"good{w}"} for w in WORDS])
        ranked = [{"query-id": w, "corpus-ids": ["planet", f"good{w}", f"other{w}"]} for w in WORDS]
        write(root / "bm25" / f"Nano{name}.jsonl", ranked)
    monkeypatch.chdir(tmp_path)
    return root


def test_a_suite_prints_published_rows_beside_ours(crossrank, exported, nanobeir, tmp_path, cache):
    out = tmp_path / "out"
    result = crossrank("evaluate", "--suite", "nanobeir", "-m", exported, "-o", out, "--measures", "RR@10")
    print(result.stdout)
    assert result.exit_code == 0, result.stderr
    found = json.loads((out / "results.json").read_text())["datasets"]
    assert list(found) == [f"Nano{name}" for name in NANO]
    assert list(found["NanoNQ"]["reranked"]) == ["nDCG@10", "RR@10"], "the measure of the suite comes first"
    assert found["NanoNQ"]["first_stage_name"] == "given ranking"
    assert found["NanoNQ"]["first_stage"]["RR@10"] == 0.5, "BM25's order is kept"
    assert found["NanoNQ"]["pairs"] == 9
    assert found["NanoArguAna"]["pairs"] == 8, "the query that is a document does not rank itself"
    report = (out / "report.md").read_text()
    assert "nanobeir: nDCG@10 beside published figures" in report
    assert "| ms-marco-MiniLM-L-6 | 0.6312 | - | Hugging Face blog, Ettin rerankers (2026-05) |" in report
    ours = next(line for line in report.splitlines() if line.endswith("| here |") and line.startswith("| tiny "))
    mean = sum(found[f"Nano{name}"]["reranked"]["nDCG@10"] for name in NANO) / 13
    assert f"{mean:.4f}" in ours
    assert "beside published figures" in result.stdout
    assert result.stderr.count("reading it for the first time") == 13
    assert len(list((cache / "datasets").iterdir())) == 13


@pytest.fixture
def mlqa(tmp_path):
    """Two pairs of MLQA in its own JSON."""
    root = tmp_path / "mlqa"
    for question in ("de", "hi"):
        paragraphs = [
            {"context": f"All about the {w}.", "qas": [{"id": f"{question}{w}", "question": f"the {w}?"}]}
            for w in WORDS
        ]
        file = root / "test" / f"test-context-en-question-{question}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"data": [{"title": "x", "paragraphs": paragraphs}]}))
    return root


def test_a_table_by_language(crossrank, exported, mlqa, tmp_path):
    data = [part for question in ("de", "hi") for part in ("-d", f"mlqa:{mlqa}:en.{question}")]
    result = crossrank("evaluate", *data, "-m", exported, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    report = (tmp_path / "out" / "report.md").read_text()
    assert "mlqa: nDCG@10 by language" in report
    assert "| de-en |" in report
    assert "| hi-en |" in report
    assert "macro mean of 2" in report
    assert "| worst |" in report
    found = json.loads((tmp_path / "out" / "results.json").read_text())["datasets"]
    assert found["mlqa-en.de"]["language"] == "de-en"


@pytest.fixture
def pages(tmp_path):
    """Pages with text and image."""
    folder = tmp_path / "pages"
    corpus = [{"_id": f"p{i}", "text": f"about the {w}", "image": f"images/{i}.png"} for i, w in enumerate(WORDS)]
    folder.mkdir()
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in corpus).encode()))
    write(folder / "queries.jsonl", [{"_id": f"q{i}", "text": f"the {w}"} for i, w in enumerate(WORDS)])
    (folder / "qrels").mkdir()
    lines = "".join(f"q{i}\tp{i}\t1\n" for i in range(len(WORDS)))
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + lines)
    return folder


def test_a_text_model_reads_the_text_of_pages(crossrank, exported, pages, tmp_path):
    result = crossrank("evaluate", "-d", pages, "-m", exported, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert list(json.loads((tmp_path / "out" / "results.json").read_text())["datasets"]) == ["pages"]
    result = crossrank("evaluate", "-d", pages, "-m", exported, "-o", tmp_path / "out2", "--modality", "text")
    assert list(json.loads((tmp_path / "out2" / "results.json").read_text())["datasets"]) == ["pages-text"]


def test_a_text_model_cannot_look_at_images(crossrank, exported, pages, tmp_path):
    result = crossrank("evaluate", "-d", pages, "-m", exported, "-o", tmp_path / "out", "--modality", "image")
    assert result.exit_code == 2
    assert "tiny reads text alone, and --modality image needs a model that reads images" in result.stderr


def test_a_folder_of_runs_by_name(crossrank, exported, mlqa, tmp_path):
    runs = tmp_path / "runs of a retriever"
    runs.mkdir()
    data = [part for question in ("de", "hi") for part in ("-d", f"mlqa:{mlqa}:en.{question}")]
    evaluate = ["evaluate", *data, "-m", exported, "-o", tmp_path / "out", "--run", runs]
    for question in ("de", "hi"):
        result = crossrank(*evaluate)
        assert result.exit_code == 2
        assert f"mlqa-en.{question}.trec" in "".join(result.stderr.split())
        (runs / f"mlqa-en.{question}.trec").write_text(
            f"{question}river Q0 a0p1 1 2 x\n{question}river Q0 a0p0 2 1 x\n"
        )
    assert crossrank(*evaluate).exit_code == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())["datasets"]
    assert [facts["pairs"] for facts in found.values()] == [2, 2]
    assert found["mlqa-en.hi"]["first_stage_name"] == "run:mlqa-en.hi.trec"


class Looker:
    """Knows the page of a word by its image, and half of them by their text."""

    def score(self, pairs):
        return np.array([self._score(query, document) for query, document in pairs], np.float32)

    def _score(self, query, document):
        word = query.removeprefix("the ")
        seen = document.image is not None and document.image.name == f"{WORDS.index(word)}.png"
        return 2.0 * seen + (1.0 if "planet" in document.text and word == "planet" else 0.0)


def test_three_columns_of_pages_from_the_same_candidates(crossrank, pages, tmp_path, monkeypatch):
    contestant = Contestant("looker", {"seed": 1}, Looker)
    monkeypatch.setattr("crossrank.cli.evaluate.open_contestants", lambda *_: [(contestant, {"images": "x"})])
    wanted = [part for modality in ("text", "image", "image+text") for part in ("--modality", modality)]
    run = pages / "run.trec"
    run.write_text("".join(f"q{i} Q0 p{d} {d + 1} {3 - d} x\n" for i in range(3) for d in range(3)))
    out = tmp_path / "out"
    result = crossrank("evaluate", "-d", pages, "-o", out, *wanted, "--run", "run.trec", "--measures", "P@1")
    assert result.exit_code == 0, result.stderr
    found = json.loads((out / "results.json").read_text())["datasets"]
    assert {name: facts["reranked"]["P@1"] for name, facts in found.items()} == {
        # Of equal scores the first candidate stays first: the page of the first word.
        "pages-text": pytest.approx(1 / 3),
        "pages-image": 1.0,
        "pages-image+text": 1.0,
    }
    assert {facts["pairs"] for facts in found.values()} == {9}
    report = (out / "report.md").read_text()
    assert "| data set | system | text | image | image+text |" in report
    assert "| pages | looker | 0.3333 | 1.0000 | 1.0000 |" in report


@pytest.fixture
def drawn_pages(pages):
    from PIL import Image

    (pages / "images").mkdir()
    for i in range(3):
        Image.effect_noise((40, 40), 50 + i).save(pages / "images" / f"{i}.png")
    return pages


@pytest.mark.parametrize("searched", ["text", "image", "image+text"])
def test_a_bi_encoder_of_pages_searches_what_it_is_told_to(
    crossrank, exported, drawn_pages, tmp_path, monkeypatch, searched
):
    from crossrank.data.beir import open_beir
    from crossrank.data.pages import in_modality
    from crossrank.retrieval.dense import Dense
    from crossrank.retrieval.embedders import open_embedder

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "vectors"))
    save_tiny_nemotron_embedding(tmp_path / "embed-vl")
    stage, out = f"dense:{tmp_path}/embed-vl", tmp_path / "out"
    more = ["--first-stage-modality", searched] if searched != "image+text" else []  # what it does by itself
    result = crossrank(
        "evaluate", "-d", drawn_pages, "-m", exported, "-o", out, "--first-stage", stage, "--depth", "2", *more
    )
    assert result.exit_code == 0, result.stderr
    facts = json.loads((out / "results.json").read_text())["datasets"]["pages"]
    print(facts["first_stage_name"])
    assert facts["first_stage_name"] == "dense:embed-vl" + ("" if searched == "text" else f" ({searched})")
    assert "bm25" in facts, "the baseline searches the text all the same"
    retriever = Dense(open_embedder(tmp_path / "embed-vl", device="cpu"))
    with open_beir(drawn_pages) as data:
        retriever.index(in_modality(data, searched).corpus)
        expected = {found.query_id: found.candidates for found in retriever.search(data.queries, depth=2)}
    [run] = [file for file in (out / "runs" / "pages").glob("*.trec.gz") if file.name.startswith("dense")]
    found = {item.query_id: [c.document_id for c in item.candidates] for item in read_run(run)}
    assert found == {query_id: [c.document_id for c in hits] for query_id, hits in expected.items()}


def test_a_first_stage_that_reads_no_images_is_not_told_to(crossrank, exported, drawn_pages, tmp_path, tiny_reranker):
    evaluate = [
        "evaluate",
        "-d",
        drawn_pages,
        "-m",
        exported,
        "-o",
        tmp_path / "out",
        "--first-stage-modality",
        "image",
    ]
    for stage in ([], ["--first-stage", "bm25"], ["--first-stage", f"dense:{tiny_reranker('llama')}"]):
        result = crossrank(*evaluate, *stage)
        assert result.exit_code == 2
        assert "searches no images" in " ".join(result.stderr.split())


def test_a_small_set_of_images_is_ranked_whole(crossrank, exported, pages, tmp_path):
    corpus = [{"_id": f"p{i}", "text": "", "image": f"images/{i}.png"} for i in range(3)]
    (pages / "corpus.jsonl.gz").unlink()
    write(pages / "corpus.jsonl", corpus)
    evaluate = ["evaluate", "-d", pages, "-m", exported, "-o", tmp_path / "out"]
    result = crossrank(*evaluate)
    assert result.exit_code == 2
    assert "is an image without text" in result.stderr, "the candidates are there, the model is not"
    result = crossrank(*evaluate, "--depth", "2")
    assert "has no text for BM25 to search" in result.stderr


def test_what_cannot_be_evaluated_is_said(crossrank, exported, mlqa, pages, tmp_path):
    def error(*arguments):
        result = crossrank("evaluate", *arguments, "-m", exported, "-o", tmp_path / "out")
        assert result.exit_code == 2, result.stdout
        return " ".join(result.stderr.split())

    assert "nothing to evaluate on: name data (--data) or a suite (--suite)" in error()
    assert "no suite 'glue'" in error("--suite", "glue")
    assert "--split does not go with --suite" in error("--suite", "beir", "--split", "dev")
    twice = ["-d", f"mlqa:{mlqa}:en.de"] * 2
    assert "two data sets are called 'mlqa-en.de'" in error(*twice)
    assert "is neither a folder on this machine nor a hub name" in error("-d", f"mteb:{tmp_path}/absent/x/y")
