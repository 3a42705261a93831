"""Results of other programs through the command line, on a simulated brain whose truth is their result."""

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
from scipy.ndimage import binary_erosion

Run = Callable[..., subprocess.CompletedProcess[str]]
CHECKED = ((1, "putamen", "L"), (102, "caudate", "R"), (5, "pallidum_external", "L"))


class Finished(NamedTuple):
    bids: Path
    tool: Path
    out: Path
    words: list[object]


def write_tool(bids: Path, tool: Path) -> None:
    """Chi = R2*/200 ppm of both participants, and a lesion over the front of the first one's left putamen."""
    for label in ("01", "02"):
        truth = bids / f"derivatives/truth/sub-{label}/anat/sub-{label}"
        folder = tool / f"sub-{label}" / "anat"
        folder.mkdir(parents=True)
        r2star = nib.load(f"{truth}_R2starmap.nii.gz")
        chi = np.asarray(r2star.dataobj, np.float32) / 200
        nib.save(nib.Nifti1Image(chi, r2star.affine), folder / f"sub-{label}_Chimap.nii.gz")
        (folder / f"sub-{label}_Chimap.json").write_text('{"Units": "ppm"}')
    labels = nib.load(bids / "derivatives/truth/sub-01/anat/sub-01_seg-truth_dseg.nii.gz")
    putamen = np.asarray(labels.dataobj) == 1
    front = np.quantile(np.argwhere(putamen)[:, 1], 0.7)
    putamen[:, : int(front)] = False
    # half the voxel size: another grid of the same world
    fine = np.kron(putamen, np.ones((2, 2, 2))).astype(np.uint8)
    affine = labels.affine @ np.diag([0.5, 0.5, 0.5, 1])
    affine[:3, 3] -= labels.affine[:3, :3] @ [0.25, 0.25, 0.25]
    path = tool / "sub-01/anat/sub-01_space-MEGRE_label-lesion_mask.nii.gz"
    nib.save(nib.Nifti1Image(fine, affine), path)
    (tool / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, r2star: Run) -> Finished:
    """Two simulated participants, the first with a lesion, measured with everything that may be asked for."""
    root = tmp_path_factory.mktemp("other programs")
    bids, tool, out = root / "bids", root / "tool", root / "out"
    made = r2star("simulate", "brain", bids, "--participants", 2, "--small", "--seed", 3)
    assert made.returncode == 0, made.stderr
    write_tool(bids, tool)
    words = [bids, out, "participant", "-w", root / "work", "--nprocs", 2, "--sloppy",
             "--derivatives", bids / "derivatives/truth", tool, "--segmentation", "seg-truth",
             "--brain-mask", "desc-brain_mask", "--lesions", tool, "--maps", "Chimap"]  # fmt: skip
    done = r2star("app", *words)
    assert done.returncode == 0, done.stderr
    return Finished(bids, tool, out, words)


def rows_of(out: Path, label: str) -> dict[tuple[str, str], dict[str, str]]:
    path = out / f"sub-{label}/anat/sub-{label}_seg-truth_desc-R2star_stats.tsv"
    with path.open() as handle:
        return {(row["region"], row["hemisphere"]): row for row in csv.DictReader(handle, delimiter="\t")}


def values_of(bids: Path, label: str, index: int, path: Path) -> np.ndarray:
    """Values of a map in a planted label, without its rim where the rule takes it away (400 voxels a side)."""
    stem = bids / f"derivatives/truth/sub-{label}/anat/sub-{label}"
    labels = np.asarray(nib.load(f"{stem}_seg-truth_dseg.nii.gz").dataobj)
    smaller = min((labels == side).sum() for side in (index % 100, index % 100 + 100))
    inside = labels == index
    return nib.load(path).get_fdata()[binary_erosion(inside) if smaller >= 400 else inside]


def test_the_segmentation_stands_in_the_place_of_the_atlas(finished: Finished) -> None:
    folder = finished.out / "sub-01/anat"
    assert not list(folder.glob("*atlas-*"))
    found = nib.load(folder / "sub-01_seg-truth_dseg.nii.gz")
    truth = nib.load(finished.bids / "derivatives/truth/sub-01/anat/sub-01_seg-truth_dseg.nii.gz")
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(truth.dataobj))
    rows = rows_of(finished.out, "02")
    for index, name, side in CHECKED:
        values = values_of(finished.bids, "02", index, finished.out / "sub-02/anat/sub-02_R2starmap.nii.gz")
        assert rows[name, side]["n_valid"] == str(values.size)
        assert float(rows[name, side]["r2star_median_per_s"]) == pytest.approx(np.median(values), rel=1e-5)
        # voxels of 2 × 2 × 3 mm lose signal to the field within them
        truth = finished.bids / "derivatives/truth/sub-02/anat/sub-02_R2starmap.nii.gz"
        planted = np.median(values_of(finished.bids, "02", index, truth))
        assert float(rows[name, side]["r2star_median_per_s"]) == pytest.approx(planted, rel=0.08)


def test_the_page_shows_the_regions_of_the_segmentation(finished: Finished) -> None:
    page = (finished.out / "sub-01.html").read_text()
    assert page.count("<h1") == 1
    for words in ("Putamen", "segmentation seg-truth"):
        assert words in page
    assert "data:image" in page  # slices with the regions' outlines


def test_another_map_is_measured_over_the_same_voxels(finished: Finished) -> None:
    rows = rows_of(finished.out, "02")
    for index, name, side in CHECKED:
        values = values_of(finished.bids, "02", index, finished.tool / "sub-02/anat/sub-02_Chimap.nii.gz")
        assert rows[name, side]["Chimap_n_valid"] == str(values.size)
        assert float(rows[name, side]["Chimap_median"]) == pytest.approx(np.median(values), rel=1e-5)
    sidecar = finished.out / "sub-01/anat/sub-01_seg-truth_desc-R2star_stats.json"
    told = json.loads(sidecar.read_text())
    assert told["Chimap_median"]["Units"] == "ppm"
    # its volumes are the participant's own, so no more than one layer may go
    assert told["VoxelRule"]["ErosionVoxels"] == 1


def test_lesions_are_rows_and_left_out_and_none_is_unknown(finished: Finished) -> None:
    rows = rows_of(finished.out, "01")
    assert 0.2 < float(rows["putamen", "L"]["lesion_overlap"]) < 0.4
    assert float(rows["putamen", "R"]["lesion_overlap"]) == 0
    assert "W466" in rows["putamen", "L"]["warnings"]
    mask = nib.load(finished.tool / "sub-01/anat/sub-01_space-MEGRE_label-lesion_mask.nii.gz")
    volume = np.asarray(mask.dataobj).sum() * abs(np.linalg.det(mask.affine[:3, :3]))
    assert float(rows["lesions", "LR"]["volume_mm3"]) == pytest.approx(volume, rel=1e-4)
    other = rows_of(finished.out, "02")
    assert list(other) == list(rows)
    assert other["lesions", "LR"]["volume_mm3"] == other["putamen", "L"]["lesion_overlap"] == "n/a"
    assert "W473" in other["putamen", "L"]["warnings"]


def test_the_given_brain_mask_is_the_mask(finished: Finished) -> None:
    found, truth = (
        np.asarray(nib.load(root / "sub-01/anat/sub-01_desc-brain_mask.nii.gz").dataobj)
        for root in (finished.out, finished.bids / "derivatives/truth")
    )
    np.testing.assert_array_equal(found > 0, truth > 0)


def test_what_was_read_is_vouched_for_and_a_second_run_does_nothing(finished: Finished, r2star: Run) -> None:
    inputs = json.loads((finished.out / "logs/units/sub-01.json").read_text())["inputs"]
    assert "bids:tool:sub-01/anat/sub-01_Chimap.nii.gz" in inputs
    assert "bids:tool:sub-01/anat/sub-01_space-MEGRE_label-lesion_mask.nii.gz" in inputs
    assert "bids:truth:seg-truth_dseg.tsv" in inputs
    links = json.loads((finished.out / "dataset_description.json").read_text())["DatasetLinks"]
    assert links["tool"] == "../tool"
    again = r2star("app", *finished.words)
    assert again.returncode == 0, again.stderr
    assert "Nothing to do" in again.stdout


def test_the_validator_accepts_the_dataset(
    finished: Finished, bids_errors: Callable[[Path], list[Any]]
) -> None:
    assert bids_errors(finished.out) == []


def times_of(work: Path, name: str) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in work.rglob(f"{name}/record.json")}


def test_a_changed_option_redoes_what_depends_on_it_and_no_more(finished: Finished, r2star: Run) -> None:
    """Iron is asked for as well: refused without --force, then only the tables are made anew."""
    work = finished.out.parent / "work"
    refused = r2star("app", *finished.words, "--iron", "gelman1999-hallgren1958")
    assert refused.returncode == 2
    assert "(iron)" in refused.stderr
    before = {name: times_of(work, name) for name in ("register", "fit", "labels", "table")}
    assert all(before.values())
    done = r2star("app", *finished.words, "--iron", "gelman1999-hallgren1958", "--force")
    assert done.returncode == 0, done.stderr
    for name in ("register", "fit", "labels"):
        assert times_of(work, name) == before[name]
    after = times_of(work, "table")
    assert after.keys() == before["table"].keys()
    assert all(after[path] > before["table"][path] for path in after)
    row = rows_of(finished.out, "02")["putamen", "L"]
    iron = (float(row["r2star_median_per_s"]) - 14.9) / 0.109
    assert float(row["iron_mg_per_kg"]) == pytest.approx(iron, rel=1e-4)
    assert row["calibration"] == "gelman1999-hallgren1958"
