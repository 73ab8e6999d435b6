"""Bulk scoring on a Ray cluster: shards go to a pool of actors, each with a model of its own.

Pairs do not travel: an actor reads its shard from the file and writes its scores into the folder, so all nodes must see
both, and the model, under the same paths.
"""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from crossrank.data.pair_files import PairShard
from crossrank.data.score_folder import ShardRecord
from crossrank.errors import InputError, MissingExtra, RerankError, WorkerError
from crossrank.inference.bulk import BulkJob, BulkScorer

# Of a shard whose actor died: one that kills every actor must not be tried for ever.
MAX_RETRIES = 3


@dataclass(frozen=True)
class ActorPool:
    """How a cluster is shared out.

    Attributes:
        size: Actors, each with a model.
        num_threads: CPUs that each of them takes.
        num_gpus: GPUs that each of them takes.
    """

    size: int
    num_threads: int
    num_gpus: int


def run_on_ray(
    job: BulkJob,
    load: Callable[[int], BulkScorer],
    shards: Sequence[PairShard],
    *,
    num_actors: int | None = None,
    num_threads: int | None = None,
    use_gpu: bool | None = None,
) -> Iterator[ShardRecord]:
    """Score shards on the cluster that `RAY_ADDRESS` names, or on this machine; yield records as they are finished.

    The shard of an actor that dies is scored again by another, and the actor is started again.

    Args:
        job: With absolute paths.
        load: Loads the model in an actor, given its number of threads.
        shards: In any order.
        num_actors: One a GPU if None, or where none is used, one a node.
        num_threads: Of each actor; an equal share of all CPUs if None.
        use_gpu: Give each actor a GPU; if None, where the cluster has any.

    Raises:
        RerankError: What an actor raises when it loads the model or scores a shard.
        InputError: If the cluster has no room for one actor.
        WorkerError: If actors die over the same shard again and again.
        MissingExtra: If Ray is not installed.
    """
    with _cluster() as ray:
        num_nodes = sum(node["Alive"] for node in ray.nodes())
        pool = plan_pool(ray.cluster_resources(), num_nodes, num_actors, num_threads, use_gpu=use_gpu)
        ray.data.DataContext.get_current().enable_progress_bars = False
        dataset = ray.data.from_items([asdict(shard) for shard in shards], override_num_blocks=len(shards) or 1)
        with warnings.catch_warnings():
            # Ray goes on taking it until 2.64, and has nothing else yet that limits retries.
            warnings.filterwarnings("ignore", message="`ray_remote_args_fn` is deprecated")
            scored = dataset.map(
                _ShardScorer,
                fn_constructor_args=(job, load, pool.num_threads),
                compute=ray.data.ActorPoolStrategy(size=min(pool.size, len(shards) or 1)),
                num_cpus=pool.num_threads,
                num_gpus=pool.num_gpus or None,
                ray_remote_args_fn=lambda: {"max_task_retries": MAX_RETRIES},
            )
        for row in _rows(scored, ray.exceptions.RayError) if shards else ():
            if row["failure"] is not None:
                raise pickle.loads(row["failure"])
            yield ShardRecord(**pickle.loads(row["record"]))


def _rows(scored: Any, ray_error: type[Exception]) -> Iterator[dict[str, Any]]:
    try:
        yield from scored.iter_rows()
    except ray_error as error:
        reason = str(error).strip().splitlines()[0]
        raise WorkerError(
            f"an actor died {MAX_RETRIES + 1} times over the same shard, or Ray failed: {reason}"
        ) from error


def plan_pool(
    resources: Mapping[str, float],
    num_nodes: int,
    num_actors: int | None,
    num_threads: int | None,
    *,
    use_gpu: bool | None,
) -> ActorPool:
    """Share the resources of a cluster out among actors.

    Raises:
        InputError: If there is no room for one actor, or for as many as are asked for.
    """
    num_cpus, num_gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    on_gpu = use_gpu if use_gpu is not None else num_gpus > 0
    size = num_actors or (num_gpus if on_gpu else num_nodes)
    threads = num_threads or max(1, num_cpus // max(size, 1))
    if size < 1 or size * threads > num_cpus or (on_gpu and size > num_gpus):
        wanted = f"{size} actors with {threads} CPUs" + (" and a GPU" if on_gpu else "")
        raise InputError(f"the Ray cluster has {num_cpus} CPUs and {num_gpus} GPUs: no room for {wanted} each")
    return ActorPool(size, threads, int(on_gpu))


class _ShardScorer:
    """Lives in an actor. Failures travel as values: Ray would wrap what is raised, and try to load a model for ever."""

    def __init__(self, job: BulkJob, load: Callable[[int], BulkScorer], num_threads: int) -> None:
        self._job = job
        self._failure: RerankError | None = None
        try:
            self._scorer = load(num_threads)
            # Refuses what no pair could be scored with.
            self._scorer.score_with_truncation([], instruction=job.instruction)
        except RerankError as error:
            self._failure = error

    def __call__(self, shard: dict[str, int]) -> dict[str, bytes | None]:
        try:
            if self._failure is not None:
                raise self._failure
            record = self._job.run(self._scorer, PairShard(**shard))
        except RerankError as error:
            return {"record": None, "failure": pickle.dumps(error)}
        return {"record": pickle.dumps(asdict(record)), "failure": None}


@contextmanager
def _cluster() -> Iterator[Any]:
    """Connect to a cluster, or start one on this machine, and leave it as it was."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtra("--engine ray", extra="ray") from None
    if ray.is_initialized():
        yield ray
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        address = os.environ.get("RAY_ADDRESS") or "local"
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise InputError(f"no Ray cluster at {os.environ.get('RAY_ADDRESS')}: {error}") from None
    try:
        yield ray
    finally:
        ray.shutdown()
