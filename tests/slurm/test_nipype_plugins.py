"""The same dataset on this machine and through nipype's SLURM and SLURMGraph plugins: the same states and bytes."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

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
