"""Everything that the server can be told."""

from __future__ import annotations

from dataclasses import dataclass, field

from crossrank.errors import InputError
from crossrank.inference.overflow import OnOverflow


@dataclass(frozen=True)
class ModelSpec:
    """A model to serve: the name that requests give, and what is loaded for it (None is the shipped model)."""

    name: str
    source: str | None = None


@dataclass(frozen=True)
class LoadArguments:
    """What `Reranker.load` is told for every model."""

    revision: str | None = None
    backend: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    max_length: int | None = None
    num_threads: int | None = None
    label: int | str | None = None
    family: str | None = None
    max_input_tiles: int | None = None


@dataclass(frozen=True)
class ImageLimits:
    """What an image may be, and from where it may come.

    Attributes:
        max_bytes: Of the file.
        max_pixels: Width times height: a file of a few kilobytes can unfold to gigabytes.
        hosts: Where images may be fetched from, as in `img.example.com` or `*.example.com`; nowhere if empty.
        timeout_s: Of one fetch, redirects included.
    """

    max_bytes: int = 10_000_000
    max_pixels: int = 40_000_000
    hosts: tuple[str, ...] = ()
    timeout_s: float = 10.0


@dataclass(frozen=True)
class ServeOptions:
    """Everything that the server can be told.

    Attributes:
        models: What is served; the first is the default.
        load: How they are loaded.
        api_keys: Name to key; nobody needs one if empty.
        admin_key: For loading and unloading models; nobody can if None.
        on_overflow: For documents that are too long, where the request does not say.
        batch_tokens: Most tokens that are computed in one step; a good number for the device if None.
        max_batch_requests: Most requests that share a step; any number if None.
        max_queue_tokens: Most tokens of one model that wait or are computed.
        request_timeout_s: Of a request that names no shorter one.
        max_body_bytes: Of a request.
        max_documents: Of a request.
        requests_per_minute: Of one key; any number if None.
        concurrent_requests: Of one key; any number if None.
        images: What an image may be.
        allowed_hosts: Host headers that are answered; all if empty.
        cors_origins: Web pages that may call from a browser; none if empty.
        log_content: Write queries and documents to the log.
        otlp_endpoint: Where traces go; none are made if None.
        workers: Processes.
    """

    models: tuple[ModelSpec, ...] = (ModelSpec("crossrank-mini-en-v1"),)
    load: LoadArguments = LoadArguments()
    api_keys: dict[str, str] = field(default_factory=dict, repr=False)
    admin_key: str | None = field(default=None, repr=False)
    on_overflow: OnOverflow = "truncate"
    batch_tokens: int | None = None
    max_batch_requests: int | None = None
    max_queue_tokens: int = 1_000_000
    request_timeout_s: float = 60.0
    max_body_bytes: int = 32_000_000
    max_documents: int = 10_000
    requests_per_minute: int | None = None
    concurrent_requests: int | None = None
    images: ImageLimits = ImageLimits()
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    log_content: bool = False
    otlp_endpoint: str | None = None
    workers: int = 1


def parse_model(text: str) -> ModelSpec:
    """Return `NAME=MODEL`, or a folder or hub name under its own last part or name.

    Raises:
        InputError: If a side of the equals sign is empty.
    """
    is_path = text.startswith((".", "/", "~"))
    name, equals, source = text.partition("=")
    if is_path or not equals:
        return ModelSpec(text.rstrip("/").rsplit("/", 1)[-1] if is_path else text, text)
    if not name.strip() or not source.strip():
        raise InputError(f"--model {text!r}: write NAME=MODEL, or MODEL alone")
    return ModelSpec(name.strip(), source.strip())
