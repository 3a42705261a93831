"""What a job has: affinity, control groups of both versions, SLURM's grant, and never the whole machine by mistake."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from r2star.cli.app import settings_from
from r2star.cli.options import build_parser
from r2star.runs import resources


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups in place of the system's, and no SLURM."""
    monkeypatch.setattr(resources, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(resources, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(resources, "_free_memory_gib", lambda: 256.0)
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    return tmp_path / "cgroup"


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_limits_the_job_has_the_machine(cgroups: Path) -> None:
    put(cgroups / "cpu.max", "max 100000\n")
    put(cgroups / "memory.max", "max\n")
    assert (resources.available_processors(), resources.available_memory_gib()) == (64, 256.0)


def test_the_least_limit_of_all_groups_above_counts(cgroups: Path) -> None:
    put(cgroups.parent / "own", "0::/slurm/job_7/task_0\n")
    put(cgroups / "slurm/job_7/cpu.max", "400000 100000\n")
    put(cgroups / "slurm/job_7/task_0/cpu.max", "max 100000\n")
    put(cgroups / "slurm/job_7/memory.max", str(8 * 1024**3))
    put(cgroups / "slurm/memory.max", str(32 * 1024**3))
    assert (resources.available_processors(), resources.available_memory_gib()) == (4, 8.0)


def test_groups_of_the_first_version_are_read_too(cgroups: Path) -> None:
    put(cgroups.parent / "own", "5:memory:/job\n3:cpu,cpuacct:/job\n1:name=systemd:/other\n")
    put(cgroups / "cpu/job/cpu.cfs_quota_us", "150000")
    put(cgroups / "cpu/job/cpu.cfs_period_us", "50000")
    put(cgroups / "memory/job/memory.limit_in_bytes", str(3 * 1024**3))
    put(cgroups / "memory/memory.limit_in_bytes", str(2**63 - 4096))  # how this version says "no limit"
    assert (resources.available_processors(), resources.available_memory_gib()) == (3, 3.0)
    put(cgroups / "cpu/job/cpu.cfs_quota_us", "-1")
    assert resources.available_processors() == 64


@pytest.mark.parametrize(
    ("grant", "expected"),
    [
        ({"SLURM_CPUS_PER_TASK": "3", "SLURM_MEM_PER_NODE": "6144"}, (3, 6.0)),
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_MEM_PER_CPU": "1024"}, (4, 4.0)),
        ({"SLURM_MEM_PER_NODE": "0"}, (64, 256.0)),
    ],
)
def test_slurms_grant_counts(
    cgroups: Path, monkeypatch: pytest.MonkeyPatch, grant: dict[str, str], expected: tuple[int, float]
) -> None:
    for name, value in grant.items():
        monkeypatch.setenv(name, value)
    assert (resources.available_processors(), resources.available_memory_gib()) == expected
    settings = settings_from(build_parser().parse_args(["in", "out", "participant"]))
    assert (settings.n_procs, settings.mem_gb) == expected
    asked = ["in", "out", "participant", "--nprocs", "2", "--omp-nthreads", "1", "--mem-gb", "1.5"]
    settings = settings_from(build_parser().parse_args(asked))
    assert (settings.n_procs, settings.omp_n_threads, settings.mem_gb) == (2, 1, 1.5)


@pytest.mark.skipif(shutil.which("taskset") is None, reason="no taskset (Debian: util-linux)")
def test_an_affinity_of_one_processor_is_seen() -> None:
    code = "from r2star.runs.resources import available_processors as n; print(n())"
    done = subprocess.run(
        ["taskset", "--cpu-list", "0", sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_the_peak_is_of_what_came_after_it_was_forgotten() -> None:
    block = bytearray(b"x") * (256 * 1024**2)
    before = resources.peak_memory_gib()
    del block
    resources.forget_peak_memory()
    after = resources.peak_memory_gib()
    assert before - after > 0.2


def test_without_any_temporary_folder_the_work_folder_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> str:
        raise FileNotFoundError

    monkeypatch.delenv("TMPDIR", raising=False)
    resources.ensure_temporary_folder(tmp_path)
    assert "TMPDIR" not in os.environ
    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    monkeypatch.setenv("TMPDIR", "none")
    monkeypatch.setenv("MPLCONFIGDIR", "none")
    resources.ensure_temporary_folder(tmp_path)
    assert os.environ["TMPDIR"] == str(tmp_path)
    assert Path(os.environ["MPLCONFIGDIR"]).parent == tmp_path
