"""`crossrank serve`: an HTTP server that speaks the dialects of the field."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossrank.cli.loading import LoadOptions, takes_load_options
from crossrank.cli.options import Engine, OnOverflow, OnOverflowOption
from crossrank.errors import DataError, InputError, MissingExtra

if TYPE_CHECKING:
    from crossrank.serving.options import ServeOptions
    from crossrank.serving.server import ProcessOptions

_LOAD = "Under load"
_RAY = "On a Ray cluster"
_SAFE = "Safety"


class LogLevel(StrEnum):
    """How much is logged."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


@takes_load_options()
def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="MODEL or NAME=MODEL, repeated for several; the first is the default.",
            metavar="MODEL",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 is any free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes; each loads the models.")] = 1,
    on_overflow: OnOverflowOption = OnOverflow.truncate,
    api_key_file: Annotated[
        Path | None, typer.Option(help="API keys, one a line: KEY or NAME KEY.", rich_help_panel=_SAFE)
    ] = None,
    admin_key_file: Annotated[
        Path | None, typer.Option(help="The key that may load and unload models.", rich_help_panel=_SAFE)
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without keys.", rich_help_panel=_SAFE)
    ] = False,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="A Host header to answer, beside this machine's.", rich_help_panel=_SAFE)
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="A web origin that may call from browsers.", rich_help_panel=_SAFE)
    ] = None,
    image_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A host to fetch images from, as in img.example.com or *.example.com.", rich_help_panel=_SAFE
        ),
    ] = None,
    max_image_bytes: Annotated[int, typer.Option(min=1, help="Of one image.", rich_help_panel=_SAFE)] = 10_000_000,
    max_image_pixels: Annotated[int, typer.Option(min=1, help="Of one image.", rich_help_panel=_SAFE)] = 40_000_000,
    max_body_bytes: Annotated[int, typer.Option(min=1, help="Of a request.", rich_help_panel=_SAFE)] = 32_000_000,
    max_documents: Annotated[int, typer.Option(min=1, help="Of a request.", rich_help_panel=_SAFE)] = 10_000,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Of each key; any number if left out.", rich_help_panel=_SAFE)
    ] = None,
    concurrent_requests: Annotated[
        int | None, typer.Option(min=1, help="Of each key; any number if left out.", rich_help_panel=_SAFE)
    ] = None,
    request_timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds; a request may ask for less.", rich_help_panel=_LOAD)
    ] = 60.0,
    drain_timeout: Annotated[
        float, typer.Option(min=0, help="Seconds that a stop waits for running requests.", rich_help_panel=_LOAD)
    ] = 30.0,
    max_queue_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens that may wait, for each model.", rich_help_panel=_LOAD)
    ] = 1_000_000,
    batch_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of one step of the engine.", rich_help_panel=_LOAD)
    ] = None,
    max_batch_requests: Annotated[
        int | None, typer.Option(min=1, help="Requests that may share a step.", rich_help_panel=_LOAD)
    ] = None,
    engine: Annotated[
        Engine,
        typer.Option(help="Here, or Ray Serve on the cluster of RAY_ADDRESS.", rich_help_panel=_RAY),
    ] = Engine.local,
    replicas: Annotated[int, typer.Option(min=1, help="Copies that are always there.", rich_help_panel=_RAY)] = 1,
    max_replicas: Annotated[
        int | None, typer.Option(min=1, help="Copies under load; no more if left out.", rich_help_panel=_RAY)
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="How much to log.")] = LogLevel.info,
    log_content: Annotated[bool, typer.Option("--log-content", help="Log queries and documents, too.")] = False,
    otlp_endpoint: Annotated[
        str | None, typer.Option(help="Where traces go, as in http://collector:4318/v1/traces.")
    ] = None,
    *,
    loading: LoadOptions,
) -> None:
    """Serve models over HTTP, in the dialects of Cohere, Jina, Voyage, NIM, TEI, vLLM, Infinity and others."""
    try:
        from crossrank.serving.options import ImageLimits, LoadArguments, ModelSpec, ServeOptions, parse_model
        from crossrank.serving.security import is_loopback, read_keys
        from crossrank.serving.server import ProcessOptions, listen
        from crossrank.serving.server import serve as serve_in_one
        from crossrank.serving.workers import serve_with_workers
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("crossrank"):
            raise
        raise MissingExtra("the server", extra="serve") from None

    api_keys = read_keys(api_key_file, os.environ.get("CROSSRANK_API_KEYS"))
    local = is_loopback(host)
    if not (local or api_keys or insecure):
        raise InputError(
            f"--host {host} can be reached from other machines: set keys with --api-key-file or CROSSRANK_API_KEYS, or "
            "say --insecure"
        )
    # A web page cannot make a browser that trusts this machine call under another name.
    hosts = ["localhost", "127.0.0.1", "[::1]", host] if local and not api_keys else []
    specs = tuple(parse_model(text) for text in model or ()) or (ModelSpec("crossrank-mini-en-v1"),)
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        raise InputError(f"two models have the same name among {', '.join(names)}: write NAME=MODEL")
    options = ServeOptions(
        models=specs,
        load=LoadArguments(**loading.arguments()),
        api_keys=api_keys,
        admin_key=_admin_key(admin_key_file),
        on_overflow=on_overflow.value,
        batch_tokens=batch_tokens,
        max_batch_requests=max_batch_requests,
        max_queue_tokens=max_queue_tokens,
        request_timeout_s=request_timeout,
        max_body_bytes=max_body_bytes,
        max_documents=max_documents,
        requests_per_minute=requests_per_minute,
        concurrent_requests=concurrent_requests,
        images=ImageLimits(max_bytes=max_image_bytes, max_pixels=max_image_pixels, hosts=tuple(image_host or ())),
        allowed_hosts=tuple([*hosts, *(allowed_host or ())]) if hosts or allowed_host else (),
        cors_origins=tuple(cors_origin or ()),
        log_content=log_content,
        otlp_endpoint=otlp_endpoint,
        workers=workers,
    )
    if engine is Engine.local and (replicas > 1 or max_replicas is not None):
        raise InputError("--replicas and --max-replicas need --engine ray; here it is --workers")
    process = ProcessOptions(host, port, log_level=log_level.value, drain_timeout_s=drain_timeout)
    if engine is Engine.ray:
        _serve_on_ray(options, process, replicas, max_replicas)
        return
    with listen(host, port) as listening:
        (serve_in_one if workers == 1 else serve_with_workers)(options, process, listening)


def _serve_on_ray(options: ServeOptions, process: ProcessOptions, fewest: int, most: int | None) -> None:
    """Each replica has the threads of its models for CPUs, and a GPU where the device is one."""
    try:
        from crossrank.serving.ray_serve import Replicas, serve_on_ray
        from crossrank.serving.server import listen
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("crossrank"):
            raise
        raise MissingExtra("--engine ray", extra="ray") from None
    most = fewest if most is None else most
    if most < fewest:
        raise InputError(f"--max-replicas {most} is less than --replicas {fewest}")
    if options.workers > 1:
        raise InputError("--workers does not go with --engine ray: say --replicas")
    if process.port == 0:
        raise InputError("--engine ray needs a --port above 0")
    with listen(process.host, process.port):
        pass  # a taken port is an error here, and would be a loop there
    num_gpus = int(options.load.device.startswith("cuda"))
    serve_on_ray(options, process, Replicas(fewest, most, options.load.num_threads or 1, num_gpus))


def _admin_key(file: Path | None) -> str | None:
    """Return the key of a file of one line, else of the environment."""
    if file is None:
        return os.environ.get("CROSSRANK_ADMIN_KEY")
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", path=file) from None
    if not key:
        raise DataError("holds no key", path=file)
    return key
