"""What this job really has: processors and memory by affinity, cgroup and scheduler. Standard library only."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_GIB = 1024.0**3


def available_processors() -> int:
    """Processors that this job may use: the least of affinity, cgroup quota and SLURM's grant."""
    counts = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if granted.isdigit():
        counts.append(int(granted))
    for folder in _own_cgroups("cpu"):
        quota = _read_numbers(folder / "cpu.max")
        if not quota:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota = [number for name in names for number in _read_numbers(folder / name)]
        if len(quota) == 2 and min(quota) > 0:
            counts.append(int(quota[0] / quota[1]))
    return max(1, min(counts))


def available_memory_gib() -> float:
    """Memory that this job may use, GiB: the least of the machine's free memory, cgroup limit and SLURM's grant."""
    limits = [_free_memory_gib()]
    for folder in _own_cgroups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits += [number / _GIB for number in _read_numbers(folder / name)[:1]]
    per_node = os.environ.get("SLURM_MEM_PER_NODE", "")
    per_cpu = os.environ.get("SLURM_MEM_PER_CPU", "")
    if per_node.isdigit() and int(per_node) > 0:  # 0 is all of the node
        limits.append(int(per_node) / 1024)
    elif per_cpu.isdigit():
        limits.append(int(per_cpu) * available_processors() / 1024)
    return max(0.1, min(limits))


def _own_cgroups(controller: str) -> list[Path]:
    """Folders of this process's control groups and all groups above them, versions 1 and 2."""
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:
        lines = []
    folders = [_CGROUPS, _CGROUPS / controller]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            below = (_CGROUPS / controller if controllers else _CGROUPS) / path.lstrip("/")
            folders += [below, *below.parents]
    return [one for one in dict.fromkeys(folders) if one.is_relative_to(_CGROUPS)]


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


def forget_peak_memory() -> None:
    """Start `peak_memory_gib` anew, so that one worker's steps are told apart; without effect outside Linux."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_gib() -> float:
    """Highest resident memory of this process, GiB, since its start or `forget_peak_memory`."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024**2
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def ensure_temporary_folder(work_dir: Path) -> None:
    """Where a read-only system has no folder for temporary files, they and the fonts' cache go into the work folder."""
    try:
        tempfile.gettempdir()
    except OSError:
        os.environ["TMPDIR"] = str(work_dir)
        os.environ["MPLCONFIGDIR"] = str(work_dir / "matplotlib")
