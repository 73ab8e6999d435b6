"""Scores that other people published for real checkpoints; `pytest -m hub tests/hub` downloads several gigabytes.

Sources: tests/cross_encoder/test_pretrained.py and the docstring of `CrossEncoder` in sentence-transformers (bfloat16
and float32), the README and the examples of FlagEmbedding (float16), the card of
Alibaba-NLP/gte-reranker-modernbert-base (float16).
"""

import numpy as np
import pytest

from crossrank import Reranker

pytestmark = pytest.mark.hub

QUERY = "Which planet is known as the Red Planet?"
DOCUMENTS = [
    "Venus is often called Earth's twin because of its similar size and proximity.",
    "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
    "Jupiter, the largest planet in our solar system, has a prominent red spot.",
    "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
]
# The published values are rounded to bfloat16 and come from bfloat16 arithmetic; here it is float32.
LOGIT_TOLERANCE, PROBABILITY_TOLERANCE = 0.1, 0.02

PANDA = (
    "The giant panda (Ailuropoda melanoleuca), sometimes called a panda bear or simply panda, is a bear species "
    "endemic to China."
)


def load(name):
    return Reranker.load(name, backend="torch", device="cpu", dtype="float32")


@pytest.mark.parametrize(
    ("name", "logits"),
    [
        ("cross-encoder/ms-marco-MiniLM-L2-v2", [-10.25, 9.8125, 7.9375, 8.3125]),
        ("cross-encoder/ms-marco-MiniLM-L4-v2", [-7.875, 9.0, 5.6875, 6.65625]),
        ("cross-encoder/ms-marco-MiniLM-L6-v2", [-6.53125, 9.6875, 6.90625, 6.6875]),
        ("cross-encoder/ms-marco-MiniLM-L12-v2", [-7.15625, 9.5, 5.71875, 6.84375]),
        ("cross-encoder/ms-marco-TinyBERT-L2-v2", [-10.875, 7.0, 5.875, 5.6875]),
        ("cross-encoder/mmarco-mMiniLMv2-L12-H384-v1", [-3.28125, 10.1875, 3.4375, 7.46875]),
    ],
)
def test_logits_of_checkpoints_without_an_activation(name, logits):
    scores = load(name).score([(QUERY, document) for document in DOCUMENTS])
    np.testing.assert_allclose(scores, logits, atol=LOGIT_TOLERANCE)


@pytest.mark.parametrize(
    ("name", "probabilities"),
    [
        ("cross-encoder/ms-marco-electra-base", [3e-05, 0.92969, 0.78906, 0.80469]),
        ("BAAI/bge-reranker-base", [0.87891, 0.99609, 0.99609, 0.05029]),
        ("BAAI/bge-reranker-large", [0.69922, 1.0, 0.97266, 0.81641]),
        ("BAAI/bge-reranker-v2-m3", [0.01855, 1.0, 0.78906, 0.98828]),
        ("Alibaba-NLP/gte-reranker-modernbert-base", [0.80859, 0.95312, 0.875, 0.91797]),
        ("mixedbread-ai/mxbai-rerank-xsmall-v1", [0.21484, 0.9375, 0.57031, 0.72656]),
        ("mixedbread-ai/mxbai-rerank-base-v1", [0.05176, 0.96875, 0.71484, 0.16895]),
        ("mixedbread-ai/mxbai-rerank-large-v1", [0.00711, 0.99219, 0.80469, 0.3418]),
        ("ibm-granite/granite-embedding-reranker-english-r2", [0.78906, 0.96484, 0.89062, 0.94141]),
    ],
)
def test_probabilities_of_checkpoints_with_a_sigmoid(name, probabilities):
    ranking = load(name).rank(QUERY, DOCUMENTS, score_type="probability")
    scores = [hit.score for hit in sorted(ranking, key=lambda hit: hit.index)]
    np.testing.assert_allclose(scores, probabilities, atol=PROBABILITY_TOLERANCE)


def test_the_float32_example_of_sentence_transformers():
    query = "How many people live in Berlin?"
    documents = ["Berlin had a population of 3,520,031 in 2019.", "Berlin is well known for its museums."]
    scores = load("cross-encoder/ms-marco-MiniLM-L6-v2").score([(query, document) for document in documents])
    np.testing.assert_allclose(scores, [8.40307, -4.3200774], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "logits"),
    [
        ("BAAI/bge-reranker-large", [-1.5263671875, -5.60546875, 5.76171875]),
        ("BAAI/bge-reranker-v2-m3", [-5.65234375, -8.1875, 5.26171875]),
    ],
)
def test_the_float16_examples_of_flagembedding(name, logits):
    pairs = [("query", "passage"), ("what is panda?", "hi"), ("what is panda?", PANDA)]
    np.testing.assert_allclose(load(name).score(pairs), logits, atol=0.03)


def test_the_float16_example_of_the_gte_card():
    pairs = [
        ("what is the capital of China?", "Beijing"),
        ("how to implement quick sort in python?", "Introduction of quick sort"),
        ("how to implement quick sort in python?", "The weather is nice today"),
    ]
    scores = load("Alibaba-NLP/gte-reranker-modernbert-base").score(pairs)
    np.testing.assert_allclose(scores, [2.1387, 2.4609, -1.6729], atol=0.02)


def test_a_modular_checkpoint_puts_the_answer_first():
    ranking = load("cross-encoder/ettin-reranker-17m-v1").rank(QUERY, DOCUMENTS)
    assert ranking[0].index == 1


CAPITALS = [
    ("What is the capital of France?", "Paris is the capital of France."),
    ("What is the capital of France?", "The population of China is over 1.4 billion people."),
    ("What is the population of China?", "Paris is the capital of France."),
    ("What is the population of China?", "The population of China is over 1.4 billion people."),
]


@pytest.mark.parametrize(
    ("name", "options", "logits"),
    [
        ("BAAI/bge-reranker-v2-gemma", {}, [9.171875, -4.49609375, -5.5234375, 10.2109375]),
        (
            "BAAI/bge-reranker-v2-minicpm-layerwise",
            {"cutoff_layer": 28},
            [1.939453125, -12.71875, -11.78125, 2.189453125],
        ),
    ],
)
def test_the_float16_examples_of_flagembedding_for_language_models(name, options, logits):
    reranker = Reranker.load(name, device="cpu", dtype="float32", **options)
    np.testing.assert_allclose(reranker.score(CAPITALS), logits, atol=0.1)


def test_jina_reranker_v2_by_its_renamed_weights():
    ranking = load("jinaai/jina-reranker-v2-base-multilingual").rank(QUERY, DOCUMENTS, score_type="probability")
    scores = [hit.score for hit in sorted(ranking, key=lambda hit: hit.index)]
    np.testing.assert_allclose(scores, [0.23633, 0.71484, 0.50391, 0.31055], atol=PROBABILITY_TOLERANCE)


def test_the_two_forms_of_qwen3_reranker_agree():
    pairs = [(QUERY, document) for document in DOCUMENTS]
    published = Reranker.load("Qwen/Qwen3-Reranker-0.6B", family="qwen3_reranker", device="cpu", dtype="float32")
    converted = load("tomaarsen/Qwen3-Reranker-0.6B-seq-cls")
    scores = published.score(pairs)
    assert scores.argmax() == 1
    np.testing.assert_allclose(converted.score(pairs), scores, atol=0.05)


@pytest.mark.parametrize(
    "name", ["mixedbread-ai/mxbai-rerank-base-v2", "ContextualAI/ctxl-rerank-v2-instruct-multilingual-1b"]
)
def test_a_language_model_puts_the_answer_first(name):
    assert load(name).rank(QUERY, DOCUMENTS)[0].index == 1
