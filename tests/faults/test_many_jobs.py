"""Many jobs on one output: every row, once; two on one unit: one works, the other says so."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import battery as b
import coarse
import pytest
from nursery import Nursery

COMMAND = "import sys; from r2star.cli.app import main; sys.exit(main())"
AT_ONCE = 6


@pytest.mark.parametrize("jobs", [4, pytest.param(60, marks=pytest.mark.faults)])
def test_jobs_on_one_output_give_every_row(tmp_path: Path, r2star: b.Run, jobs: int) -> None:  # H05
    labels = [f"{number:03d}" for number in range(jobs)]
    for label in labels:
        b.write_participant(tmp_path / "bids", label)
    out = tmp_path / "out"

    def run(label: str) -> int:
        words = ("participant", "--fit-only", "--nprocs", "1", "--participant-label", label)
        done = r2star("app", tmp_path / "bids", out, *words, "-w", tmp_path / "work")
        assert "Traceback" not in done.stderr
        return int(done.returncode)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        codes = list(pool.map(run, labels))
    assert codes == [0] * jobs
    lines = (out / "status.tsv").read_text().splitlines()[1:]
    assert Counter(line.split("\t")[0] for line in lines) == {f"sub-{label}": 1 for label in labels}
    assert {line.split("\t")[1] for line in lines} == {"ok"}
    verified = r2star("verify", out)
    assert verified.returncode == 0
    assert f"of {jobs} units" in verified.stdout
    maps = {label: b.tree(out / f"sub-{label}")[f"anat/sub-{label}_R2starmap.nii.gz"] for label in labels}
    assert len(set(maps.values())) == 1  # all hold the same voxels
    assert not list((out / "logs/locks").iterdir())


@pytest.mark.faults
def test_jobs_with_regions_on_one_output_give_every_row(tmp_path: Path, r2star: b.Run) -> None:
    labels = [f"{number:03d}" for number in range(60)]
    for label in labels:
        coarse.write_head(tmp_path / "bids", label)
    atlas, out = coarse.write_atlas(tmp_path / "atlas"), tmp_path / "out"
    words = (tmp_path / "bids", out, "participant", "--sloppy", "--atlas", atlas, "--nprocs", 1)

    def work(number: int) -> list[str]:
        """Some of the jobs, one after the other; what they complained of."""
        complaints = []
        with Nursery(tmp_path / f"nursery-{number}") as nursery:
            for label in labels[number::AT_ONCE]:
                done = nursery.run(*words, "--participant-label", label, "-w", tmp_path / "work")
                if done.wait() != 0:
                    complaints.append(done.stderr)
        return complaints

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert [line for lines in pool.map(work, range(AT_ONCE)) for line in lines] == []
    lines = (out / "status.tsv").read_text().splitlines()[1:]
    assert Counter(line.split("\t")[0] for line in lines) == {f"sub-{label}": 1 for label in labels}
    verified = r2star("verify", out)
    assert verified.returncode == 0
    assert "of 60 units" in verified.stdout
    folders = {label: b.tree(out / f"sub-{label}/anat") for label in labels}
    kinds = {
        (name.replace(f"sub-{label}", "sub-X"), data.replace(f"sub-{label}".encode(), b"sub-X"))
        for label, files in folders.items() for name, data in files.items()
    }  # fmt: skip
    assert len(kinds) == len(folders[labels[0]])  # one head under many names gives one set of files
    assert any(name.endswith("_stats.tsv") for name, _ in kinds)
    assert not list((out / "logs/locks").iterdir())


def test_two_runs_of_one_unit(tmp_path: Path, r2star: b.Run) -> None:  # H04
    b.write_participant(tmp_path / "bids", "01")
    b.write_participant(tmp_path / "bids", "02")
    out = tmp_path / "out"
    words = [str(tmp_path / "bids"), str(out), "participant", "--fit-only", "--nprocs", "1"]
    first = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    first.stdout.readline()  # it holds its locks
    first.send_signal(signal.SIGSTOP)
    try:
        second = r2star("app", *words, "--participant-label", "01", "-w", tmp_path / "work")
    finally:
        first.send_signal(signal.SIGCONT)
    assert second.returncode == 75
    assert f"process {first.pid} on" in second.stderr
    assert "R2S-E604 sub-01" in second.stderr
    first.communicate(timeout=120)
    assert first.returncode == 0
    assert {row["state"] for row in b.states(out).values()} == {"ok"}
    again = r2star("app", *words)
    assert again.returncode == 0
    assert "Nothing to do" in again.stdout
