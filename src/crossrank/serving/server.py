"""The process of the server: uvicorn on one socket, and a stop that first answers what was taken in."""

from __future__ import annotations

import gc
import logging
import logging.config
import os
import socket
import time
from dataclasses import dataclass
from types import FrameType

import uvicorn

from crossrank.serving.app import create_app
from crossrank.serving.one_write import OneWriteProtocol
from crossrank.serving.options import ServeOptions
from crossrank.serving.request_log import log_config
from crossrank.serving.service import Service

_BACKLOG = 2048
_KEEP_ALIVE_S = 75
_log = logging.getLogger("crossrank.serving")


@dataclass(frozen=True)
class ProcessOptions:
    """What a process of the server is told beside what the app is told.

    Attributes:
        host, port: Where it listens; port 0 is any free one.
        log_level: As in `"info"`.
        drain_timeout_s: How long a stop waits for requests that are running.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    log_level: str = "info"
    drain_timeout_s: float = 30.0


class DrainingServer(uvicorn.Server):
    """A uvicorn server that goes on listening after SIGTERM until its requests are answered.

    Meanwhile new requests get 503 and readiness is red, so that whoever balances load goes elsewhere. A second signal
    stops at once.

    Args:
        config: Of uvicorn.
        service: Whose requests are waited for.
        timeout_s: How long at most.
    """

    def __init__(self, config: uvicorn.Config, service: Service, *, timeout_s: float) -> None:
        super().__init__(config)
        self._service = service
        self._timeout_s = timeout_s
        self._latest_end = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; at the second signal, stop."""
        if self._service.is_draining:
            self.should_exit = self.force_exit = True
            return
        _log.info("draining", extra={"fields": {"running": self._service.num_running}})
        self._service.is_draining = True
        self._latest_end = time.monotonic() + self._timeout_s

    async def on_tick(self, counter: int) -> bool:
        """Stop once everything is answered."""
        if self._service.is_draining and (not self._service.num_running or time.monotonic() > self._latest_end):
            self.should_exit = True
        return await super().on_tick(counter)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OSError: If the address is taken or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OSError(f"cannot listen at {host} port {port}: {error.strerror}; choose another --port") from None


def serve(options: ServeOptions, process: ProcessOptions, listening: socket.socket) -> None:
    """Load the models and serve until a signal comes.

    Raises:
        RerankError: If a model cannot be loaded.
    """
    config = log_config(process.log_level, content=options.log_content)
    logging.config.dictConfig(config)
    # The tokenisers of several requests stand side by side; threads of their own would only get in each other's way.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    service = Service(options)
    for spec in options.models:
        runtime = service.models.load(spec)
        engine = runtime.reranker.engine
        facts = {"model": spec.name, "revision": runtime.revision, "engine": engine.name, "device": engine.device}
        _log.info("loaded", extra={"fields": facts | {"precision": engine.precision}})
    server = DrainingServer(
        uvicorn.Config(
            create_app(service=service),
            http=OneWriteProtocol,
            log_config=config,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
            # Longer than what balancers keep an idle connection for: they would send a request into one that closes.
            timeout_keep_alive=_KEEP_ALIVE_S,
        ),
        service,
        timeout_s=process.drain_timeout_s,
    )
    # What has been loaded stays: the collector need not look at all of it again while requests wait.
    gc.collect()
    gc.freeze()
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    _log.info("serving", extra={"fields": {"url": f"http://{shown}:{port}", "process": os.getpid()}})
    server.run(sockets=[listening])
