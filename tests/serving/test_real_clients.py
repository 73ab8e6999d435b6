"""The published clients of other services, unchanged, against this server; skipped where one is not installed."""

from __future__ import annotations

import os

import pytest

# LiteLLM would ask the web for prices otherwise.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

QUERY = "Which planet is known as the Red Planet?"
TEXTS = ["Bread needs flour and water.", "Mars is often referred to as the Red Planet.", "Paris"]


@pytest.fixture
def expected(tiny_reranker):
    """The probabilities in the order of the ranking: `[(index, score), ...]`."""
    return [(hit.index, hit.score) for hit in tiny_reranker.rank(QUERY, TEXTS, score_type="probability")]


def same(found, expected) -> bool:
    assert [index for index, _ in found] == [index for index, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-5)
    return True


def test_cohere_v2(server, expected):
    cohere = pytest.importorskip("cohere", reason="pip install cohere")
    client = cohere.ClientV2(api_key="any", base_url=server.url)
    answer = client.rerank(model="tiny", query=QUERY, documents=TEXTS, top_n=2)
    assert same([(r.index, r.relevance_score) for r in answer.results], expected[:2])
    with pytest.raises(cohere.errors.BadRequestError, match="must not be empty"):
        client.rerank(model="tiny", query=QUERY, documents=[])
    with pytest.raises(cohere.errors.NotFoundError):
        client.rerank(model="nope", query=QUERY, documents=TEXTS)


def test_cohere_v1(server, expected):
    cohere = pytest.importorskip("cohere", reason="pip install cohere")
    client = cohere.Client(api_key="any", base_url=server.url)
    answer = client.rerank(model="tiny", query=QUERY, documents=TEXTS, return_documents=True)
    assert same([(r.index, r.relevance_score) for r in answer.results], expected)
    assert [r.document.text for r in answer.results] == [TEXTS[index] for index, _ in expected]
    assert all(r.document is None for r in client.rerank(model="tiny", query=QUERY, documents=TEXTS).results)


def test_voyage(server, expected):
    voyageai = pytest.importorskip("voyageai", reason="pip install voyageai")
    client = voyageai.Client(api_key="any", base_url=f"{server.url}/v1")
    answer = client.rerank(QUERY, TEXTS, model="tiny", top_k=2)
    assert same([(r.index, r.relevance_score) for r in answer.results], expected[:2])
    assert answer.results[0].document == TEXTS[expected[0][0]]
    assert answer.total_tokens > 0
    with pytest.raises(voyageai.error.InvalidRequestError, match="must not be empty"):
        client.rerank(QUERY, [], model="tiny")


def test_openai(server):
    openai = pytest.importorskip("openai", reason="pip install openai")
    client = openai.OpenAI(api_key="any", base_url=f"{server.url}/v1")
    assert [model.id for model in client.models.list()] == ["tiny"]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


def test_nvidia_through_langchain(server, tiny_reranker):
    nvidia = pytest.importorskip("langchain_nvidia_ai_endpoints", reason="pip install langchain-nvidia-ai-endpoints")
    from langchain_core.documents import Document

    ranker = nvidia.NVIDIARerank(base_url=f"{server.url}/v1", model="tiny", truncate="END", max_batch_size=2)
    found = ranker.compress_documents([Document(page_content=text) for text in TEXTS], QUERY)
    logits = [(TEXTS.index(d.page_content), d.metadata["relevance_score"]) for d in found]
    assert same(logits, [(hit.index, hit.score) for hit in tiny_reranker.rank(QUERY, TEXTS)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("provider", "path"),
    [
        ("cohere", ""),
        ("jina_ai", ""),
        ("voyage", "/voyage"),
        ("hosted_vllm", ""),
        ("infinity", "/infinity"),
        ("huggingface", "/rerank"),
        ("nvidia_nim", ""),
    ],
)
def test_litellm(server, expected, provider, path):
    litellm = pytest.importorskip("litellm", reason="pip install litellm")
    answer = litellm.rerank(
        model=f"{provider}/tiny", query=QUERY, documents=TEXTS, api_base=server.url + path, api_key="any"
    )
    found = sorted(((r["index"], r["relevance_score"]) for r in answer.results), key=lambda pair: -pair[1])
    if provider == "nvidia_nim":
        assert [index for index, _ in found] == [index for index, _ in expected], "NIM gives logits"
    else:
        assert same(found, expected)
