"""The same negatives as `mine_hard_negatives` of sentence-transformers, with a random bi-encoder."""

import json

import pytest
from typer.testing import CliRunner

from crossrank.cli.main import app

pytestmark = pytest.mark.slow

CITIES = ["Berlin", "Paris", "Rome", "Oslo", "Lima", "Cairo", "Tokyo", "Delhi", "Quito", "Accra", "Dakar", "Hanoi"]
QUERIES = {f"q{i}": f"Where {'is ' * i}{city}?" for i, city in enumerate(CITIES)}
CORPUS = {f"d{i}": f"{city} {'is a city ' * (i + 1)}" for i, city in enumerate(CITIES)}
NUM = 3


@pytest.fixture(scope="module")
def bi_encoder(tiny_checkpoint, tmp_path_factory):
    """Its vectors have length 1: the other miner compares directions, whatever the model's similarity is."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    folder = tmp_path_factory.mktemp("bi-encoder")
    body = Transformer(str(tiny_checkpoint("bert")), transformer_task="feature-extraction")
    modules = [body, Pooling(32, "mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu", similarity_fn_name="dot").save(str(folder))
    return folder


@pytest.fixture
def beir(tmp_path):
    """Options that name the files; the positive of a query has its number."""
    for name, texts in {"queries": QUERIES, "corpus": CORPUS}.items():
        lines = (json.dumps({"_id": key, "text": text}) + "\n" for key, text in texts.items())
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    (tmp_path / "qrels.tsv").write_text("".join(f"q{i}\td{i}\t1\n" for i in range(len(CITIES))))
    named = {"--queries": "queries.jsonl", "--corpus": "corpus.jsonl", "--qrels": "qrels.tsv"}
    return [part for option, name in named.items() for part in (option, str(tmp_path / name))]


def mined_by_theirs(folder, **options):
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    pairs = Dataset.from_dict({"query": list(QUERIES.values()), "positive": list(CORPUS.values())})
    mined = mine_hard_negatives(
        pairs,
        SentenceTransformer(str(folder), device="cpu"),
        num_negatives=NUM,
        range_max=len(CORPUS),
        sampling_strategy="top",
        output_format="n-tuple",
        verbose=False,
        **options,
    )
    return {row["query"]: [row[f"negative_{i + 1}"] for i in range(NUM)] for row in mined}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"relative_margin": 0.01}, ["--percent", "0.99"]),
        ({"absolute_margin": 0.02}, ["--percent", "0", "--margin", "0.02"]),
        ({"max_score": 0.9}, ["--percent", "0", "--max-score", "0.9"]),
    ],
)
def test_the_same_negatives(bi_encoder, beir, tmp_path, monkeypatch, theirs, ours):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "groups.jsonl"
    options = ["--retriever", f"dense:{bi_encoder}", "-n", str(NUM), "--near-duplicate", "0", "-o", str(out), *ours]
    result = CliRunner().invoke(app, ["mine", *beir, *options])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    # Theirs leaves out queries with fewer negatives.
    mined = {row["query"]: [d["text"] for d in row["neg_doc"]] for row in rows if len(row["neg_doc"]) == NUM}
    assert len(mined) >= 3
    assert mined == mined_by_theirs(bi_encoder, **theirs)
