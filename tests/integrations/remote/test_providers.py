"""The golden requests and answers of the server, read by the client: what one writes the other understands."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from crossrank.errors import RemoteError
from crossrank.integrations.remote.providers import PROVIDERS, Call
from crossrank.integrations.remote.reranker import RemoteReranker
from crossrank.serving.dialects import choice
from crossrank.types import Document

GOLDEN = Path(__file__).parents[2] / "serving" / "golden"
DIALECTS = {
    "cohere": ("cohere_v2", choice.COHERE_V2),
    "jina": ("jina", choice.JINA),
    "voyage": ("voyage", choice.VOYAGE),
    "nim": ("nim", choice.NIM),
    "tei": ("tei", choice.TEI),
    "vllm": ("vllm", choice.VLLM_SCORE),
    "infinity": ("infinity", choice.INFINITY),
}


def cases(provider: str, *, ok: bool):
    path, dialect = DIALECTS[provider]
    recorded = json.loads((GOLDEN / f"{path}.json").read_text(encoding="utf-8"))
    of_path = [case for case in recorded if "rerank" not in case["path"] or dialect is not choice.VLLM_SCORE]
    return [
        pytest.param(provider, case, id=f"{provider}: {case['name']}")
        for case in of_path
        if ok == (case["status"] == 200)
    ]


@pytest.mark.parametrize(("name", "case"), [param for name in DIALECTS for param in cases(name, ok=True)])
def test_what_the_client_writes_the_server_reads_as_the_recorded_request(name, case):
    dialect = DIALECTS[name][1]
    golden = dialect.parse(case["request"])
    provider = PROVIDERS[name]
    scale = "logit" if golden.scale == "logit" else provider.score_types[-1]
    written = provider.body(Call(golden.pairs, golden.model, scale))
    read = dialect.parse(json.loads(json.dumps(written)))
    assert [(query, document.text) for query, document in read.pairs] == [(q, d.text) for q, d in golden.pairs]
    assert (read.model, read.scale) == (golden.model, golden.scale)
    assert read.on_overflow in (None, "truncate"), "a long document never fails a request of the client"
    assert not set(written) - set(dialect.request.model_json_schema()["properties"]), "keys that the API lacks"


@pytest.mark.parametrize(("name", "case"), [param for name in DIALECTS for param in cases(name, ok=True)])
def test_what_the_server_answers_the_client_reads(name, case):
    answered = {item.index: item.score for item in PROVIDERS[name].read(case["answer"])}
    logits = case["logits"]
    for index, score in answered.items():
        raw = (
            any(key in str(case["request"]) for key in ("raw_scores': True", "use_activation': False")) or name == "nim"
        )
        expected = logits[index] if raw else 1 / (1 + 2.718281828459045 ** -logits[index])
        assert score == pytest.approx(expected, abs=1e-3), f"document {index}"
    assert answered


@pytest.mark.parametrize(("name", "case"), [param for name in DIALECTS for param in cases(name, ok=False)])
def test_a_recorded_error_is_shown_with_its_status_and_message(name, case):
    refuse = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(case["status"], json=case["answer"])))
    reranker = RemoteReranker(name, "m", url="http://server", max_retries=0, client=refuse)
    with pytest.raises(RemoteError, match=str(case["status"])) as raised:
        reranker.rank("q", ["a"])
    assert raised.value.status == case["status"]
    if case["answer"] is not None:
        assert not str(raised.value).endswith(": "), "says why"


BODIES = {
    "cohere": {"model": "m", "query": "q", "documents": ["a", "T b"]},
    "jina": {"model": "m", "query": "q", "documents": ["a", "T b"], "return_documents": False},
    "voyage": {"model": "m", "query": "q", "documents": ["a", "T b"], "truncation": True},
    "nim": {"model": "m", "query": {"text": "q"}, "passages": [{"text": "a"}, {"text": "T b"}], "truncate": "END"},
    "tei": {"query": "q", "texts": ["a", "T b"], "raw_scores": True, "truncate": True},
    "vllm": {"model": "m", "queries": "q", "documents": ["a", "T b"]}
    | {"truncate_prompt_tokens": -1, "use_activation": False},
    "infinity": {"model": "m", "query": "q", "documents": ["a", "T b"], "raw_scores": True},
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_the_body_of_each_api_to_the_letter(name):
    provider = PROVIDERS[name]
    pairs = [("q", Document("a")), ("q", Document("b", title="T"))]
    assert provider.body(Call(pairs, "m", provider.score_types[0])) == BODIES[name]


PNG = b"\x89PNG\r\n\x1a\nrest"
PNG_BASE64 = "iVBORw0KGgpyZXN0"


def test_images_as_each_api_wants_them(tmp_path):
    path = tmp_path / "page.png"
    path.write_bytes(PNG)
    call = Call([("q", Document(image=path)), ("q", Document("caption", image=PNG))], "m", "logit")
    data = f"data:image/png;base64,{PNG_BASE64}"
    assert PROVIDERS["nim"].body(call)["passages"] == [{"image": data}, {"text": "caption", "image": data}]
    assert PROVIDERS["jina"].body(call)["documents"] == [{"image": PNG_BASE64}] * 2
    part = {"type": "image_url", "image_url": {"url": data}}
    contents = [{"content": [part]}, {"content": [{"type": "text", "text": "caption"}, part]}]
    assert PROVIDERS["vllm"].body(call)["documents"] == contents


def test_hosted_nim_has_a_path_a_model():
    nim = PROVIDERS["nim"]
    base = "https://ai.api.nvidia.com/v1/retrieval/nvidia"
    assert nim.hosted("nvidia/nv-rerankqa-mistral-4b-v3") == f"{base}/nv-rerankqa-mistral-4b-v3/reranking"
    assert nim.hosted("nvidia/llama-3.2-nv-rerankqa-1b-v2") == f"{base}/llama-3_2-nv-rerankqa-1b-v2/reranking"
