"""A tiny reranking task through mteb's own evaluator: the candidates are ranked by us, and the figures are ours."""

from __future__ import annotations

import numpy as np
import pytest

from crossrank.data.trec import Candidate
from crossrank.errors import InputError
from crossrank.evaluation.measures import parse_measures, per_query
from crossrank.evaluation.ordering import best_first
from crossrank.reranker import Reranker
from crossrank.types import Document, Scorer

mteb = pytest.importorskip("mteb")

from datasets import Dataset, Image  # noqa: E402
from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402

from crossrank.integrations.mteb import MtebCrossEncoder  # noqa: E402

CORPUS = [
    {"id": "mars", "title": "Mars", "text": "Often referred to as the Red Planet."},
    {"id": "venus", "title": "Venus", "text": "Similar in size to the Earth."},
    {"id": "bread", "title": "Bread", "text": "Needs flour, water, salt and yeast."},
    {"id": "paris", "title": "Paris", "text": "The capital of France, on the river Seine."},
]
QUERIES = [
    {"id": "q1", "text": "Which planet is known as the Red Planet?"},
    {"id": "q2", "text": "How do I bake bread?"},
    {"id": "q3", "text": "capital of France"},
]
QRELS = {"q1": {"mars": 2, "venus": 1}, "q2": {"bread": 1}, "q3": {"paris": 1}}
# The answer to q3 is not among its candidates: a miss.
CANDIDATES = {
    "q1": ["bread", "venus", "mars", "paris"],
    "q2": ["paris", "bread", "mars"],
    "q3": ["mars", "venus", "bread"],
}


class TinyReranking(AbsTaskRetrieval):
    metadata = TaskMetadata(
        name="TinyReranking",
        description="Four documents.",
        reference=None,
        dataset={"path": "not/downloaded", "revision": "0" * 40},
        type="Reranking",
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
        date=None,
        domains=None,
        task_subtypes=None,
        license=None,
        annotations_creators=None,
        dialect=None,
        sample_creation=None,
        bibtex_citation="",
    )
    corpus = CORPUS

    def load_data(self, num_proc=None, **_) -> None:
        split = {
            "corpus": self.make_corpus(),
            "queries": Dataset.from_list(QUERIES),
            "relevant_docs": {query: dict(grades) for query, grades in QRELS.items()},
            "top_ranked": dict(CANDIDATES),
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True

    def make_corpus(self):
        return Dataset.from_list(CORPUS)


class TinyPages(TinyReranking):
    metadata = TinyReranking.metadata.model_copy(
        update={"name": "TinyPages", "modalities": ["text", "image"], "category": "t2i"}
    )

    def make_corpus(self):
        pictures = [picture(level) for level in (10, 20, 30, 40)]
        rows = {"id": [row["id"] for row in CORPUS], "image": pictures}
        return Dataset.from_dict(rows).cast_column("image", Image())


def picture(level: int):
    from PIL import Image as Pillow

    return Pillow.new("RGB", (4, 4), (level, 0, 0))


def evaluate(model, task, tmp_path):
    results = mteb.evaluate(model, task, cache=None, show_progress_bar=False, prediction_folder=tmp_path)
    return results[0].scores["test"][0]


def our_figures(scorer: Scorer, names: str) -> dict[str, float]:
    """The means of our own evaluation, over the runs that the scorer makes."""
    documents = {row["id"]: Document(row["text"], title=row["title"], id=row["id"]) for row in CORPUS}
    runs = {}
    for query in QUERIES:
        candidates = CANDIDATES[query["id"]]
        scores = scorer.score([(query["text"], documents[candidate]) for candidate in candidates])
        runs[query["id"]] = best_first(map(Candidate, candidates, map(float, scores)))
    values = per_query(runs, QRELS, parse_measures(names))
    return {name: float(np.mean(list(by_query.values()))) for name, by_query in values.items()}


@pytest.fixture(scope="module")
def adapter(tiny_checkpoint) -> MtebCrossEncoder:
    return MtebCrossEncoder(tiny_checkpoint("bert"), device="cpu", backend="torch")


def test_the_protocol_of_mteb_is_satisfied(adapter):
    assert isinstance(adapter, mteb.CrossEncoderProtocol)
    assert adapter.mteb_model_meta.name == "crossrank/bert"
    assert adapter.mteb_model_meta.model_type == ["cross-encoder"]
    assert adapter.mteb_model_meta.framework == ["PyTorch"]
    assert adapter.mteb_model_meta.max_tokens == 128


def test_figures_of_mteb_are_our_own(adapter, tmp_path):
    figures = evaluate(adapter, TinyReranking(), tmp_path)
    ours = our_figures(adapter.scorer, "nDCG@10,nDCG@1,R@3,AP@10,RR@10")
    print(f"mteb {figures}, we {ours}")
    theirs = [figures[name] for name in ("ndcg_at_10", "ndcg_at_1", "recall_at_3", "map_at_10", "mrr_at_10")]
    assert theirs == pytest.approx(list(ours.values()), abs=1e-5)
    assert 0 < figures["ndcg_at_10"] < 1
    assert figures["recall_at_10"] == pytest.approx(2 / 3, abs=1e-5), "the answer that is no candidate is a miss"


class ByColour:
    """Scores a page by its red level, so that the order of the images decides."""

    def __init__(self) -> None:
        self.seen: list[Document] = []

    def score(self, pairs):
        self.seen += [document for _, document in pairs]
        return np.array([document.image.getpixel((0, 0))[0] for _, document in pairs], np.float32)


def test_images_reach_the_scorer_and_decide_the_order(tmp_path):
    scorer = ByColour()
    adapter = MtebCrossEncoder.from_scorer(scorer, name="us/by-colour", modalities=["text", "image"])
    figures = evaluate(adapter, TinyPages(), tmp_path)
    assert len(scorer.seen) == sum(map(len, CANDIDATES.values()))
    assert {document.text for document in scorer.seen} == {""}
    # Levels: mars 10, venus 20, bread 30, paris 40; best first: paris bread venus mars | paris bread mars | bread ...
    by_hand = [(1 / np.log2(4) + 2 / np.log2(5)) / (2 + 1 / np.log2(3)), 1 / np.log2(3), 0.0]
    assert figures["ndcg_at_10"] == pytest.approx(np.mean(by_hand), abs=1e-5)


def test_a_text_model_refuses_pages_without_text(adapter, tmp_path):
    with pytest.raises(ValueError, match=r"supports \['text'\]"):
        evaluate(adapter, TinyPages(), tmp_path)
    with pytest.raises(InputError, match="image without text"):
        adapter.predict([{"text": ["red"]}], [{"image": [picture(1)]}])


def test_text_and_image_of_a_batch_stay_together():
    seen = []

    class Recorder:
        def score(self, pairs):
            seen.extend(pairs)
            return np.arange(len(pairs), dtype=np.float32)

    queries = [{"text": ["a", "b"]}, {"text": ["c"]}]
    pages = [
        {"text": ["T one", "two"], "title": ["T", ""], "body": ["one", "two"], "image": [1, 2], "id": ["x", "y"]},
        {"text": ["three"], "title": [""], "body": ["three"], "image": [3], "id": ["z"]},
    ]
    scores = MtebCrossEncoder.from_scorer(Recorder(), name="us/recorder").predict(queries, pages, batch_size=2)
    assert scores.tolist() == [0, 1, 2]
    assert [query for query, _ in seen] == ["a", "b", "c"]
    assert [(d.title or "", d.text, d.image, d.id) for _, d in seen] == [
        ("T", "one", 1, "x"),
        ("", "two", 2, "y"),
        ("", "three", 3, "z"),
    ]


def test_nothing_to_score_gives_no_scores(adapter):
    assert adapter.predict([], []).shape == (0,)


def test_a_query_that_is_an_image_is_refused(adapter):
    with pytest.raises(InputError, match="not text alone"):
        adapter.predict([{"image": [picture(1)]}], [{"text": ["a"]}])


@pytest.mark.parametrize("name", ["alone", "a/b/c", "/b", ""])
def test_a_name_that_mteb_cannot_file_is_refused(name):
    with pytest.raises(InputError, match="organisation/name"):
        MtebCrossEncoder.from_scorer(ByColour(), name=name)


def test_the_scorer_may_be_a_loaded_reranker(tiny_checkpoint, adapter, tmp_path):
    reranker = Reranker.load(tiny_checkpoint("bert"), device="cpu", backend="torch")
    again = MtebCrossEncoder.from_scorer(reranker, name="us/bert")
    assert again.predict([{"text": ["red"]}], [{"text": ["Mars"]}]) == pytest.approx(
        adapter.predict([{"text": ["red"]}], [{"text": ["Mars"]}]), abs=1e-6
    )
