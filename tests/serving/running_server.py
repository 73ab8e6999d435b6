"""A server in a thread, and stand-ins for what its model computes."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import httpx
import numpy as np
import uvicorn

from crossrank import Reranker
from crossrank.serving.app import create_app
from crossrank.serving.image_urls import ImageFetcher
from crossrank.serving.one_write import OneWriteProtocol
from crossrank.serving.options import ServeOptions
from crossrank.serving.server import listen
from crossrank.serving.service import Service


class Running:
    """A server and a client of it, until `stop` or the end of a `with`."""

    def __init__(self, service: Service) -> None:
        self.service = service
        listening = listen("127.0.0.1", 0)
        self.port = listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        app = create_app(service=service)
        config = uvicorn.Config(app, http=OneWriteProtocol, log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]})
        self._thread.start()
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        wait_until(lambda: self._server.started)

    @classmethod
    def on(cls, reranker: Reranker, *, name: str = "tiny", fetcher: ImageFetcher | None = None, **options) -> Self:
        """Start a server with one model."""
        service = Service(ServeOptions(models=(), **options), fetcher=fetcher)
        service.models.add(name, reranker)
        return cls(service)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def post(self, path: str, body, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, json=body, headers=named)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers=headers)

    def stop(self) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server did not stop"


def twin(reranker: Reranker) -> Reranker:
    """Return another one on the same model, whose methods may be replaced; `copy` is refused by the class."""
    other = object.__new__(type(reranker))
    vars(other).update(vars(reranker))
    return other


def wait_until(condition, timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


class Gate:
    """A `compute` that waits for `open` and notes what it was given."""

    def __init__(self, reranker: Reranker) -> None:
        self.opened = threading.Event()
        self.opened.set()
        self.batches: list[list[int]] = []
        self._compute = type(reranker).compute.__get__(reranker)

    def __call__(self, encoded):
        self.batches.append(encoded.lengths.tolist())
        self.opened.wait(20)
        return self._compute(encoded)


def fixed_logits(values: list[float]):
    """Return a `compute` that gives these logits to the first pairs of a step and 0 to the rest."""

    def compute(encoded):
        logits = np.zeros((len(encoded), 1), np.float32)
        logits[: len(values), 0] = values
        return logits

    return compute
