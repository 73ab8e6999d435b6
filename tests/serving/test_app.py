"""The app over a real socket: keys, limits, headers, models, metrics, logs, and what a verbose answer says."""

from __future__ import annotations

import gc
import json
import threading
import weakref

import pytest
from running_server import Running, fixed_logits, twin, wait_until

from crossrank.serving.options import ModelSpec

QUERY = "Which planet is known as the Red Planet?"
LONG = "Bread needs flour. " * 60 + "Mars is the Red Planet. " + "Berlin is a city. " * 60
BODY = {"query": QUERY, "documents": ["Mars", LONG]}


def test_a_verbose_answer_says_more_in_every_dialect(server):
    bodies = {
        "/v2/rerank": BODY,
        "/jina/v1/rerank": BODY,
        "/voyage/v1/rerank": BODY,
        "/v1/ranking": {"query": {"text": QUERY}, "passages": [{"text": "Mars"}, {"text": LONG}], "truncate": "END"},
        "/v1/rerank": BODY,
        "/vllm/rerank": BODY | {"truncate_prompt_tokens": -1},
        "/score": {"queries": QUERY, "documents": ["Mars", LONG], "truncate_prompt_tokens": -1},
        "/infinity/rerank": BODY,
        "/llamacpp/rerank": BODY,
        "/weaviate/rerank": BODY,
    }
    for path, body in bodies.items():
        quiet = server.post(path, body)
        assert quiet.status_code == 200, (path, quiet.text)
        assert "details" not in quiet.json()
        assert quiet.headers["x-truncated-documents"] == "1", "truncation is never hidden"
        for answer in (server.post(path, body | {"verbose": True}), server.post(path, body, x_verbose="true")):
            details = answer.json()["details"]
            assert details["truncated"] == [1]
            assert details["model"] == "tiny"
            assert details["revision"].startswith("sha256:")
            assert details["score_type"] in ("logit", "sigmoid", "probability")
            assert details["tokens"] > 128
            assert details["warnings"] == ["1 of 2 documents were truncated"]
            assert details["milliseconds"].keys() == {"tokenise", "queue", "compute", "total"}


def test_a_verbose_array_says_more_in_a_header(server):
    answer = server.post("/rerank", {"query": QUERY, "texts": ["Mars", LONG], "verbose": True})
    assert isinstance(answer.json(), list)
    assert json.loads(answer.headers["x-details"])["truncated"] == [1]


def test_long_documents_are_read_whole_in_windows_where_that_is_asked_for(server, tiny_reranker):
    answer = server.post("/v1/rerank", BODY | {"on_overflow": "chunk", "verbose": True}).json()
    details = answer["details"]
    assert details["truncated"] == []
    hit = next(h for h in tiny_reranker.rank(QUERY, BODY["documents"], on_overflow="chunk") if h.index == 1)
    assert details["spans"] == {"1": list(hit.span)}
    assert server.post("/v1/rerank", BODY | {"on_overflow": "error"}).status_code == 422


@pytest.mark.parametrize(("asked", "options"), [({"max_tokens_per_doc": 5}, {}), ({"max_tokens_per_doc": 0}, {})])
def test_cohere_cuts_documents_where_it_is_told_to(server, asked, options):
    documents = ["Mars is often referred to as the Red Planet.", "Mars"]
    answer = server.post("/v2/rerank", {"query": QUERY, "documents": documents} | asked)
    assert answer.headers["x-truncated-documents"] == ("1" if asked["max_tokens_per_doc"] else "0")


@pytest.mark.parametrize("top_n", [None, 0, "2", 50])
def test_a_top_n_of_any_kind_is_taken(server, top_n):
    answer = server.post("/v1/rerank", BODY | {"top_n": top_n})
    assert len(answer.json()["results"]) == 2
    assert len(server.post("/v1/rerank", BODY | {"top_n": 1}).json()["results"]) == 1


@pytest.mark.parametrize("name", [None, "", "default", "default/not-specified", "tiny"])
def test_the_default_model_has_many_names(server, name):
    assert server.post("/v1/rerank", BODY | {"model": name}).json()["model"] == "tiny"


def test_equal_scores_keep_the_order_given_and_the_logits_tell_apart_what_the_sigmoid_does_not(start, stub):
    server = start(stub)
    for logits, order in (([0.5] * 5, [0, 1, 2, 3, 4]), ([30.0, 40.0, 30.0, -3.0, 50.0], [4, 1, 0, 2, 3])):
        stub.compute = fixed_logits(logits)
        hits = server.post("/rerank", {"query": QUERY, "texts": ["Mars"] * 5}).json()
        assert [hit["index"] for hit in hits] == order


def test_what_clients_of_other_servers_ask_for_at_start(server):
    info = server.get("/info").json()
    assert "reranker" in info["model_type"]
    assert info["max_input_length"] == 128
    assert info["model_sha"].startswith("sha256:")
    assert server.get("/v1/models").json()["data"][0]["id"] == "tiny"
    assert server.get("/v1/models/tiny").json()["object"] == "model"
    assert server.get("/v1/models/nope").json()["error"]["code"] == "unknown_model"
    assert server.get("/models").json()["data"][0]["capabilities"] == ["rerank"]
    assert server.get("/v1/health/live").json()["message"] == "Service is live."
    assert server.get("/v1/health/ready").json()["status"] == "ready"
    assert [server.get(f"/.well-known/{probe}").status_code for probe in ("live", "ready")] == [204, 204]
    assert server.get("/meta").json()["model_type"] == "bert"
    assert server.get("/v1/metadata").json()["modelInfo"][0]["shortName"] == "tiny"
    assert isinstance(server.get("/health").json()["unix"], float)


def test_the_schema_describes_the_requests_of_every_dialect(server):
    paths = server.get("/openapi.json").json()["paths"]
    for path in ("/v2/rerank", "/v1/rerank", "/rerank", "/v1/ranking", "/score", "/voyage/v1/rerank"):
        schema = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert "verbose" in schema["properties"], path
    assert server.get("/docs").status_code == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"[1]", 422),
        (b'{"query": "q"}', 422),
        (b'{"query": "q", "documents": "one"}', 422),
        (b'{"query": "q", "documents": ["\\ud800"]}', 422),
        (b"[" * 100_000, 422),
        (b'\xff{"query": "q"}', 422),
    ],
)
def test_a_bad_body_is_a_clear_error_and_never_a_crash(server, content, status):
    answer = server.client.post("/v1/rerank", content=content)
    assert answer.status_code == status, answer.text
    assert answer.json()["message"]


def test_sizes_are_limited(start):
    server = start(max_body_bytes=1000, max_documents=3)
    big = server.post("/v2/rerank", {"query": "q", "documents": ["x" * 2000]})
    assert (big.status_code, big.json()["message"]) == (413, "the body is larger than 1000 bytes")

    def chunks():
        for _ in range(5):
            yield b" " * 400

    assert server.client.post("/rerank", content=chunks()).status_code == 413, "also without a stated length"
    for path, key, status in (
        ("/rerank", "texts", 422),
        ("/v2/rerank", "documents", 400),
        ("/v1/rerank", "documents", 422),
    ):
        many = server.post(path, {"query": "q", key: ["a"] * 4})
        assert many.status_code == status


def test_keys_are_asked_for_everywhere_but_for_health(start):
    server = start(api_keys={"alice": "sk-alice-1"})
    good = {"authorization": "Bearer sk-alice-1"}
    for path in ("/health", "/v1/health/live", "/v1/health/ready", "/.well-known/ready"):
        assert server.get(path).status_code in (200, 204), path
    for path in ("/v1/models", "/models", "/info", "/meta", "/v1/metadata", "/metrics", "/v1/metrics"):
        assert server.get(path).status_code == 401, path
        assert server.get(path, **good).status_code == 200, path
    bodies = {
        "/tei/rerank": None,
        "/vllm/rerank": {"error": "Unauthorized"},
        "/infinity/rerank": {"detail": "Unauthorized"},
    }
    for path, body in bodies.items():
        refused = server.post(path, BODY, authorization="Bearer wrong")
        assert refused.status_code == 401
        assert (refused.json() if refused.content else None) == body
    assert server.post("/infinity/rerank", BODY).headers["www-authenticate"] == "Bearer"
    assert server.post("/v2/rerank", BODY).json()["message"] == "invalid api token"
    assert server.post("/v1/rerank", BODY, **good).status_code == 200


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer sk-anything"])
def test_any_key_is_taken_where_none_is_set(server, header):
    assert server.post("/v1/rerank", BODY, authorization=header).status_code == 200


def test_answers_carry_safe_headers_and_the_request_id(server):
    for answer in (
        server.post("/v1/rerank", BODY, x_request_id="my-id-7"),
        server.get("/nowhere", **{"x-request-id": "my-id-7"}),
    ):
        assert answer.headers["x-request-id"] == "my-id-7"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    made = server.post("/v1/rerank", BODY, x_request_id="not an id").headers["x-request-id"]
    assert len(made) == 32


def test_browsers_of_other_sites_are_kept_out(start):
    closed = start().client.options(
        "/v1/rerank", headers={"origin": "https://evil.example", "access-control-request-method": "POST"}
    )
    assert "access-control-allow-origin" not in closed.headers
    opened = start(cors_origins=("https://good.example",), allowed_hosts=("127.0.0.1",))
    for origin, allowed in (("https://good.example", True), ("https://evil.example", False)):
        answer = opened.post("/v1/rerank", BODY, origin=origin)
        assert ("access-control-allow-origin" in answer.headers) == allowed
    assert opened.post("/v1/rerank", BODY, host="rebound.example").status_code == 400


def test_models_are_loaded_and_unloaded_with_the_admin_key(start, tiny_checkpoint):
    server = start(api_keys={"alice": "sk-alice-1"}, admin_key="sk-admin-1")
    admin, alice = ({"authorization": f"Bearer {key}"} for key in ("sk-admin-1", "sk-alice-1"))
    wanted = {"name": "second", "model": str(tiny_checkpoint("electra"))}
    assert server.post("/admin/models", wanted, **alice).status_code == 401
    assert server.post("/admin/models", wanted, **admin).status_code == 201
    assert [m["id"] for m in server.get("/v1/models", **alice).json()["data"]] == ["tiny", "second"]
    first, second = (server.post("/v1/rerank", BODY | {"model": name}, **alice).json() for name in ("tiny", "second"))
    assert (first["model"], second["model"]) == ("tiny", "second")
    assert first["results"][0]["relevance_score"] != second["results"][0]["relevance_score"]
    assert server.post("/admin/models", wanted, **admin).status_code == 409
    missing = server.post("/admin/models", {"model": "/no/such/folder"}, **admin)
    assert (missing.status_code, "no such folder" in missing.text) == (422, True)
    assert server.client.delete("/admin/models/second", headers=admin).status_code == 204
    assert server.post("/v1/rerank", BODY | {"model": "second"}, **alice).status_code == 404
    assert server.client.delete("/admin/models/tiny", headers=admin).status_code == 409, "the default stays"


def test_nobody_loads_models_where_no_admin_key_is_set(server):
    assert server.post("/admin/models", {"model": "x"}).status_code == 403


def test_metrics_count_requests_tokens_batches_and_rejections(start):
    server = start()
    server.post("/v1/rerank", BODY)
    server.post("/v1/rerank", BODY | {"documents": []})
    wait_until(lambda: 'status="400"' in server.get("/metrics").text)  # counted after the answer has left
    text = server.get("/metrics").text
    for line in (
        'crossrank_requests_total{dialect="shared",status="200"} 1.0',
        'crossrank_requests_total{dialect="shared",status="400"} 1.0',
        'crossrank_rejections_total{dialect="shared",reason="empty"} 1.0',
        'crossrank_documents_total{model="tiny"} 2.0',
        'crossrank_truncated_documents_total{model="tiny"} 1.0',
        'crossrank_queue_tokens{model="tiny"} 0.0',
        'crossrank_batch_requests_count{model="tiny"} 1.0',
        'crossrank_stage_seconds_count{model="tiny",stage="tokenise"} 1.0',
        'crossrank_stage_seconds_count{model="tiny",stage="queue"} 1.0',
        'crossrank_stage_seconds_count{model="tiny",stage="compute"} 1.0',
        'crossrank_batch_padding_share_count{model="tiny"} 1.0',
    ):
        assert line in text, line
    assert server.get("/v1/metrics").status_code == 200


def test_the_log_has_a_line_a_request_and_no_text(start, log_lines):
    server = start()
    secret = {"query": "my secret question", "documents": ["my secret text", "x" * 10]}
    server.post("/v1/rerank", secret, x_request_id="req-1")
    server.post("/v1/rerank", secret | {"query": "secret " * 200}, x_request_id="req-2")
    server.post("/v1/rerank", secret | {"documents": [7]}, x_request_id="req-3")
    wait_until(lambda: sum("req-" in line for line in log_lines()) == 3)
    lines = log_lines()
    assert not [line for line in lines if "secret" in line]
    entries = {entry["request_id"]: entry for entry in map(json.loads, lines) if "request_id" in entry}
    assert entries["req-1"]["status"] == 200
    assert entries["req-1"]["documents"] == 2
    assert entries["req-1"]["tokens"] > 0
    assert entries["req-1"]["stages"].keys() == {"tokenise", "queue", "compute", "total"}
    assert entries["req-2"]["problem"] == "unusable"
    assert entries["req-3"]["problem"] == "malformed"


def test_a_failure_is_logged_without_the_message_of_the_exception(start, stub, log_lines):
    server = start(stub)

    def broken(encoded):
        raise RuntimeError(QUERY)

    stub.compute = broken
    server.post("/v1/rerank", BODY)
    (line,) = [line for line in log_lines() if "traceback" in line]
    assert QUERY not in line
    assert json.loads(line)["error"] == "RuntimeError"
    assert "in broken" in json.loads(line)["traceback"]


def test_texts_are_logged_where_that_is_switched_on(start, log_lines):
    start(log_content=True).post("/v1/rerank", {"query": "my question", "documents": ["my text"]})
    wait_until(lambda: any("my question" in line for line in log_lines()))
    entry = next(entry for entry in map(json.loads, log_lines()) if "query" in entry)
    assert (entry["query"], entry["texts"]) == ("my question", ["my text"])


def test_the_model_may_be_loaded_by_the_app_itself(tiny_checkpoint):
    from starlette.testclient import TestClient

    from crossrank.serving.app import create_app
    from crossrank.serving.options import ServeOptions

    spec = ModelSpec("tiny", str(tiny_checkpoint("bert")))
    app = create_app(ServeOptions(models=(spec,)))
    for start in ("first", "after a stop"):
        with TestClient(app) as client:
            assert client.post("/v1/rerank", json=BODY).json().get("model") == "tiny", start


def test_a_server_that_has_stopped_leaves_no_thread_and_no_model(tiny_reranker):
    before = set(threading.enumerate())
    reranker = twin(tiny_reranker)
    with Running.on(reranker) as running:
        assert running.post("/v1/rerank", BODY).status_code == 200
        assert {thread.name for thread in threading.enumerate()} >= {"compute-tiny", "tokenise-tiny_0"}
    wait_until(lambda: not set(threading.enumerate()) - before)
    gone = weakref.ref(reranker)
    del reranker
    gc.collect()
    assert gone() is None, "routes stay in caches of the framework, but no model may"
