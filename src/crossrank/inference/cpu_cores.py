"""How many CPU cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")
_TOPOLOGY = Path("/sys/devices/system/cpu")


def count_usable_cores() -> int:
    """Return the number of physical cores that this process may use, at least 1.

    Counts what affinity and a container's CPU limit allow; two hardware threads of one core count once, because they
    share its arithmetic units.
    """
    cores = _affinity_cores()
    limit = _container_limit()
    return cores if limit is None else max(1, min(cores, limit))


def _affinity_cores() -> int:
    if not hasattr(os, "sched_getaffinity"):  # macOS, Windows
        return os.cpu_count() or 1
    return len({_siblings(cpu) for cpu in os.sched_getaffinity(0)})


def _siblings(cpu: int) -> str:
    file = _TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list"
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:  # not a Linux with sysfs: every hardware thread counts
        return str(cpu)


def _container_limit() -> int | None:
    """The quota of cgroup version 2, in whole cores."""
    try:
        quota, period = _CGROUP_LIMIT.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) // int(period)
