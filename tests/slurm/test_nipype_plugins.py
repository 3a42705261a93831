"""The same dataset on this machine and through nipype's SLURM and SLURMGraph plugins: the same states and bytes."""

from __future__ import annotations

import csv
import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster import said, wait_for

Run = Callable[..., subprocess.CompletedProcess[str]]
LABELS = ("01", "02", "03")


@pytest.fixture(scope="module")
def dataset(
    tmp_path_factory: pytest.TempPathFactory, r2star: Run, write_participant: Callable[..., Path]
) -> Path:
    """Three participants of a few voxels, the second with an echo cut off, and what a run here makes of them."""
    root = tmp_path_factory.mktemp("plugins")
    for label in LABELS:
        write_participant(root / "bids", label)
    broken = root / "bids/sub-02/anat/sub-02_echo-2_MEGRE.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-100])
    local = r2star("app", root / "bids", root / "local", "participant", "--fit-only", "-w", root / "work")
    assert local.returncode == 1
    return root


def states(out: Path) -> list[tuple[str, str, str]]:
    with (out / "status.tsv").open() as handle:
        return [(row["unit"], row["state"], row["code"]) for row in csv.DictReader(handle, delimiter="\t")]


@pytest.mark.slow
@pytest.mark.parametrize("plugin", ["SLURM", "SLURMGraph"])
def test_a_cluster_gives_the_same_states_and_bytes(
    slurm: Path, dataset: Path, r2star: Run, plugin: str
) -> None:
    file = dataset / f"{plugin}.json"
    file.write_text(json.dumps({"plugin": plugin, "plugin_args": {"sbatch_args": "--mem=1G --time=10"}}))
    out, work = dataset / plugin, dataset / f"work_{plugin}"
    done = r2star(
        "app", dataset / "bids", out, "participant", "--fit-only", "-w", work, "--nipype-plugin-file", file
    )
    assert done.returncode == 1, done.stderr
    assert "sub-02" in done.stderr
    assert states(out) == states(dataset / "local")
    assert [row[1] for row in states(out)] == ["ok", "failed_input", "ok"]
    files = [path for path in sorted((dataset / "local").glob("sub-*/**/*")) if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert (out / path.relative_to(dataset / "local")).read_bytes() == path.read_bytes(), path.name
    again = r2star(
        "app",
        dataset / "bids",
        out,
        "participant",
        "--fit-only",
        "-w",
        work,
        "--participant-label",
        "01",
        "03",
    )
    assert again.returncode == 0
    assert "Nothing to do." in again.stdout


def held_jobs() -> dict[str, str]:
    """Jobs that wait for their release: name → number."""
    lines = said("squeue", "-h", "-t", "PENDING", "-o", "%j %i").splitlines()
    return dict(line.split() for line in lines)


@pytest.mark.slow
def test_a_job_that_the_cluster_kills_fails_its_unit_alone(
    slurm: Path, tmp_path: Path, r2star: Run, dataset: Path
) -> None:
    file, out = tmp_path / "held.json", tmp_path / "out"
    file.write_text(
        json.dumps({"plugin": "SLURM", "plugin_args": {"sbatch_args": "--hold --mem=1G --time=10"}})
    )
    words = ("participant", "--fit-only", "-w", tmp_path / "work", "--participant-label", "01", "03")
    ended: list[subprocess.CompletedProcess[str]] = []
    running = threading.Thread(
        target=lambda: ended.append(
            r2star("app", dataset / "bids", out, *words, "--nipype-plugin-file", file)
        )
    )
    running.start()
    wait_for(lambda: any("sub_03" in name for name in held_jobs()), 60, "the job of sub-03")
    said("scancel", next(number for name, number in held_jobs().items() if "sub_03" in name))

    def release() -> bool:
        for number in held_jobs().values():
            said("scontrol", "release", number)
        return not running.is_alive()

    wait_for(release, 240, "the end of the run")
    assert ended[0].returncode == 1
    assert states(out) == [("sub-01", "ok", "n/a"), ("sub-03", "failed_env", "R2S-E608")]
    (told,) = [line for line in ended[0].stderr.splitlines() if line.startswith("ERROR") and "sub-03" in line]
    assert "out of memory" in told
    again = r2star("app", dataset / "bids", out, *words)
    assert again.returncode == 0
    assert [row[1] for row in states(out)] == ["ok", "ok"]
