"""Field steps from file to file: a head with planted field and gradient, what is told, and what is refused."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from r2star.errors import InputError
from r2star.field import GAMMA_HZ_PER_UT
from r2star.fit import fit_decay
from r2star.images import Grid, read_image, write_image
from r2star.steps.field import estimate_b0, predict_gradient_bias, read_dephasing
from r2star.steps.fit import fit_maps

TIMES = (0.005, 0.010, 0.015, 0.020, 0.025, 0.030)
SHAPE = (26, 28, 18)
GRID = Grid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))
RATE, GRADIENT = 30.0, 120.0
SLICES_OF_2_MM = {"MRAcquisitionType": "2D", "SliceThickness": 2.0, "Units": "arbitrary"}


def _field_hz():
    x, y, z = np.meshgrid(*((np.arange(n) - n / 2) * 2.0 for n in SHAPE), indexing="ij")
    return 40 + GAMMA_HZ_PER_UT * 1e-3 * GRADIENT * z + 1.2 * x - 0.7 * y


def _mask():
    axes = np.meshgrid(*((np.arange(n) - (n - 1) / 2) / (n / 2) for n in SHAPE), indexing="ij")
    return sum(axis**2 for axis in axes) < 0.95


def _spins_hz(n_spins=32):
    return ((np.arange(n_spins) + 0.5) / n_spins - 0.5) * 2.0 * GAMMA_HZ_PER_UT * 1e-3 * GRADIENT


@pytest.fixture
def head(tmp_path):
    """Six echoes of a head in slices of 2 mm, phase as −4096..4094, with noise in the air; and a brain mask."""
    rng = np.random.default_rng(11)
    mask, phases, magnitudes = _mask(), [], []
    for number, time in enumerate(TIMES, start=1):
        spins = np.exp(2j * np.pi * _spins_hz() * time).mean()
        signal = 1000 * np.exp((2j * np.pi * _field_hz() - RATE) * time + 1j) * spins * mask
        signal = signal + (rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE)) * 1000 / 60
        stored = 2 * np.floor(np.angle(signal) / np.pi * 2048)
        phases.append(write_image(tmp_path / f"echo-{number}_part-phase_MEGRE.nii.gz", stored, GRID))
        magnitudes.append(write_image(tmp_path / f"echo-{number}_MEGRE.nii.gz", np.abs(signal), GRID))
    brain = write_image(tmp_path / "brain_mask.nii.gz", mask, GRID, dtype=np.uint8)
    return tuple(phases), tuple(magnitudes), brain


def test_field_and_gradient_come_back_with_their_facts(head, tmp_path):
    phase, magnitude, brain = head
    maps = estimate_b0(phase, magnitude, brain, TIMES, tmp_path, sidecar=SLICES_OF_2_MM)
    mask, b0 = _mask(), read_image(maps.b0_map).data
    assert np.ptp(_field_hz()[mask]) * TIMES[-1] > 2
    assert np.median(np.abs(b0 - _field_hz())[mask]) < 1.0
    assert np.isnan(b0[~mask]).all()
    gradient = read_image(maps.gradient_map).data
    assert gradient.shape == (*SHAPE, 3)
    assert np.median(gradient[mask][:, 2]) == pytest.approx(GRADIENT, abs=1.0)
    facts = json.loads(maps.facts.read_text())
    assert facts["PhaseUnit"]["name"] == "-4096..4094"
    assert facts["Dephasing"]["lengths_mm"] == [0.0, 0.0, 2.0]
    assert not facts["ReadoutAlternation"]["found"]
    assert maps.notices == ()


def test_every_map_has_a_sidecar_with_its_unit(head, tmp_path):
    phase, magnitude, brain = head
    maps = estimate_b0(phase, magnitude, brain, TIMES, tmp_path, sidecar=SLICES_OF_2_MM)
    told = {
        path.name.removesuffix(".json"): json.loads(path.read_text())
        for path in maps.derivatives
        if path.suffix == ".json"
    }
    units = {name: content["Units"] for name, content in told.items()}
    assert units == {
        "desc-B0_fieldmap": "Hz",
        "desc-B0stderr_fieldmap": "Hz",
        "desc-gradient_fieldmap": "uT/m",
        "desc-gradientstderr_fieldmap": "uT/m",
        "magnitude": "arbitrary",
    }
    assert all(content["SkullStripped"] == (name != "magnitude") for name, content in told.items())
    assert all((tmp_path / f"{name}.nii.gz").is_file() for name in told)
    mean = np.mean([read_image(path).data for path in magnitude], axis=0)
    np.testing.assert_allclose(read_image(tmp_path / "magnitude.nii.gz").data, mean, rtol=1e-5)


def test_order_of_the_files_does_not_matter(head, tmp_path):
    phase, magnitude, brain = head
    order = (3, 0, 5, 1, 4, 2)
    sorted_dir, mixed_dir = tmp_path / "sorted", tmp_path / "mixed"
    sorted_dir.mkdir()
    mixed_dir.mkdir()
    first = estimate_b0(phase, magnitude, brain, TIMES, sorted_dir, sidecar=SLICES_OF_2_MM)
    second = estimate_b0(
        tuple(phase[i] for i in order), tuple(magnitude[i] for i in order), brain,
        tuple(TIMES[i] for i in order), mixed_dir, sidecar=SLICES_OF_2_MM,
    )  # fmt: skip
    assert first.b0_map.read_bytes() == second.b0_map.read_bytes()
    assert first.gradient_map.read_bytes() == second.gradient_map.read_bytes()


def test_bias_is_predicted_and_correction_removes_it(head, tmp_path):
    phase, magnitude, brain = head
    maps = estimate_b0(phase, magnitude, brain, TIMES, tmp_path, sidecar=SLICES_OF_2_MM)
    signal = np.stack([read_image(path).data for path in magnitude], axis=-1)
    plain = fit_decay(signal, TIMES, "nonlinear").r2star_per_s
    fitted = write_image(tmp_path / "R2starmap.nii.gz", plain, GRID)
    bias = predict_gradient_bias(fitted, TIMES, tmp_path, gradient_map=maps.gradient_map, facts=maps.facts)
    mask = _mask()
    real = np.median(plain[mask]) - RATE
    assert real > 4
    predicted = read_image(bias.bias_map).data
    assert np.median(predicted[mask]) == pytest.approx(real, rel=0.1)
    assert np.isnan(predicted[~mask]).all()
    sidecar = json.loads(bias.derivatives[1].read_text())
    assert sidecar["Units"] == "1/s"
    assert sidecar["ShareAbove1PerS"] > 0.9

    slabs = [
        fit_decay(signal[:, :, start : start + 5], TIMES, "nonlinear", dephasing=factor).r2star_per_s
        for start, factor in zip(
            range(0, SHAPE[2], 5), read_dephasing(maps.gradient_map, maps.facts, TIMES, depth=5)
        )
    ]
    corrected = np.concatenate(slabs, axis=2)
    assert corrected.shape == SHAPE
    assert np.median(corrected[mask]) == pytest.approx(RATE, rel=0.02)
    np.testing.assert_allclose(corrected[~mask], plain[~mask], rtol=1e-4, atol=1e-3)

    true = write_image(tmp_path / "corrected_R2starmap.nii.gz", corrected, GRID)
    removed = predict_gradient_bias(
        true, TIMES, tmp_path, gradient_map=maps.gradient_map, facts=maps.facts, corrected=True
    )
    assert np.median(read_image(removed.bias_map).data[mask]) == pytest.approx(real, rel=0.1)


@pytest.mark.parametrize(
    ("sidecar", "named"),
    [
        ({}, "MRAcquisitionType"),
        ({"MRAcquisitionType": "2D"}, "SliceThickness"),
        ({"MRAcquisitionType": "2D", "SliceThickness": 0.002}, "does not fit"),
        ({"MRAcquisitionType": "2D", "SliceThickness": "thin"}, "SliceThickness"),
    ],
)
def test_missing_facts_turn_the_effect_off_in_one_line(head, tmp_path, sidecar, named):
    phase, magnitude, brain = head
    maps = estimate_b0(phase, magnitude, brain, TIMES, tmp_path, sidecar=sidecar)
    (notice,) = maps.notices
    assert notice.code == "W360"
    assert named in notice.message
    assert "\n" not in notice.message
    assert np.isfinite(read_image(maps.b0_map).data[_mask()]).all()
    files = {"gradient_map": maps.gradient_map, "facts": maps.facts}
    assert predict_gradient_bias(maps.b0_map, TIMES, tmp_path, **files).bias_map is None
    assert read_dephasing(maps.gradient_map, maps.facts, TIMES, depth=4) is None


def test_slices_along_another_axis_are_told_by_the_sidecar(head, tmp_path):
    phase, magnitude, brain = head
    sidecar = SLICES_OF_2_MM | {"SliceEncodingDirection": "i-"}
    maps = estimate_b0(phase, magnitude, brain, TIMES, tmp_path, sidecar=sidecar)
    assert json.loads(maps.facts.read_text())["Dephasing"]["lengths_mm"] == [2.0, 0.0, 0.0]


def test_alternating_readouts_are_warned_of(head, tmp_path):
    phase, magnitude, brain = head
    for path in phase[1::2]:
        shifted = (
            read_image(path).data + 1500 + 40 * np.arange(SHAPE[0])[:, None, None] + 4096
        ) % 8192 - 4096
        write_image(path, shifted, GRID)
    maps = estimate_b0(phase, magnitude, brain, TIMES, tmp_path, sidecar=SLICES_OF_2_MM)
    assert [notice.code for notice in maps.notices] == ["W361"]
    assert np.median(np.abs(read_image(maps.b0_map).data - _field_hz())[_mask()]) < 1.0


def test_a_brain_partly_without_signal_is_warned_of(head, tmp_path):
    phase, magnitude, brain = head
    cut = read_image(magnitude[2]).data.copy()
    cut[:, :, :6] = 0
    write_image(magnitude[2], cut, GRID)
    maps = estimate_b0(phase, magnitude, brain, TIMES, tmp_path, sidecar=SLICES_OF_2_MM)
    assert [notice.code for notice in maps.notices] == ["W362"]
    b0 = read_image(maps.b0_map).data
    assert np.isnan(b0[:, :, :6]).all()
    assert np.isfinite(b0[:, :, 6:][_mask()[:, :, 6:]]).all()


@pytest.mark.parametrize(
    ("code", "sidecar", "spoil"),
    [
        ("E360", {"Units": "rad"}, lambda stored: stored),
        ("E361", {}, lambda stored: stored * 0.37 + 900),
        ("E362", {}, lambda stored: stored * 0),
        ("E363", {}, lambda stored: stored * 0.01),
        ("E366", {}, lambda stored: np.where(_mask(), np.nan, stored)),
    ],
)
def test_phase_in_doubt_is_left_out_with_one_line_and_refused_where_it_is_required(
    head, tmp_path, code, sidecar, spoil
):
    phase, magnitude, brain = head
    for path in phase if code in ("E361", "E366") else phase[1:2]:
        write_image(path, spoil(read_image(path).data), GRID)
    maps = estimate_b0(phase, magnitude, brain, TIMES, tmp_path, sidecar=SLICES_OF_2_MM | sidecar)
    (notice,) = maps.notices
    assert notice.code == "W363"
    assert notice.path.endswith("_part-phase_MEGRE.nii.gz")
    assert "\n" not in notice.message
    assert (maps.b0_map, maps.gradient_map, maps.facts, maps.derivatives) == (None, None, None, ())
    assert not list(tmp_path.glob("desc-*"))
    fitted = fit_maps(magnitude, TIMES, tmp_path, gradient_map=maps.gradient_map, field_facts=maps.facts)
    assert predict_gradient_bias(fitted.r2star_map, TIMES, tmp_path).bias_map is None
    with pytest.raises(InputError, match=f"R2S-{code}") as caught:
        estimate_b0(phase, magnitude, brain, TIMES, tmp_path, sidecar=SLICES_OF_2_MM | sidecar, required=True)
    assert caught.value.path in map(str, phase)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("sidecar", "told"),
    [
        ({"AcquisitionVoxelSize": [2.0, 4.0, 2.0]}, "2×4×2 mm"),
        ({"AcquisitionMatrixPE": 14, "ReconMatrixPE": 28}, "14 to 28"),
        ({"SliceThickness": 4.0}, "4 mm"),
        ({"AcquisitionVoxelSize": [2.0, 2.0, 2.0], "AcquisitionMatrixPE": 28, "ReconMatrixPE": 28}, ""),
        ({"AcquisitionVoxelSize": "large", "AcquisitionMatrixPE": None, "SliceThickness": 2.0}, ""),
    ],
)
def test_interpolated_3d_images_are_warned_of(head, tmp_path, sidecar, told):
    phase, magnitude, brain = head
    sidecar = {"MRAcquisitionType": "3D"} | sidecar
    notices = estimate_b0(phase, magnitude, brain, TIMES, tmp_path, sidecar=sidecar).notices
    assert [notice.code for notice in notices] == (["W365"] if told else [])
    assert all(told in notice.message for notice in notices)


def test_another_grid_and_missing_echoes_are_refused(head, tmp_path):
    phase, magnitude, brain = head
    with pytest.raises(InputError, match="R2S-E364"):
        estimate_b0(phase[:-1], magnitude, brain, TIMES, tmp_path)
    smaller = Grid((26, 28, 17), GRID.affine)
    write_image(magnitude[3], np.ones(smaller.shape), smaller)
    with pytest.raises(InputError, match=r"R2S-E365.*26×28×17"):
        estimate_b0(phase, magnitude, brain, TIMES, tmp_path)


def test_a_mask_that_lies_elsewhere_is_refused(head, tmp_path):
    phase, magnitude, _ = head
    shifted = GRID.affine.copy()
    shifted[0, 3] += 4
    elsewhere = write_image(tmp_path / "shifted_mask.nii.gz", _mask(), Grid(SHAPE, shifted), dtype=np.uint8)
    with pytest.raises(InputError, match="R2S-E367"):
        estimate_b0(phase, magnitude, elsewhere, TIMES, tmp_path)


def test_the_fit_step_reads_the_gradient(head, tmp_path):
    phase, magnitude, brain = head
    maps = estimate_b0(phase, magnitude, brain, TIMES, tmp_path, sidecar=SLICES_OF_2_MM, n_threads=2)
    fitted = fit_maps(magnitude, TIMES, tmp_path, gradient_map=maps.gradient_map, field_facts=maps.facts)
    assert np.median(read_image(fitted.r2star_map).data[_mask()]) == pytest.approx(RATE, rel=0.02)


def test_the_real_crop_gives_a_plausible_map(shared_data, tmp_path):
    paths = {}
    for part in ("mag", "phase"):
        image = nib.load(shared_data / "real-crop" / f"{part}_4d.nii.gz")
        values, grid = np.asarray(image.dataobj, np.float32), Grid(image.shape[:3], image.affine)
        paths[part] = tuple(
            write_image(tmp_path / f"echo-{echo}_{part}.nii.gz", values[..., echo], grid) for echo in range(3)
        )
    brain = write_image(tmp_path / "mask.nii.gz", np.ones(grid.shape), grid, dtype=np.uint8)
    sidecar = {"MRAcquisitionType": "3D"}
    maps = estimate_b0(paths["phase"], paths["mag"], brain, (0.004, 0.008, 0.012), tmp_path, sidecar=sidecar)
    facts = json.loads(maps.facts.read_text())
    assert facts["PhaseUnit"]["name"] == "scaled"
    assert facts["B0PercentilesHz"]["99"] - facts["B0PercentilesHz"]["1"] < 400
    b0 = read_image(maps.b0_map).data
    assert max(np.abs(np.diff(b0, axis=axis)).max() for axis in range(3)) < 125
    gradient = read_image(maps.gradient_map).data
    for axis, size_mm in enumerate(grid.voxel_size_mm):
        central = np.gradient(b0, size_mm * 1e-3, axis=axis) / GAMMA_HZ_PER_UT
        assert np.median(gradient[..., axis]) == pytest.approx(np.median(central), abs=3.0)
    assert np.median(np.abs(gradient)) < 100
