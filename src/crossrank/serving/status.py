"""Endpoints about the server: health, models, metrics, and what clients of other servers ask for at start."""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from crossrank import __version__
from crossrank.serving.dialects.openai import OpenAIModel, OpenAIModels, openai_model
from crossrank.serving.metrics import CONTENT_TYPE
from crossrank.serving.problems import Problem
from crossrank.serving.runtime import ModelRuntime
from crossrank.serving.service import Service


def add_status_routes(app: FastAPI, service: Service) -> None:
    """Add the endpoints; those of health need no key."""
    _add_health(app, service)
    _add_models(app, service)
    _add_descriptions(app, service)
    _add_metrics(app, service)


def _add_health(app: FastAPI, service: Service) -> None:
    def health() -> Response:
        """Green while every model can answer; the time is for clients of Infinity."""
        return _health(service.readiness(), {"status": "ok", "unix": time.time()})

    def live() -> Response:
        """Red when only a new process can help."""
        return _health(service.liveness(), _nim_health("live"))

    def ready() -> Response:
        """Red while no requests should be sent here."""
        return _health(service.readiness(), _nim_health("ready"))

    def weaviate_live() -> Response:
        """Empty, for Weaviate."""
        return Response(status_code=503 if service.liveness() else 204)

    def weaviate_ready() -> Response:
        """Empty, for Weaviate."""
        return Response(status_code=503 if service.readiness() else 204)

    for prefix in ("", "/tei", "/vllm", "/infinity", "/llamacpp"):
        _get(app, f"{prefix}/health", health, "health")
    for prefix in ("", "/tei"):
        _get(app, f"{prefix}/ping", health, "health")
    for prefix in ("", "/nim"):
        _get(app, f"{prefix}/v1/health/live", live, "health")
        _get(app, f"{prefix}/v1/health/ready", ready, "health")
    for prefix in ("", "/weaviate"):
        _get(app, f"{prefix}/.well-known/live", weaviate_live, "health")
        _get(app, f"{prefix}/.well-known/ready", weaviate_ready, "health")


def _add_models(app: FastAPI, service: Service) -> None:
    def models(request: Request) -> OpenAIModels:
        """List the models, as OpenAI does."""
        service.identify(request)
        return {"object": "list", "data": [openai_model(r.name, r.created) for r in service.models.all]}

    def model(request: Request, name: str) -> OpenAIModel:
        """Describe one model, as OpenAI does."""
        service.identify(request)
        runtime = service.models.get(name)
        return openai_model(runtime.name, runtime.created)

    def infinity_models(request: Request) -> dict[str, Any]:
        """List the models, as Infinity does."""
        service.identify(request)
        return {"object": "list", "data": [_infinity_model(runtime) for runtime in service.models.all]}

    for prefix in ("", "/cohere", "/jina", "/voyage", "/nim", "/vllm", "/llamacpp", "/infinity"):
        _get(app, f"{prefix}/v1/models", models, "models")
    _get(app, "/v1/models/{name:path}", model, "models")
    for path in ("/models", "/infinity/models"):
        _get(app, path, infinity_models, "models")


def _add_descriptions(app: FastAPI, service: Service) -> None:
    def info(request: Request) -> dict[str, Any]:
        """Describe the default model, as text-embeddings-inference does."""
        service.identify(request)
        return _tei_info(service.models.default, service)

    def metadata(request: Request) -> dict[str, Any]:
        """Describe the models, as NVIDIA NIM does."""
        service.identify(request)
        return _nim_metadata(service.models.all)

    def meta(request: Request) -> dict[str, Any]:
        """Return the configuration of the default model, as Weaviate's container does."""
        service.identify(request)
        return service.models.default.reranker.checkpoint.config

    for prefix in ("", "/tei"):
        _get(app, f"{prefix}/info", info, "models")
    for prefix in ("", "/nim"):
        _get(app, f"{prefix}/v1/metadata", metadata, "models")
    for prefix in ("", "/weaviate"):
        _get(app, f"{prefix}/meta", meta, "models")


def _add_metrics(app: FastAPI, service: Service) -> None:
    def metrics(request: Request) -> Response:
        """Return the metrics for Prometheus."""
        service.identify(request)
        for runtime in service.models.all:
            service.metrics.queue(runtime.name, runtime.queue)
        return Response(service.metrics.render(), media_type=CONTENT_TYPE)

    for path in ("/metrics", "/v1/metrics", "/nim/v1/metrics"):
        _get(app, path, metrics, "metrics")


def _get(app: FastAPI, path: str, endpoint: Any, tag: str) -> None:
    app.add_api_route(path, endpoint, methods=["GET"], tags=[tag], operation_id=path.strip("/").replace("/", "_"))
    # What looks whether a server is there often asks for the head alone.
    app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def _health(problem: Problem | None, body: dict[str, Any]) -> Response:
    if problem is None:
        return JSONResponse(body)
    return JSONResponse({"status": "unhealthy", "message": problem.message}, 503)


def _nim_health(status: str) -> dict[str, str]:
    return {"object": "health.response", "message": f"Service is {status}.", "status": status}


def _tei_info(runtime: ModelRuntime, service: Service) -> dict[str, Any]:
    checkpoint, engine, options = runtime.reranker.checkpoint, runtime.reranker.engine, service.options
    labels = checkpoint.config.get("id2label") or {"0": "LABEL_0"}
    return {
        "model_id": checkpoint.name,
        "model_sha": runtime.revision,
        "model_dtype": engine.precision,
        "served_model_name": runtime.name,
        "model_type": {
            "reranker": {"id2label": labels, "label2id": {label: int(index) for index, label in labels.items()}}
        },
        "max_concurrent_requests": options.concurrent_requests or 512,
        "max_input_length": checkpoint.max_length,
        "max_batch_tokens": runtime.batch_tokens,
        "max_batch_requests": options.max_batch_requests,
        "max_client_batch_size": options.max_documents,
        "auto_truncate": options.on_overflow != "error",
        "tokenization_workers": runtime.num_tokenisers,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        "device": engine.device,
        "engine": engine.name,
    }


def _infinity_model(runtime: ModelRuntime) -> dict[str, Any]:
    queue = runtime.queue
    return {
        "id": runtime.name,
        "object": "model",
        "owned_by": "infinity",
        "created": runtime.created,
        "backend": runtime.reranker.engine.name,
        "capabilities": ["rerank"],
        "stats": {
            "queue_fraction": queue.num_tokens / queue.max_tokens,
            "queue_absolute": queue.num_requests,
            "results_pending": queue.num_requests,
            "batch_size": runtime.batch_tokens,
        },
    }


def _nim_metadata(runtimes: list[ModelRuntime]) -> dict[str, Any]:
    return {
        "version": __version__,
        "modelInfo": [
            {"shortName": runtime.name, "modelUrl": runtime.reranker.checkpoint.name, "revision": runtime.revision}
            for runtime in runtimes
        ],
    }
