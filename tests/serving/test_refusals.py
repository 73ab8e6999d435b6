"""What a client gets that asks for the wrong thing: the right status, in the words of its own API, and a way out."""

from __future__ import annotations

import gzip
import json

import pytest

BODY = {"query": "q", "documents": ["a", "b"]}


# Where each API has the message of an error.
MESSAGES = {
    "cohere": lambda body: body["message"],
    "jina": lambda body: body["detail"],
    "voyage": lambda body: body["detail"],
    "nim": lambda body: body["object"] == "error" and body["message"],
    "tei": lambda body: body["error_type"] == "validation" and body["error"],
    "vllm": lambda body: body["error"]["message"],
    "infinity": lambda body: body["error"]["message"],
    "llamacpp": lambda body: body["error"]["message"],
    "weaviate": lambda body: body["error"],
    "openai": lambda body: body["error"]["message"],
}


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v2/rerank", "cohere"), ("/cohere/v1/rerank", "cohere"), ("/jina/v1/rerank", "jina"),
        ("/voyage/v1/rerank", "voyage"), ("/v1/ranking", "nim"), ("/tei/rerank", "tei"), ("/vllm/v1/rerank", "vllm"),
        ("/score", "vllm"), ("/infinity/rerank", "infinity"), ("/v1/reranking", "llamacpp"),
        ("/weaviate/rerank", "weaviate"), ("/v1/rerank", "cohere"), ("/v1/rerank", "jina"), ("/v1/rerank", "openai"),
        ("/v1/models", "openai"),
    ],
)  # fmt: skip
def test_a_wrong_method_is_refused_in_the_dialect_of_the_path(server, path, dialect):
    wrong = server.client.put(path)
    allowed = "GET" if path == "/v1/models" else "POST"
    assert (wrong.status_code, wrong.headers["allow"]) == (405, allowed)
    assert MESSAGES[dialect](wrong.json()) == f"{path} takes {allowed}, not PUT"


@pytest.mark.parametrize("dialect", MESSAGES)
def test_a_path_that_there_is_not_is_refused_in_the_dialect_of_its_prefix(server, dialect):
    nowhere = server.get(f"/{dialect}/nowhere")
    assert nowhere.status_code == 404
    assert MESSAGES[dialect](nowhere.json()) == f"there is no /{dialect}/nowhere here: /docs says what there is"


@pytest.mark.parametrize("path", ["/", "/health", "/ping", "/v1/health/ready", "/v1/models", "/info", "/metrics"])
def test_the_head_of_what_can_be_got(server, path):
    got, head = server.get(path), server.client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"") == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[1]", "the body must be a JSON object"),
        (b'{"query": "\xff"}', "byte 11 is not UTF-8"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"top_n": ' + b"9" * 5000 + b"}", "too many digits"),
        (b"{", "Expecting property name"),
        (b'{"query": 3, "documents": ["a"]}', "query: give a string or give an object"),
        (b'{"query": "q", "documents": ["a", 3]}', "documents.1: give a string or give an object"),
        (b'{"query": "q", "documents": "a"}', "documents: Input should be a valid list"),
        (b'{"query": "q"}', "documents: Field required"),
    ],
)
def test_a_bad_body_is_said_in_one_line_that_tells_what_to_do(server, body, message):
    refused = server.client.post("/v1/rerank", content=body)
    assert refused.status_code == 422
    assert message in refused.json()["message"]
    assert "Request" not in refused.json()["message"], "no class of ours"


def test_vllm_takes_more_forms_and_names_them(server):
    refused = server.post("/vllm/score", {"queries": 3, "documents": None})
    forms = "give a string or give an object or give a list"
    assert refused.json()["error"]["message"] == f"invalid request: queries: {forms}; documents: {forms}"


def test_a_compressed_body_is_refused_and_never_unfolded(server):
    body = gzip.compress(json.dumps(BODY).encode())
    refused = server.client.post("/v1/rerank", content=body, headers={"content-encoding": "gzip"})
    assert refused.status_code == 415
    assert "content-encoding 'gzip'" in refused.json()["message"]
    for said in ("identity", ""):
        assert server.client.post("/v1/rerank", json=BODY, headers={"content-encoding": said}).status_code == 200
    assert server.post("/v1/rerank", BODY, content_encoding="identity").status_code == 200


def test_infinity_lists_what_is_wrong_as_its_own_framework_does(server):
    empty = server.post("/infinity/rerank", {"query": "q", "documents": []}).json()["detail"]
    assert [(e["type"], e["loc"]) for e in empty] == [("empty", ["body"])]
    missing = server.post("/infinity/rerank", {"query": "q"}).json()["detail"]
    assert [(e["type"], e["loc"]) for e in missing] == [("missing", ["body", "documents"])]


def test_another_host_is_refused_with_json_and_a_way_out(start):
    server = start(allowed_hosts=("127.0.0.1",))
    refused = server.post("/v1/rerank", BODY, host="rebound.example:8000")
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "wrong_host"
    assert "--allowed-host" in refused.json()["error"]["message"]
    assert refused.headers["x-request-id"] and refused.headers["x-content-type-options"] == "nosniff"
    assert server.post("/v1/rerank", BODY).status_code == 200


def test_a_missing_key_is_said_with_the_scheme_and_any_usual_header_is_taken(start):
    server = start(api_keys={"alice": "sk-alice-1"}, admin_key="sk-admin-1")
    for path in ("/v1/rerank", "/v2/rerank", "/tei/rerank"):
        refused = server.post(path, BODY)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert server.get("/v1/models").headers["www-authenticate"] == "Bearer"
    assert server.post("/v1/rerank", BODY, x_api_key="sk-alice-1").status_code == 200
    assert server.post("/v1/rerank", BODY, api_key="sk-alice-1").status_code == 200


def test_the_admin_key_is_checked_before_the_body_is_looked_at(start):
    server = start(admin_key="sk-admin-1")
    assert server.post("/admin/models", {"what": 1}).status_code == 401
    refused = server.post("/admin/models", {"what": 1}, authorization="Bearer sk-admin-1")
    assert refused.status_code == 422
    assert refused.json()["error"]["message"].startswith('invalid request: give {"model": MODEL}')


def test_details_in_a_header_stay_short_enough_for_clients(server):
    long = {"query": "q", "texts": ["word " * 600] * 1200, "verbose": True}
    answer = server.post("/tei/rerank", long)
    assert len(answer.json()) == 1200 and len(answer.headers["x-details"]) < 4096
    assert json.loads(answer.headers["x-details"])["truncated"] == 1200
    few = server.post("/tei/rerank", long | {"texts": ["word " * 600] * 2})
    assert json.loads(few.headers["x-details"])["truncated"] == [0, 1]
