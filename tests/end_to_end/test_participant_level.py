"""The participant level through the command line, on simulated brains with planted truth and on a real head.

The brains have large voxels: these tests say that every part is in its place and that the numbers are the right
ones; how exact they are at full size is measured in ``benchmarks/bench_participant.py``.
"""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest

from r2star.regions.table import COLUMNS

LARGE_REGIONS = ("caudate", "putamen", "pallidum", "thalamus")
REGIONS = (*LARGE_REGIONS, "accumbens", "red_nucleus", "substantia_nigra", "subthalamic_nucleus")


class Finished(NamedTuple):
    bids: Path
    out: Path
    work: Path
    stdout: str


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, r2star: Callable[..., subprocess.CompletedProcess[str]]
) -> Finished:
    """Two simulated participants, the first with a T1w and phase, the second without T1w, run once."""
    root = tmp_path_factory.mktemp("participant level")
    bids, out, work = root / "bids", root / "out", root / "work"
    made = r2star("simulate", "brain", bids, "--participants", 2, "--small", "--phase", "--seed", 3)
    assert made.returncode == 0, made.stderr
    for path in (bids / "sub-02/anat").glob("*T1w*"):
        path.unlink()
    for path in (bids / "sub-02/anat").glob("*part-phase*"):
        path.unlink()
    done = r2star("app", bids, out, "participant", "-w", work, "--nprocs", 2)
    assert done.returncode == 0, done.stderr
    return Finished(bids, out, work, done.stdout)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open() as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def region_rows(out: Path, label: str) -> list[dict[str, str]]:
    return read_table(out / f"sub-{label}/anat/sub-{label}_atlas-CIT168_desc-R2star_stats.tsv")


def planted(bids: Path, label: str) -> dict[tuple[str, str], float]:
    rows = read_table(bids / "truth.tsv")
    return {
        (row["region"], row["hemisphere"]): float(row["r2star_per_s"])
        for row in rows
        if row["participant_id"] == f"sub-{label}"
    }


@pytest.mark.parametrize("label", ["01", "02"])
def test_planted_r2star_comes_back_in_the_large_regions(finished: Finished, label: str) -> None:
    truth = planted(finished.bids, label)
    found = {
        (row["region"], row["hemisphere"]): row
        for row in region_rows(finished.out, label)
        if row["segmentation"] == "CIT168"
    }
    for region in LARGE_REGIONS:
        for side in "LR":
            # voxels of 2 × 2 × 3 mm mix the rim of a nucleus with what is around it
            assert float(found[region, side]["r2star_median_per_s"]) == pytest.approx(
                truth[region, side], rel=0.08
            ), (region, side)


def test_left_stays_left(finished: Finished) -> None:
    truth = nib.load(finished.bids / "derivatives/truth/sub-01/anat/sub-01_seg-truth_dseg.nii.gz")
    found = nib.load(finished.out / "sub-01/anat/sub-01_atlas-CIT168_dseg.nii.gz")
    np.testing.assert_allclose(truth.affine, found.affine, atol=1e-3)
    planted_labels, labels = np.asarray(truth.dataobj), np.asarray(found.dataobj)
    for index in (1, 2, 101, 102):  # putamen and caudate, left and right
        one, other = planted_labels == index, labels == index
        assert 2 * np.sum(one & other) / (one.sum() + other.sum()) > 0.75
    world = nib.affines.apply_affine(found.affine, np.argwhere(labels == 1))
    assert world[:, 0].mean() < 0


@pytest.mark.parametrize("label", ["01", "02"])
def test_the_table_has_every_row_and_column_in_order(finished: Finished, label: str) -> None:
    rows = region_rows(finished.out, label)
    assert tuple(rows[0]) == tuple(COLUMNS)
    main = [row for row in rows if row["segmentation"] == "CIT168"]
    assert {row["region"] for row in main} == set(REGIONS)
    assert [row["hemisphere"] for row in main] == ["L", "R", "LR"] * len(REGIONS)
    assert all(row["participant_id"] == f"sub-{label}" for row in rows)
    assert all(row["n_echoes"] == "6" and row["field_strength_tesla"] == "3" for row in rows)
    for row in main:
        assert (
            float(row["r2star_p05_per_s"])
            <= float(row["r2star_median_per_s"])
            <= float(row["r2star_p95_per_s"])
        )
        assert 0 < float(row["r2star_stderr_per_s"]) < 10
        assert float(row["coverage"]) == 1
    sidecar = json.loads(
        (finished.out / f"sub-{label}/anat/sub-{label}_atlas-CIT168_desc-R2star_stats.json").read_text()
    )
    assert set(COLUMNS) <= set(sidecar)
    assert sidecar["r2star_median_per_s"]["Units"] == "1/s"


def test_phase_gives_the_field_and_its_bias_and_none_is_needed(finished: Finished) -> None:
    folder = finished.out / "sub-01/anat"
    brain = np.asarray(nib.load(folder / "sub-01_desc-brain_mask.nii.gz").dataobj) > 0
    truth = nib.load(
        finished.bids / "derivatives/truth/sub-01/anat/sub-01_desc-B0_fieldmap.nii.gz"
    ).get_fdata()
    found = nib.load(finished.out / "sub-01/fmap/sub-01_desc-B0_fieldmap.nii.gz").get_fdata()
    off = (found - truth)[brain & np.isfinite(found)]
    assert np.median(np.abs(off - np.median(off))) < 1.0
    assert all(
        row["gradient_bias_per_s"] != "n/a"
        for row in region_rows(finished.out, "01")
        if row["hemisphere"] == "LR"
    )
    assert all(row["gradient_bias_per_s"] == "n/a" for row in region_rows(finished.out, "02"))


def test_the_brain_mask_is_the_brain(finished: Finished) -> None:
    truth = (
        np.asarray(
            nib.load(finished.bids / "derivatives/truth/sub-01/anat/sub-01_desc-brain_mask.nii.gz").dataobj
        )
        > 0
    )
    found = np.asarray(nib.load(finished.out / "sub-01/anat/sub-01_desc-brain_mask.nii.gz").dataobj) > 0
    assert 2 * np.sum(truth & found) / (truth.sum() + found.sum()) > 0.9


def test_the_validator_accepts_the_dataset(
    finished: Finished, bids_errors: Callable[[Path], list[Any]]
) -> None:
    assert bids_errors(finished.out) == []


def test_every_result_has_its_sources_and_a_marker_vouches_for_all(finished: Finished) -> None:
    sidecar = json.loads((finished.out / "sub-01/anat/sub-01_R2starmap.json").read_text())
    assert sidecar["Units"] == "1/s"
    assert "bids:raw:sub-01/anat/sub-01_echo-1_part-mag_MEGRE.nii.gz" in sidecar["Sources"]
    assert sidecar["MagneticFieldStrength"] == 3
    marker = json.loads((finished.out / "logs/units/sub-01.json").read_text())
    on_disk = {
        str(path.relative_to(finished.out)) for path in (finished.out / "sub-01").rglob("*") if path.is_file()
    }
    assert on_disk == set(marker["outputs"])
    assert marker["timing"]["total_s"] > 0
    transforms = (
        "from-MEGRE_to-T1w",
        "from-T1w_to-MEGRE",
        "from-T1w_to-MNI152NLin2009cAsym",
        "from-MNI152NLin2009cAsym_to-T1w",
    )
    assert {f"sub-01/anat/sub-01_{name}_mode-image_xfm.h5" for name in transforms} <= on_disk


def test_progress_is_told_and_a_second_run_does_nothing(
    finished: Finished, r2star: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert "sub-01: complete in" in finished.stdout
    assert "left)" in finished.stdout
    before = {path: path.stat().st_mtime_ns for path in finished.out.rglob("sub-*") if path.is_file()}
    again = r2star("app", finished.bids, finished.out, "participant", "-w", finished.work, "--nprocs", 2)
    assert again.returncode == 0
    assert "Nothing to do" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_serial_run_gives_the_same_table(
    finished: Finished, tmp_path: Path, r2star: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    out = tmp_path / "serial"
    done = r2star(
        "app",
        finished.bids,
        out,
        "participant",
        "-w",
        tmp_path / "work",
        "--nprocs",
        1,
        "--participant-label",
        "02",
    )
    assert done.returncode == 0, done.stderr
    name = "sub-02/anat/sub-02_atlas-CIT168_desc-R2star_stats.tsv"
    assert (out / name).read_bytes() == (finished.out / name).read_bytes()
