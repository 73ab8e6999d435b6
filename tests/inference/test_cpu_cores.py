import os

import pytest

from crossrank.inference import cpu_cores


def test_at_most_the_cores_of_the_affinity_mask():
    assert 1 <= cpu_cores.count_usable_cores() <= os.cpu_count()


@pytest.mark.parametrize(("text", "limit"), [("max 100000", None), ("150000 100000", 1), ("400000 100000", 4)])
def test_container_quota(tmp_path, monkeypatch, text, limit):
    (tmp_path / "cpu.max").write_text(text + "\n")
    monkeypatch.setattr(cpu_cores, "_CGROUP_LIMIT", tmp_path / "cpu.max")
    assert cpu_cores._container_limit() == limit


def test_half_a_core_still_counts_as_one(tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    monkeypatch.setattr(cpu_cores, "_CGROUP_LIMIT", tmp_path / "cpu.max")
    assert cpu_cores.count_usable_cores() == 1


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs affinity masks")
def test_hardware_threads_of_one_core_count_once(tmp_path, monkeypatch):
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    monkeypatch.setattr(cpu_cores, "_TOPOLOGY", tmp_path)
    monkeypatch.setattr(cpu_cores, "_CGROUP_LIMIT", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert cpu_cores.count_usable_cores() == 2
