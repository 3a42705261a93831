"""The first level as a job array on a real SLURM: one killed, one cancelled, one with broken input; then the group."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from .conftest import said, wait_for

Run = Callable[..., subprocess.CompletedProcess[str]]
PASSED = ("--", "--sloppy", "-v")


class Cluster(NamedTuple):
    """A dataset, what the array made of it, what a run here makes of it, and what was said."""

    bids: Path
    out: Path
    local: Path
    first: str
    status: subprocess.CompletedProcess[str]


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def task_of(number: int) -> list[int]:
    """Processes of a task of the running array."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if f"SLURM_ARRAY_TASK_ID={number}".encode() in words:
            found.append(int(path.parent.name))
    return found


def program_of(number: int) -> list[int]:
    """The program itself and its workers among a task's processes: not the shell that notes its exit code."""
    commands = {pid: (Path(f"/proc/{pid}/cmdline")).read_bytes() for pid in task_of(number)}
    return [pid for pid, command in commands.items() if b"python" in command.split(b"\0")[0]]


def is_in_the_middle(log: Path) -> bool:
    return log.exists() and "registering" in log.read_text()


@pytest.fixture(scope="module")
def cluster(
    slurm: Path, wait_for_jobs: Callable[[float], None], tmp_path_factory: pytest.TempPathFactory, r2star: Run
) -> Cluster:
    """Four participants: the first fine, the second killed, the third cancelled, the fourth cut off."""
    root = tmp_path_factory.mktemp("job array")
    bids, out, local = root / "bids", root / "out", root / "local"
    options = ("--participants", 4, "--small", "--no-t1w", "--echoes", 3, "--seed", 5)
    assert r2star("simulate", "brain", bids, *options).returncode == 0
    broken = bids / "sub-04/anat/sub-04_echo-2_MEGRE.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-4000])
    done = r2star("submit", bids, out, "--cpus", 1, *PASSED)
    assert done.returncode == 0, done.stderr
    logs = out / "logs" / "submissions" / "0001"
    job = (logs / "job.json").read_text().split('"')[3]
    for number in (2, 3):
        log = logs / f"task-{number}.log"
        wait_for(lambda log=log: is_in_the_middle(log), 240, f"task {number} to be in its middle")
        if number == 2:
            for pid in program_of(number):
                os.kill(pid, signal.SIGKILL)
        else:
            said("scancel", f"{job}_{number}")
    wait_for_jobs(240)
    status = r2star("submit", bids, out, "--status")
    local_done = r2star(
        "app", bids, local, "participant", "--sloppy", "--nprocs", 1, "-w", root / "work",
        "--participant-label", "01", "02",
    )  # fmt: skip
    assert local_done.returncode == 0, local_done.stderr
    return Cluster(bids, out, local, done.stdout, status)


@pytest.mark.slow
def test_every_row_tells_what_happened(cluster: Cluster) -> None:
    assert "4 to run" in cluster.first
    rows = {line.split()[0]: line for line in cluster.status.stdout.splitlines() if line.startswith("sub-")}
    assert list(rows) == ["sub-01", "sub-02", "sub-03", "sub-04"]
    assert rows["sub-01"].split()[1] == "ok_warn"
    assert "exit 0 in" in rows["sub-01"]
    assert rows["sub-02"].split()[1:3] == ["no", "result"]
    assert "exit 137 in" in rows["sub-02"]
    assert rows["sub-03"].split()[1:3] == ["interrupted", "R2S-E609"]
    assert "exit 143 in" in rows["sub-03"]
    assert rows["sub-04"].split()[1:3] == ["failed_input", "R2S-E109"]
    assert "exit 1 in" in rows["sub-04"]
    assert cluster.status.returncode == 1
    states = {row["unit"]: row["state"] for row in table(cluster.out / "status.tsv")}
    assert states == {"sub-01": "ok_warn", "sub-03": "interrupted", "sub-04": "failed_input"}


@pytest.mark.slow
def test_only_what_is_not_complete_is_submitted_again_and_then_nothing(
    cluster: Cluster, r2star: Run, wait_for_jobs: Callable[[float], None]
) -> None:
    bids, out = cluster.bids, cluster.out
    anat = bids / "sub-04/anat"
    for name in ("sub-04_echo-2_MEGRE.nii.gz", "sub-04_echo-3_MEGRE.nii.gz"):
        (anat / name).unlink()  # it stays without a result: a single echo
    again = r2star("submit", bids, out, "--cpus", 1, "--group", *PASSED)
    assert again.returncode == 0, again.stderr
    assert "2 to run, 1 complete, 0 waiting" in again.stdout
    while_queued = r2star("submit", bids, out, "--cpus", 1, *PASSED)
    assert "0 to run, 1 complete, 2 waiting" in while_queued.stdout, while_queued.stdout
    wait_for_jobs(300)
    third = r2star("submit", bids, out, "--cpus", 1, "--group", *PASSED)
    assert third.stdout.splitlines()[-1] == "Nothing to submit."
    assert not said("squeue", "--noheader").strip()
    states = {row["unit"]: row["state"] for row in table(out / "status.tsv")}
    assert [states[f"sub-0{number}"] for number in (1, 2, 3)] == ["ok_warn"] * 3
    assert_same_results(cluster.local, out)
    regions = table(out / "group" / "regions.tsv")
    expected = [
        row
        for number in (1, 2, 3)
        for row in table(out / f"sub-0{number}/anat/sub-0{number}_atlas-CIT168_desc-R2star_stats.tsv")
    ]
    key = ("participant_id", "segmentation", "region", "hemisphere", "r2star_median_per_s")
    assert [[row[name] for name in key] for row in regions] == [
        [row[name] for name in key] for row in expected
    ]


def assert_same_results(local: Path, out: Path) -> None:
    """Every result of the run on this machine has the same bytes in the array's output."""
    files = [path for path in sorted(local.glob("sub-*/**/*")) if path.is_file()]
    assert len(files) > 20
    for path in files:
        assert (out / path.relative_to(local)).read_bytes() == path.read_bytes(), path.name
