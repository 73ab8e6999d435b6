"""Several processes on one socket: started, watched, and stopped together."""

from __future__ import annotations

import logging
import logging.config
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
from dataclasses import replace
from multiprocessing.context import SpawnProcess
from typing import Any

from prometheus_client import multiprocess

from crossrank.errors import RerankError
from crossrank.inference.cpu_cores import count_usable_cores
from crossrank.serving.options import ServeOptions
from crossrank.serving.request_log import log_config
from crossrank.serving.server import ProcessOptions, serve

_POLL_S = 0.5
_log = logging.getLogger("crossrank.serving")


class WorkerFailed(RerankError):
    """A worker stopped before it could serve."""


def serve_with_workers(options: ServeOptions, process: ProcessOptions, listening: socket.socket) -> None:
    """Serve with several processes until a signal comes; one that dies is started again.

    Each loads the models and has a queue of its own; the threads of this machine are shared out among them.

    Raises:
        WorkerFailed: If a worker cannot start; its log says why.
    """
    logging.config.dictConfig(log_config(process.log_level, content=options.log_content))
    if options.load.num_threads is None:
        num_threads = max(1, count_usable_cores() // options.workers)
        options = replace(options, load=replace(options.load, num_threads=num_threads))
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with tempfile.TemporaryDirectory(prefix="crossrank-metrics-") as folder:
        # The workers read it when they import prometheus_client.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        arguments = (options, process, listening)
        workers = [_start(arguments) for _ in range(options.workers)]
        try:
            while not stopping.wait(_POLL_S):
                workers = [_watch(worker, arguments) for worker in workers]
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.join()


def _start(arguments: tuple[Any, ...]) -> SpawnProcess:
    worker = multiprocessing.get_context("spawn").Process(target=_work, args=arguments)
    worker.start()
    return worker


def _watch(worker: SpawnProcess, arguments: tuple[Any, ...]) -> SpawnProcess:
    if worker.is_alive():
        return worker
    if worker.exitcode == 1:
        raise WorkerFailed("a worker could not start: its last log line says why")
    _log.error("a worker died and is started again", extra={"fields": {"exit_code": worker.exitcode}})
    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
    return _start(arguments)


def _work(options: ServeOptions, process: ProcessOptions, listening: socket.socket) -> None:
    try:
        serve(options, process, listening)
    except RerankError as error:
        _log.error(str(error))
        raise SystemExit(1) from None
