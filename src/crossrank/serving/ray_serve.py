"""The server on a Ray cluster: replicas of the app behind Ray's proxy, as many as the load asks for.

Source: docs.ray.io, "Ray Serve: set up FastAPI and HTTP" and "Autoscaling".
"""

from __future__ import annotations

import logging
import logging.config
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import ray
from fastapi import FastAPI
from ray import serve

from crossrank.errors import InputError, WorkerError
from crossrank.serving.app import create_app
from crossrank.serving.options import ServeOptions
from crossrank.serving.request_log import log_config
from crossrank.serving.server import ProcessOptions

APP = "crossrank"
# Requests that one replica works on before Ray Serve starts another; it computes them together.
_ONGOING_REQUESTS = 16
_log = logging.getLogger("crossrank.serving")


@dataclass(frozen=True)
class Replicas:
    """How many copies of the app there are.

    Attributes:
        fewest: Always there.
        most: Started when each has more than 16 requests at once.
        num_cpus: That each takes; also the threads of its models, unless they are told otherwise.
        num_gpus: That each takes.
    """

    fewest: int = 1
    most: int = 1
    num_cpus: int = 1
    num_gpus: int = 0


def build_application(options: ServeOptions, replicas: Replicas, *, drain_timeout_s: float, log_level: str) -> Any:
    """Return the app as an application of Ray Serve.

    Args:
        options: What each replica is told.
        replicas: How many there are.
        drain_timeout_s: How long a replica that is stopped may take for the requests that it has.
        log_level: Of each replica.
    """
    # What is loaded into one of several replicas would be missing in the others: the app then refuses to.
    options = replace(options, workers=replicas.most)
    if options.load.num_threads is None:
        options = replace(options, load=replace(options.load, num_threads=replicas.num_cpus))

    def build() -> FastAPI:
        logging.config.dictConfig(log_config(log_level, content=options.log_content))
        return create_app(options)

    deployment = serve.deployment(
        _ingress(build),
        name=APP,
        max_ongoing_requests=8 * _ONGOING_REQUESTS,
        graceful_shutdown_timeout_s=drain_timeout_s,
        autoscaling_config={
            "min_replicas": replicas.fewest,
            "max_replicas": replicas.most,
            "target_ongoing_requests": _ONGOING_REQUESTS,
        },
        # The app writes a line a request itself.
        logging_config={"enable_access_log": False},
        ray_actor_options={"num_cpus": replicas.num_cpus, "num_gpus": replicas.num_gpus},
    )
    return deployment.bind()


def _ingress(build: Callable[[], FastAPI]) -> Any:
    """Return the class of a replica: the app, and a health that follows that of its models."""

    @serve.ingress(build)
    class Replica:
        def check_health(self) -> None:
            """Have this replica replaced when only a new process can help."""
            problem = self.app.state.service.liveness()  # type: ignore[attr-defined]
            if problem is not None:
                raise WorkerError(problem.message)

    return Replica


def serve_on_ray(options: ServeOptions, process: ProcessOptions, replicas: Replicas) -> None:
    """Deploy on the cluster that `RAY_ADDRESS` names, or on this machine, and wait for a signal.

    Raises:
        InputError: If the cluster cannot be reached or has no room for the replicas that are always there.
        WorkerError: If the replicas do not start; the log of Ray says why.
    """
    logging.config.dictConfig(log_config(process.log_level, content=options.log_content))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's 5 s are too few for a busy machine: it would kill its proxy before that has started.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "30")
    if not ray.is_initialized():
        try:
            address = os.environ.get("RAY_ADDRESS") or "local"
            ray.init(address, include_dashboard=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise InputError(f"no Ray cluster at {os.environ.get('RAY_ADDRESS')}: {error}") from None
    check_room(ray.cluster_resources(), replicas)
    application = build_application(
        options, replicas, drain_timeout_s=process.drain_timeout_s, log_level=process.log_level
    )
    # Ray has put its own handlers in place, which end the process at once.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        serve.start(http_options={"host": process.host, "port": process.port})
        serve.run(application, name=APP, route_prefix="/")
        url = f"http://{process.host}:{process.port}"
        _log.info("serving", extra={"fields": {"url": url, "replicas": [replicas.fewest, replicas.most]}})
        threading.Event().wait()
    except (RuntimeError, ray.exceptions.RayError) as error:
        raise WorkerError(f"Ray Serve could not start: {str(error).strip().splitlines()[0]}") from None
    finally:
        _log.info("draining")
        serve.shutdown()
        ray.shutdown()


def _stop(*_: object) -> NoReturn:
    raise SystemExit(0)


def check_room(resources: dict[str, float], replicas: Replicas) -> None:
    """Check that a cluster can hold the replicas that are always there.

    Raises:
        InputError: If it cannot: Ray would wait for ever.
    """
    num_cpus, num_gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if replicas.fewest * replicas.num_cpus > num_cpus or replicas.fewest * replicas.num_gpus > num_gpus:
        raise InputError(
            f"the Ray cluster has {num_cpus} CPUs and {num_gpus} GPUs: no room for {replicas.fewest} replica(s) with "
            f"{replicas.num_cpus} CPUs and {replicas.num_gpus} GPUs each"
        )
