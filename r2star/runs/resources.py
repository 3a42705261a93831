"""What this job really has: processors and memory by affinity, cgroup and scheduler. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_GIB = 1024.0**3


def available_processors() -> int:
    """Processors that this job may use: the least of affinity, cgroup quota and SLURM's grant."""
    counts = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if granted.isdigit():
        counts.append(int(granted))
    quota = _read_numbers(_CGROUP / "cpu.max")
    if len(quota) == 2:
        counts.append(int(quota[0] / quota[1]))
    return max(1, min(counts))


def available_memory_gib() -> float:
    """Memory that this job may use, GiB: the least of the machine's free memory, cgroup limit and SLURM's grant."""
    limits = [_free_memory_gib()]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limits += [number / _GIB for number in _read_numbers(_CGROUP / name)[:1]]
    per_node = os.environ.get("SLURM_MEM_PER_NODE", "")
    per_cpu = os.environ.get("SLURM_MEM_PER_CPU", "")
    if per_node.isdigit():
        limits.append(int(per_node) / 1024)
    elif per_cpu.isdigit():
        limits.append(int(per_cpu) * available_processors() / 1024)
    return max(0.1, min(limits))


def _free_memory_gib() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024**2
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / _GIB


def _read_numbers(path: Path) -> list[float]:
    """The numbers in a cgroup file; empty where there is no limit."""
    try:
        return [float(word) for word in path.read_text().split()]
    except (OSError, ValueError):
        return []


def peak_memory_gib() -> float:
    """Highest resident memory of this process so far, GiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
