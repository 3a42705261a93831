"""The written dataset: valid BIDS, and what is planted is found again by independent means."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage, optimize

from r2star.simulate.brain import BrainPlan, draw_person
from r2star.steps.simulate import TRUTH_COLUMNS, write_brains

SIGMA = 1000.0 / 80.0


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def values(path: Path) -> np.ndarray:
    return nib.load(path).get_fdata(dtype=np.float32)


@pytest.fixture(scope="module")
def anat(quick_dataset: Path) -> Path:
    return quick_dataset / "sub-01" / "anat"


@pytest.fixture(scope="module")
def truth(quick_dataset: Path) -> Path:
    return quick_dataset / "derivatives" / "truth" / "sub-01" / "anat"


@pytest.fixture(scope="module")
def echoes(anat: Path) -> np.ndarray:
    return np.stack([values(anat / f"sub-01_echo-{k}_part-mag_MEGRE.nii.gz") for k in range(1, 5)])


@pytest.fixture(scope="module")
def labels(truth: Path) -> np.ndarray:
    return np.asarray(nib.load(truth / "sub-01_seg-truth_dseg.nii.gz").dataobj)


def test_validator_finds_no_error(quick_dataset: Path, bids_errors: Callable[[Path], list[Any]]):
    for folder in (quick_dataset, quick_dataset / "derivatives" / "truth"):
        assert bids_errors(folder) == []


def test_sidecars_hold_the_plan(anat: Path, quick_plan: BrainPlan):
    for k, time in enumerate(quick_plan.echo_times_s, 1):
        sidecar = json.loads((anat / f"sub-01_echo-{k}_part-mag_MEGRE.json").read_text())
        assert sidecar["EchoTime"] == time
        assert (sidecar["MagneticFieldStrength"], sidecar["MRAcquisitionType"]) == (3.0, "3D")
        assert sidecar["SliceThickness"] == pytest.approx(3.0)
        phase = json.loads((anat / f"sub-01_echo-{k}_part-phase_MEGRE.json").read_text())
        assert phase["Units"] == "rad"


def test_truth_table_has_a_row_for_each_region_and_side(quick_dataset: Path, template):
    rows = table(quick_dataset / "truth.tsv")
    assert tuple(rows[0]) == TRUTH_COLUMNS
    assert len(rows) == 2 * len(template.regions)
    described = json.loads((quick_dataset / "truth.json").read_text())
    assert tuple(described) == TRUTH_COLUMNS
    participants = {row["participant_id"]: row for row in table(quick_dataset / "participants.tsv")}
    assert set(participants) == {"sub-01", "sub-02"}
    assert {row["group"] for row in participants.values()} == {"control", "patient"}
    assert all(row["age"] == participants[row["participant_id"]]["age"] for row in rows)


def test_truth_table_counts_what_the_label_image_holds(quick_dataset: Path, labels: np.ndarray):
    for row in table(quick_dataset / "truth.tsv"):
        if row["participant_id"] != "sub-01":
            continue
        indices = [int(index) for index in row["index"].split("+")]
        count = int(np.isin(labels, indices).sum())
        assert int(row["n_voxels"]) == count
        assert float(row["volume_mm3"]) == pytest.approx(count * 12.0, rel=0.15, abs=60)


def test_planted_r2star_is_found_by_an_independent_fit(
    quick_dataset: Path, echoes: np.ndarray, labels: np.ndarray, quick_plan: BrainPlan
):
    times = np.array(quick_plan.echo_times_s)
    for row in table(quick_dataset / "truth.tsv"):
        planted = float(row["r2star_per_s"])
        inside = ndimage.binary_erosion(np.isin(labels, [int(index) for index in row["index"].split("+")]))
        calm = row["region"] in ("putamen", "thalamus")  # large, and far from the sinuses
        if row["participant_id"] != "sub-01" or not calm:
            continue
        mean = echoes[:, inside].mean(axis=1)
        (_, rate), _ = optimize.curve_fit(lambda t, a, r: a * np.exp(-r * t), times, mean, p0=(1000, 25))
        assert rate == pytest.approx(planted, rel=0.02), row["region"]


def test_sides_are_kept(truth: Path, labels: np.ndarray):
    image = nib.load(truth / "sub-01_seg-truth_dseg.nii.gz")
    assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
    for left, right in ((1, 101), (2, 102), (8, 108)):
        x_left, x_right = (
            nib.affines.apply_affine(image.affine, np.argwhere(labels == label)).mean(axis=0)[0]
            for label in (left, right)
        )
        assert x_right - x_left > 5


def test_true_map_is_flat_in_regions_and_nan_outside_the_brain(
    quick_dataset: Path, truth: Path, labels: np.ndarray
):
    true_map = values(truth / "sub-01_R2starmap.nii.gz")
    brain = values(truth / "sub-01_desc-brain_mask.nii.gz") > 0
    assert np.isfinite(true_map[brain]).all()
    assert np.isnan(true_map[~brain]).all()
    for row in table(quick_dataset / "truth.tsv"):
        if row["participant_id"] == "sub-01":
            inside = np.isin(labels, [int(index) for index in row["index"].split("+")])
            np.testing.assert_allclose(true_map[inside], float(row["r2star_per_s"]), rtol=1e-4)
    assert 1.1e6 < brain.sum() * 12 < 2.4e6


def test_noise_of_the_background_is_rayleigh(echoes: np.ndarray):
    air = np.concatenate([echoes[:, :8, :8, -8:].ravel(), echoes[:, -8:, :8, -8:].ravel()])
    assert air.mean() == pytest.approx(SIGMA * np.sqrt(np.pi / 2), rel=0.02)
    assert np.sqrt((air**2).mean() / 2) == pytest.approx(SIGMA, rel=0.02)


def test_phase_turns_with_the_true_field(anat: Path, truth: Path, echoes: np.ndarray, quick_plan: BrainPlan):
    phase = [values(anat / f"sub-01_echo-{k}_part-phase_MEGRE.nii.gz") for k in (1, 2)]
    b0_hz = values(truth / "sub-01_desc-B0_fieldmap.nii.gz")
    interval = quick_plan.echo_times_s[1] - quick_plan.echo_times_s[0]
    assert max(np.abs(one).max() for one in phase) <= np.pi + 1e-6
    bright = echoes[1] > 500
    turned = np.angle(np.exp(1j * (phase[1] - phase[0] - 2 * np.pi * b0_hz * interval)))[bright]
    assert abs(turned.mean()) < 0.002
    assert turned.std() < 0.05
    assert np.abs(b0_hz[bright]).max() > 60


def test_t1w_and_megre_show_the_same_head_in_the_same_place(anat: Path, truth: Path):
    """Fluid, known by its true R2*, is dark on the T1w, and a voxel of 3 mm aside it is less so in each direction."""
    t1w, r2star = nib.load(anat / "sub-01_T1w.nii.gz"), nib.load(truth / "sub-01_R2starmap.nii.gz")
    rate, seen = r2star.get_fdata(), t1w.get_fdata(dtype=np.float32)
    brain = np.argwhere(np.isfinite(rate))[::7]
    fluid = rate[tuple(brain.T)] < 8
    index = nib.affines.apply_affine(np.linalg.inv(t1w.affine) @ r2star.affine, brain).T

    def darkness(step: np.ndarray) -> float:
        values = ndimage.map_coordinates(seen, index + step[:, None], order=1)
        return float(np.median(values[fluid]) / np.median(values[~fluid]))

    in_place = darkness(np.zeros(3))
    assert in_place < 0.55
    assert all(darkness(sign * step) > in_place + 0.03 for step in np.eye(3) for sign in (-1, 1))


def test_people_and_anatomies_differ(quick_dataset: Path, labels: np.ndarray):
    rows = table(quick_dataset / "truth.tsv")
    volumes = [
        [float(row["volume_mm3"]) for row in rows if row["participant_id"] == who]
        for who in ("sub-01", "sub-02")
    ]
    relative = np.array(volumes[0]) / np.array(volumes[1])
    assert relative.std() > 0.03
    folder = quick_dataset / "derivatives" / "truth" / "sub-02" / "anat"
    description = json.loads((folder / "sub-02_seg-truth_dseg.json").read_text())
    assert description["JacobianDeterminantRange"][0] > 0.3


def test_same_seed_same_bytes_and_sessions_of_one_anatomy(tmp_path: Path):
    plan = BrainPlan((0.005, 0.02), (4.0, 4.0, 4.0), None, phase=False, n_sessions=2, interval_years=10.0)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write_brains(tmp_path / name, plan, n_participants=1, seed=3)
    files = sorted(
        path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()
    )
    assert len(files) > 20
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
    assert not list(tmp_path.rglob("*T1w*"))

    rows = table(tmp_path / "one" / "truth.tsv")
    first, second = ([row for row in rows if row["session_id"] == f"ses-{k}"] for k in (1, 2))
    assert float(second[0]["age"]) - float(first[0]["age"]) == pytest.approx(10.0)
    for before, after in zip(first, second, strict=True):
        assert float(after["volume_mm3"]) == pytest.approx(float(before["volume_mm3"]), rel=1e-5)
    putamen = [
        float(row["r2star_per_s"]) for row in rows if row["region"] == "putamen" and row["hemisphere"] == "L"
    ]
    age = float(first[0]["age"])
    growth = 0.109 * 146.2 * (np.exp(-0.04 * age) - np.exp(-0.04 * (age + 10)))
    assert putamen[1] - putamen[0] == pytest.approx(growth, abs=2e-4)


def test_another_seed_is_another_person(template):
    one, other = (draw_person(template.regions, seed, 0) for seed in (1, 2))
    assert one.age_years != other.age_years
    assert not np.array_equal(one.size, other.size)
    assert draw_person(template.regions, 1, 0).shift_per_s == one.shift_per_s


def test_regions_of_many_people_scatter_as_planted(template):
    people = [draw_person(template.regions, 5, number) for number in range(400)]
    names = [(name, side) for name, side, _ in template.regions]
    shifts = np.array([person.shift_per_s for person in people])
    putamen, caudate = names.index(("putamen", "L")), names.index(("caudate", "L"))
    assert shifts[:, putamen].std() == pytest.approx(np.hypot(3.0, 0.4), rel=0.12)
    assert shifts.mean() == pytest.approx(0, abs=0.3)
    assert np.corrcoef(shifts[:, putamen], shifts[:, caudate])[0, 1] == pytest.approx(0.36, abs=0.12)
