"""The front door: scores, rankings, over-long documents, calibration, fusion, threads, and every refusal."""

from __future__ import annotations

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from crossrank import Document, Ranking, Reranker
from crossrank.encoding.pairs import PairEncoder, Truncation, concatenate
from crossrank.errors import InputError, NumericalError
from crossrank.reranker import sigmoid
from crossrank.types import Ranker, Scorer

QUERY = "Which planet is known as the Red Planet?"
DOCUMENTS = [
    "Venus is often called Earth's twin because of its similar size and proximity.",
    "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
    "Bread needs flour, water, salt and yeast, and an hour of rest.",
]


@pytest.fixture(scope="module")
def reranker(tiny_checkpoint) -> Reranker:
    return Reranker.load(tiny_checkpoint("bert"), backend="torch")


@pytest.fixture
def with_settings(tiny_checkpoint, tmp_path):
    """Load the tiny BERT with a `crossrank.json`."""

    def load(**settings) -> Reranker:
        folder = tmp_path / "checkpoint"
        shutil.copytree(tiny_checkpoint("bert"), folder)
        (folder / "crossrank.json").write_text(json.dumps({"format_version": 1} | settings))
        return Reranker.load(folder, backend="torch")

    return load


def test_scores_are_the_logits_of_transformers_in_input_order(reranker, tiny_checkpoint, reference_logits, hard_pairs):
    scores = reranker.score(hard_pairs)
    assert scores.dtype == np.float32
    assert scores.shape == (len(hard_pairs),)
    np.testing.assert_allclose(scores, reference_logits(tiny_checkpoint("bert"), hard_pairs)[:, 0], atol=1e-5)


def test_probabilities_are_those_of_sentence_transformers(reranker, tiny_checkpoint):
    from sentence_transformers import CrossEncoder

    expected = CrossEncoder(str(tiny_checkpoint("bert")), device="cpu").predict([(QUERY, d) for d in DOCUMENTS])
    ranking = reranker.rank(QUERY, DOCUMENTS, score_type="probability")
    assert ranking.score_type == "probability"
    for hit in ranking:
        assert hit.score == pytest.approx(float(expected[hit.index]), abs=1e-5)


def test_a_ranking_is_sorted_and_cut(reranker):
    scores = reranker.score([(QUERY, document) for document in DOCUMENTS])
    ranking = reranker.rank(QUERY, DOCUMENTS, top_k=2)
    assert isinstance(ranking, Ranking)
    assert [hit.index for hit in ranking] == np.argsort(-scores).tolist()[:2]
    assert [hit.score for hit in ranking] == sorted(scores.tolist(), reverse=True)[:2]
    assert ranking[0].document.text == DOCUMENTS[ranking[0].index]


def test_documents_may_be_strings_documents_and_mappings(reranker):
    given = ["Mars", Document("Mars", title="Planet", id="a", metadata={"n": 1}), {"text": "Mars", "title": "Planet"}]
    hits = {hit.index: hit for hit in reranker.rank("red planet", given)}
    assert hits[1].document is given[1]
    assert hits[2].document == Document("Mars", title="Planet")
    assert hits[1].score == pytest.approx(hits[2].score, abs=1e-6), "id and metadata are not read by the model"
    assert hits[0].score != pytest.approx(hits[1].score, abs=1e-3), "the title is"


def test_an_image_beside_a_text_is_carried_and_not_read(reranker):
    picture = object()
    ranking = reranker.rank(QUERY, [{"text": "Mars is red."}, {"text": "Mars is red.", "image": picture}])
    plain, pictured = sorted(ranking, key=lambda hit: hit.index)
    assert plain.score == pytest.approx(pictured.score, abs=1e-6)
    assert plain.document.image is None
    assert pictured.document.image is picture


def test_equal_scores_keep_the_input_order(reranker):
    assert [hit.index for hit in reranker.rank(QUERY, ["Mars"] * 7)] == list(range(7))


def test_an_empty_list_ranks_to_an_empty_ranking(reranker):
    assert len(reranker.rank(QUERY, [])) == 0
    assert reranker.score([]).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", DOCUMENTS, {}), "the query is empty"),
        (("  \n", DOCUMENTS, {}), "the query is empty"),
        ((None, DOCUMENTS, {}), "must be a string, not NoneType"),
        ((QUERY, DOCUMENTS, {"top_k": 0}), "top_k must be a whole number of at least 1"),
        ((QUERY, DOCUMENTS, {"top_k": 1.5}), "top_k"),
        ((QUERY, "one string", {}), "must be a list of documents"),
        ((QUERY, [{"text": "a", "body": "b"}], {}), r"document 0 has unknown keys \['body'\]"),
        ((QUERY, [{"title": "a"}], {}), "document 0 has no 'text'"),
        ((QUERY, ["a", {"title": "page 1", "image": "page.png"}], {}), "document 1 is an image without text"),
        ((QUERY, [Document(image=b"PNG")], {}), "document 0 is an image without text"),
        ((QUERY, ["a", 7], {}), "document 1 is a int"),
        ((QUERY, [{"text": None}], {}), "the text of document 0 is a NoneType"),
        ((QUERY, DOCUMENTS, {"score_type": "softmax"}), "score_type must be"),
        ((QUERY, DOCUMENTS, {"on_overflow": "drop"}), "on_overflow must be"),
        ((QUERY, None, {}), "documents must be a list of documents, not NoneType"),
        ((QUERY, Document("a"), {}), "not one document"),
        ((QUERY, np.array([["a", "b"]]), {}), "documents must be a list of documents, not ndarray"),
        ((QUERY, [{"text": "a", "metadata": [1]}], {}), "the metadata of document 0 is a list, not a mapping"),
        ((QUERY, DOCUMENTS, {"first_stage_scores": [1.0]}), "1 first_stage_scores for 3 documents"),
        ((QUERY, DOCUMENTS, {"first_stage_scores": 5}), "must be a list of numbers, one a document, not int"),
        ((QUERY, DOCUMENTS, {"first_stage_scores": {1.0, 2.0, 3.0}}), "must be a list of numbers.*, not set"),
        ((QUERY, DOCUMENTS, {"first_stage_scores": "abc"}), "must be a list of numbers.*, not str"),
        ((QUERY, DOCUMENTS, {"first_stage_scores": [1, None, 2]}), "document 1 must be a finite number, not None"),
        (
            (QUERY, DOCUMENTS, {"first_stage_scores": [1, 2, float("nan")]}),
            "document 2 must be a finite number, not nan",
        ),
        ((QUERY, DOCUMENTS, {"first_stage_scores": ["a", 1, 2]}), "document 0 must be a finite number, not a"),
        ((QUERY, DOCUMENTS, {"first_stage_scores": [1, [2], 3]}), r"document 1 must be a finite number, not \[2\]"),
        ((QUERY, DOCUMENTS, {"first_stage_scores": [1, 2, 10**400]}), "document 2 must be a finite number"),
    ],
)
def test_bad_arguments_are_clear_errors(reranker, arguments, message):
    query, documents, options = arguments
    with pytest.raises(InputError, match=message):
        reranker.rank(query, documents, **options)


def test_a_reranker_is_not_pickled(reranker):
    with pytest.raises(TypeError, match=r"Reranker\(.* cannot be pickled or copied: load it in each process"):
        pickle.dumps(reranker)
    ranking = reranker.rank(QUERY, DOCUMENTS)
    assert pickle.loads(pickle.dumps(ranking)) == ranking


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("a",)], "pair 0 must be"),
        (["ab"], "pair 0 must be"),
        ("ab", "not one string"),
        (None, "must be a list of .*, not NoneType"),
        ([("q", "d"), ("", "d")], "the query of pair 1 is empty"),
    ],
)
def test_bad_pairs_are_clear_errors(reranker, pairs, message):
    with pytest.raises(InputError, match=message):
        reranker.score(pairs)


LONG = "Bread needs flour. " * 60 + "Mars is the Red Planet. " + "Berlin is a city. " * 60


def test_truncation_is_reported(reranker):
    hits = {hit.index: hit for hit in reranker.rank(QUERY, [LONG, "Mars"])}
    assert hits[0].truncated
    assert hits[0].span is None
    assert not hits[1].truncated


def test_chunks_tokenise_each_text_once_whole_and_long_ones_once_more_in_windows(reranker, monkeypatch):
    encoded = []
    encode = PairEncoder.encode
    monkeypatch.setattr(PairEncoder, "encode", lambda self, pairs: encoded.append(len(pairs)) or encode(self, pairs))
    documents = ["Mars", LONG, "Mars is red"]
    ranking = reranker.rank(QUERY, documents, on_overflow="chunk")
    assert encoded[0] == 3 and len(encoded) == 2 and encoded[1] > 1
    parts = [hit.document.text if hit.span is None else hit.document.text[slice(*hit.span)] for hit in ranking]
    alone = reranker.score([(QUERY, part) for part in parts])
    np.testing.assert_allclose([hit.score for hit in ranking], alone, atol=1e-4)


def test_chunks_keep_the_best_window_and_its_span(reranker):
    ranking = reranker.rank(QUERY, ["Mars", LONG], on_overflow="chunk")
    hit = next(hit for hit in ranking if hit.index == 1)
    assert not hit.truncated
    start, end = hit.span
    alone = reranker.score([(QUERY, LONG[start:end])])[0]
    assert hit.score == pytest.approx(float(alone), abs=1e-5)
    assert hit.score >= reranker.score([(QUERY, LONG)])[0] - 1e-5, "the first window is one of them"
    assert next(hit for hit in ranking if hit.index == 0).span is None


def test_windows_carry_the_title(reranker):
    document = Document(LONG, title="Mars")
    hit = reranker.rank(QUERY, [document], on_overflow="chunk")[0]
    start, end = hit.span
    alone = reranker.score([(QUERY, Document(LONG[start:end], title="Mars"))])[0]
    assert hit.score == pytest.approx(float(alone), abs=1e-5)
    assert hit.document is document


def test_overflow_can_be_refused(reranker):
    with pytest.raises(InputError, match=r"document 1 does not fit in max_length=128 tokens .* \(1 of 2 do not\)"):
        reranker.rank(QUERY, ["Mars", LONG], on_overflow="error")
    assert len(reranker.rank(QUERY, DOCUMENTS, on_overflow="error")) == 3


def test_a_document_of_three_megabytes(reranker):
    huge = "Mars is the Red Planet. " * 125_000
    ranking = reranker.rank(QUERY, [huge, "Mars"])
    assert {hit.index: hit.truncated for hit in ranking} == {0: True, 1: False}


def test_calibration_of_the_checkpoint_makes_the_probability(with_settings, reranker):
    calibrated = with_settings(calibration={"method": "platt", "slope": 0.5, "intercept": -1.0})
    logits = reranker.score([(QUERY, document) for document in DOCUMENTS])
    for hit in calibrated.rank(QUERY, DOCUMENTS, score_type="probability"):
        assert hit.score == pytest.approx(1 / (1 + np.exp(-(0.5 * logits[hit.index] - 1.0))), abs=1e-5)


def test_a_calibration_so_steep_that_probabilities_round_to_1_keeps_the_order(with_settings, reranker):
    documents = [f"{word} of the red planet" for word in ("moon", "river", "Mars", "city", "bread", "known", "sky")]
    calibrated = with_settings(calibration={"method": "platt", "slope": 40.0, "intercept": 500.0})
    ranking = calibrated.rank(QUERY, documents, score_type="probability")
    assert {hit.score for hit in ranking} == {1.0}
    assert [hit.index for hit in ranking] == [hit.index for hit in reranker.rank(QUERY, documents)]


def test_a_checkpoint_that_states_the_identity_stays_with_logits_and_says_so(with_settings, reranker):
    ranking = with_settings(activation="identity").rank(QUERY, DOCUMENTS, score_type="probability")
    assert ranking.score_type == "logit"
    assert [hit.score for hit in ranking] == [hit.score for hit in reranker.rank(QUERY, DOCUMENTS)]


def test_a_probability_that_there_is_none_of_is_said_once_in_the_log(with_settings, caplog):
    reranker = with_settings(activation="identity")
    for _ in range(2):
        reranker.rank(QUERY, DOCUMENTS, score_type="probability")
    reranker.rank(QUERY, DOCUMENTS)
    assert [record.message for record in caplog.records if "scores stay logits" in record.message] == [
        f"{reranker.checkpoint.name} states the identity as its activation and has no calibration, so its scores stay "
        "logits: `crossrank calibrate` fits one"
    ]


def test_temperature_divides_the_logits(with_settings, reranker):
    pairs = [(QUERY, document) for document in DOCUMENTS]
    np.testing.assert_allclose(with_settings(temperature=4.0).score(pairs), reranker.score(pairs) / 4, rtol=1e-5)


def test_first_stage_scores_are_fused_as_the_checkpoint_says(with_settings, reranker):
    fused = with_settings(fusion={"method": "minmax", "weight": 0.25})
    logits = reranker.score([(QUERY, document) for document in DOCUMENTS])
    scaled = (logits - logits.min()) / np.ptp(logits)
    ranking = fused.rank(QUERY, DOCUMENTS, first_stage_scores=[30.0, 10.0, 20.0])
    assert ranking.score_type == "fused"
    for hit in ranking:
        assert hit.score == pytest.approx(0.25 * scaled[hit.index] + 0.75 * [1.0, 0.0, 0.5][hit.index], abs=1e-5)


def test_the_label_chooses_the_output_and_softmax_its_probability(tiny_checkpoint, reference_logits):
    folder = tiny_checkpoint("bert-two-labels")
    pairs = [(QUERY, document) for document in DOCUMENTS]
    logits = reference_logits(folder, pairs)
    chosen = Reranker.load(folder, label="relevant", backend="torch")
    np.testing.assert_allclose(chosen.score(pairs), logits[:, 1], atol=1e-5)
    expected = np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1)
    for hit in chosen.rank(QUERY, DOCUMENTS, score_type="probability"):
        assert hit.score == pytest.approx(float(expected[hit.index]), abs=1e-5)
    with pytest.raises(InputError, match=r"'irrelevant'.*'relevant'"):
        Reranker.load(folder)


def test_sixteen_threads_get_the_scores_of_one(reranker, hard_pairs):
    expected = reranker.score(hard_pairs)
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda _: reranker.score(hard_pairs), range(32)))
    for scores in results:
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_a_score_that_is_not_finite_names_its_pair(reranker, monkeypatch):
    def broken(encoded):
        logits = np.zeros((len(encoded), 1), np.float32)
        logits[1] = np.nan
        return logits

    monkeypatch.setattr(reranker.engine, "logits", broken)
    with pytest.raises(NumericalError, match="for pair 1"):
        reranker.score([(QUERY, document) for document in DOCUMENTS])


@pytest.mark.parametrize("on_overflow", ["truncate", "chunk"])
def test_requests_prepared_apart_and_computed_together_get_their_own_rankings(reranker, on_overflow):
    # No two windows alike: between equal ones rounding would choose.
    long = " ".join(f"{DOCUMENTS[i % 3]} That is fact {i * i}." for i in range(40))
    requests = [(QUERY, [*DOCUMENTS, long]), ("capital of France", ["Paris", long, "Berlin"]), ("bread", [long])]
    prepared = [
        reranker.prepare([(query, text) for text in texts], on_overflow=on_overflow) for query, texts in requests
    ]
    logits = reranker.compute(concatenate([p.encoded for p in prepared]))
    parts = np.split(logits, np.cumsum([len(p.encoded) for p in prepared])[:-1])
    for (query, texts), own, part in zip(requests, prepared, parts, strict=True):
        documents = [Document(text) for text in texts]
        ranking = reranker.to_ranking(query, documents, reranker.collect(own, part), top_k=2)
        expected = reranker.rank(query, texts, on_overflow=on_overflow, top_k=2)
        assert [(h.index, h.truncated, h.span) for h in ranking] == [(h.index, h.truncated, h.span) for h in expected]
        np.testing.assert_allclose([h.score for h in ranking], [h.score for h in expected], atol=1e-5)


def test_preparing_refuses_what_ranking_refuses(reranker):
    with pytest.raises(InputError, match="document 1 does not fit in max_length=128"):
        reranker.prepare([(QUERY, "Mars"), (QUERY, LONG)], on_overflow="error")
    with pytest.raises(InputError, match="document 0 does not fit in max_length=20"):
        reranker.prepare([(QUERY, DOCUMENTS[0])], on_overflow="error", truncation=Truncation(max_length=20))
    with pytest.raises(InputError, match="the query of pair 0 is empty"):
        reranker.prepare([(" ", "Mars")])


def test_windows_keep_to_the_length_that_is_asked_for(reranker):
    prepared = reranker.prepare([(QUERY, LONG)], on_overflow="chunk", truncation=Truncation(max_length=40))
    assert len(prepared.encoded) > 10
    assert prepared.encoded.lengths.max() <= 40


def test_collecting_names_the_pair_that_is_not_finite(reranker):
    prepared = reranker.prepare([(QUERY, text) for text in DOCUMENTS])
    with pytest.raises(NumericalError, match="for pair 2"):
        reranker.collect(prepared, np.array([[0.0], [1.0], [np.inf]], np.float32))


def test_the_sockets_are_satisfied(reranker):
    assert isinstance(reranker, Scorer)
    assert isinstance(reranker, Ranker)


def test_sigmoid_is_exact_at_both_ends():
    values = sigmoid(np.array([-200.0, -1.0, 0.0, 1.0, 200.0], np.float32))
    np.testing.assert_allclose(values, [0, 0.26894143, 0.5, 0.7310586, 1], rtol=1e-6)
    assert values.dtype == np.float32
