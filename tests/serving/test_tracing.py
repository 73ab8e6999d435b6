"""Traces: a span a request, one for each stage inside it, part of the caller's trace, without texts."""

from __future__ import annotations

import builtins

import pytest
from running_server import wait_until

from crossrank.errors import MissingExtra
from crossrank.serving.tracing import Tracer

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="OpenTelemetry is not installed")


def test_a_request_is_a_span_with_its_stages_inside_the_callers_trace(start):
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    server = start()
    server.service.tracer = Tracer(provider)
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    body = {"query": "my secret", "documents": ["Mars"]}
    server.post("/v1/rerank", body, traceparent=f"00-{trace}-{parent}-01", x_request_id="req-1")
    wait_until(lambda: len(exporter.get_finished_spans()) == 4)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans.keys() == {"POST /v1/rerank", "tokenise", "queue", "compute"}
    whole = spans.pop("POST /v1/rerank")
    assert format(whole.context.trace_id, "032x") == trace
    assert format(whole.parent.span_id, "016x") == parent
    assert whole.attributes["crossrank.request_id"] == "req-1"
    assert whole.attributes["http.response.status_code"] == 200
    assert "secret" not in str(whole.attributes)
    for span in spans.values():
        assert span.parent.span_id == whole.context.span_id
        assert whole.start_time <= span.start_time <= span.end_time <= whole.end_time


def test_without_an_endpoint_nothing_is_imported_and_with_one_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    Tracer.to_endpoint(None).request("x", headers={}, seconds=0, attributes={}, result=None)
    with pytest.raises(MissingExtra, match=r"crossrank\[otel\]"):
        Tracer.to_endpoint("http://collector:4318/v1/traces")
