"""Bulk scoring on a local Ray with two actors, one of which dies: the scores of one process."""

from __future__ import annotations

import json
import os
import pickle
import sys
from functools import partial

import numpy as np
import pytest

from crossrank.data import pair_files
from crossrank.data.pair_files import plan_shards
from crossrank.errors import DataError, InputError, MissingExtra
from crossrank.inference.bulk import BulkJob, run_here
from crossrank.inference.ray_bulk import ActorPool, plan_pool, run_on_ray
from crossrank.reranker import Reranker


@pytest.mark.parametrize(
    ("resources", "asked", "pool"),
    [
        ({"CPU": 8.0}, {}, ActorPool(2, 4, 0)),
        ({"CPU": 8.0}, {"num_actors": 8}, ActorPool(8, 1, 0)),
        ({"CPU": 8.0}, {"num_threads": 2}, ActorPool(2, 2, 0)),
        ({"CPU": 64.0, "GPU": 8.0}, {}, ActorPool(8, 8, 1)),
        ({"CPU": 64.0, "GPU": 8.0}, {"num_actors": 2, "num_threads": 4}, ActorPool(2, 4, 1)),
        ({"CPU": 64.0, "GPU": 8.0}, {"use_gpu": False}, ActorPool(2, 32, 0)),
    ],
)
def test_a_cluster_is_shared_out(resources, asked, pool):
    asked = {"num_actors": None, "num_threads": None, "use_gpu": None} | asked
    assert plan_pool(resources, 2, **asked) == pool


@pytest.mark.parametrize(
    "asked", [{"num_actors": 9}, {"num_threads": 5}, {"use_gpu": True}, {"num_actors": 1, "use_gpu": True}]
)
def test_a_cluster_that_is_too_small_is_an_error(asked):
    asked = {"num_actors": None, "num_threads": None, "use_gpu": None} | asked
    with pytest.raises(InputError, match="the Ray cluster has 8 CPUs and 0 GPUs: no room"):
        plan_pool({"CPU": 8.0}, 2, **asked)


def test_errors_travel_between_processes():
    for error in (DataError("bad", path="a.jsonl", line=3), MissingExtra("this", extra="ray"), InputError("no")):
        back = pickle.loads(pickle.dumps(error))
        assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))


def test_without_ray_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'crossrank\[ray\]'"):
        list(run_on_ray(BulkJob(tmp_path, tmp_path), Reranker.load, []))


@pytest.fixture(scope="module")
def exported(tiny_checkpoint, tmp_path_factory):
    from crossrank.inference.export import export_checkpoint

    return export_checkpoint(tiny_checkpoint("bert"), tmp_path_factory.mktemp("exported") / "tiny").folder


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # This module cannot be imported by the actors.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


class DiesOnce:
    """A reranker in an actor whose process ends at the second shard, the first time that any gets there."""

    def __init__(self, folder, died, num_threads):
        self._reranker, self._died, self._shards = Reranker.load(folder, num_threads=num_threads), died, 0

    def score_with_truncation(self, pairs, *, instruction=None):
        self._shards += bool(pairs)
        if self._shards == 2 and not self._died.exists():
            self._died.touch()
            os._exit(1)
        return self._reranker.score_with_truncation(pairs, instruction=instruction)


@pytest.mark.slow
def test_two_actors_of_which_one_dies_give_the_scores_of_one_process(ray, exported, tmp_path, monkeypatch):
    from pyarrow import parquet

    monkeypatch.setattr(pair_files, "SHARD_ROWS", 16)
    path = tmp_path / "pairs.jsonl"
    rows = [{"query": f"red planet {i % 3}", "text": f"Mars {i} rusts. " * (i % 20), "id": i} for i in range(120)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shards = list(plan_shards(path))
    assert len(shards) == 8
    folders = tmp_path / "local", tmp_path / "ray"
    for folder in folders:
        folder.mkdir()
    here = list(run_here(BulkJob(path, folders[0]), Reranker.load(exported, num_threads=1), shards))
    load = partial(DiesOnce, exported, tmp_path / "died")
    there = list(run_on_ray(BulkJob(path, folders[1]), load, shards, num_actors=2))
    assert (tmp_path / "died").exists(), "no actor died: the test has shown nothing"
    assert sorted(there, key=lambda record: record.index) == here
    local, remote = (parquet.read_table(folder) for folder in folders)
    assert local.drop(["score"]).equals(remote.drop(["score"]))
    np.testing.assert_allclose(remote["score"], local["score"], atol=1e-5)
    reference = Reranker.load(exported).score([(row["query"], row["text"]) for row in rows])
    np.testing.assert_allclose(remote["score"], reference, atol=1e-4)


def _fail(num_threads):
    raise InputError(f"no model with {num_threads} threads")


@pytest.mark.slow
def test_what_an_actor_raises_arrives(ray, exported, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"query": "planet " * 500, "document": "Mars"}) + "\n")
    shards = list(plan_shards(path))
    with pytest.raises(InputError, match="no model with 2 threads"):
        list(run_on_ray(BulkJob(path, tmp_path), _fail, shards))
    load = partial(Reranker.load, exported)
    with pytest.raises(DataError, match=r"pairs\.jsonl:1: .*leaves no room"):
        list(run_on_ray(BulkJob(path, tmp_path), lambda num_threads: load(num_threads=num_threads), shards))
