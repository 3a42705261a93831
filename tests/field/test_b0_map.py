"""B0 from phase: against planted fields, with wraps, offsets, alternating readouts, and real data."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from r2star.errors import InputError
from r2star.field import estimate_b0, measure_phase_range, recognise_phase_unit

EVEN = np.linspace(0.005, 0.029, 8)
UNEVEN = np.array([0.004, 0.0075, 0.0125, 0.016, 0.023])
THREE = np.array([0.004, 0.008, 0.012])
TWO = np.array([0.00519, 0.00765])
SHAPE, VOXEL = (36, 40, 28), (3.0, 3.0, 3.0)


def _field(x, y, z):
    return 20 + 260 * np.exp(-((x - 5) ** 2 + (y - 30) ** 2 + (z + 25) ** 2) / 700) + 1.5 * x - 0.8 * y


def _head():
    axes = np.meshgrid(*((np.arange(n) - (n - 1) / 2) / (n / 2) for n in SHAPE), indexing="ij")
    return sum(axis**2 for axis in axes) < 0.9, axes


@pytest.mark.parametrize("times", [EVEN, UNEVEN, THREE, TWO], ids=["even", "uneven", "three", "two"])
def test_planted_field_with_wraps_comes_back_within_a_hertz(sum_over_spins, polar, times):
    mask, axes = _head()
    signal, truth = sum_over_spins(SHAPE, VOXEL, _field, 30.0, times, snr=60)
    signal = signal * np.exp(1j * (2.5 + 1.2 * axes[0] - 2 * axes[1]))  # coils' phase at echo time 0
    b0 = estimate_b0(*polar(signal, mask), mask, times)
    if times is not TWO:
        assert np.ptp(truth[mask]) * times[-1] > 2  # cycles across the brain at the last echo
    error = (b0.b0_hz - truth)[mask]
    assert np.median(np.abs(error)) < (1.0 if times is not TWO else 1.5)
    assert np.abs(error).max() < 0.25 * b0.ambiguity_hz
    assert not b0.alternation.found
    assert np.isnan(b0.b0_hz[~mask]).all()


@pytest.mark.parametrize("times", [EVEN, UNEVEN, THREE], ids=["even", "uneven", "three"])
def test_standard_error_is_the_scatter(sum_over_spins, polar, times):
    mask = np.ones((20, 20, 20), bool)
    signal, truth = sum_over_spins(mask.shape, VOXEL, lambda x, y, z: 10 + 0.5 * x, 30.0, times, snr=60)
    b0 = estimate_b0(*polar(signal, mask), mask, times)
    scatter = np.std(b0.b0_hz - truth)
    assert np.sqrt(np.mean(b0.b0_se_hz**2)) == pytest.approx(scatter, rel=0.08)


def test_two_echoes_leave_no_standard_error_and_alternation_untested(sum_over_spins, polar):
    mask = np.ones((6, 6, 6), bool)
    signal, _ = sum_over_spins(mask.shape, VOXEL, lambda x, y, z: 10 + 0 * x, 30.0, TWO)
    b0 = estimate_b0(*polar(signal, mask), mask, TWO)
    assert np.isnan(b0.b0_se_hz).all()
    assert not b0.alternation.tested


@pytest.mark.parametrize("times", [EVEN, UNEVEN, THREE], ids=["even", "uneven", "three"])
@pytest.mark.parametrize("constant_and_slope", [(0.6, 0.05), (1.2, -0.12), (3.0, 0.02)])
def test_alternating_readouts_are_found_and_taken_out(sum_over_spins, polar, times, constant_and_slope):
    mask, _ = _head()
    constant, slope = constant_and_slope
    signal, truth = sum_over_spins(SHAPE, VOXEL, _field, 30.0, times, snr=60)
    signal[1::2] *= np.exp(1j * (constant + slope * np.arange(SHAPE[0])))[:, None, None]
    b0 = estimate_b0(*polar(signal, mask), mask, times)
    assert b0.alternation.found
    assert b0.alternation.slope_rad_per_voxel[0] == pytest.approx(slope, abs=2e-3)
    assert np.abs(b0.alternation.slope_rad_per_voxel[1:]).max() < 2e-3
    error = (b0.b0_hz - truth)[mask]
    assert np.median(np.abs(error)) < 1.0
    assert np.abs(error).max() < 0.25 * b0.ambiguity_hz


def test_one_echo_off_the_line_is_told(sum_over_spins, polar):
    mask = np.ones((12, 12, 12), bool)
    signal, _ = sum_over_spins(mask.shape, VOXEL, lambda x, y, z: 15 + 0.5 * x, 20.0, EVEN, snr=60)
    signal[4] *= np.exp(0.3j)
    offsets = np.array(estimate_b0(*polar(signal, mask), mask, EVEN).echo_offset_rad)
    assert np.argmax(np.abs(offsets)) == 4
    # a weighted line takes a part of the offset along
    assert 0.15 < offsets[4] < 0.3


def test_voxels_without_signal_get_no_estimate(sum_over_spins, polar):
    mask = np.ones((8, 8, 8), bool)
    signal, truth = sum_over_spins(mask.shape, VOXEL, lambda x, y, z: 5 + 0 * x, 20.0, EVEN)
    signal[3, 2, 2, 2] = np.nan
    signal[0, 5, 5, 5] = 0
    b0 = estimate_b0(*polar(signal, mask), mask, EVEN)
    assert np.argwhere(np.isnan(b0.b0_hz)).tolist() == [[2, 2, 2], [5, 5, 5]]
    assert np.nanmedian(np.abs(b0.b0_hz - truth)) < 1.0


@pytest.mark.parametrize(("times", "code"), [(EVEN[:1], "E364"), (EVEN[::-1], "E364"), (EVEN[:3], "E364")])
def test_echo_times_that_do_not_fit_are_refused(times, code):
    ones = np.ones((8 if times.size > 3 else 1, 8), np.float32)
    with pytest.raises(InputError) as caught:
        estimate_b0(ones, ones, np.ones((2, 2, 2), bool), times)
    assert caught.value.code == code


def test_a_mask_without_signal_is_refused():
    with pytest.raises(InputError) as caught:
        estimate_b0(*np.zeros((2, 8, 8), np.float32), np.ones((2, 2, 2), bool), EVEN)
    assert caught.value.code == "E366"


def test_real_crop_unwraps_without_a_jump(shared_data, polar):
    folder = shared_data / "real-crop"
    stored = np.asarray(nib.load(folder / "phase_4d.nii.gz").dataobj, np.float32)
    magnitude = np.asarray(nib.load(folder / "mag_4d.nii.gz").dataobj, np.float32)
    unit = recognise_phase_unit([measure_phase_range(stored[..., echo]) for echo in range(3)])
    assert unit.name == "scaled"
    mask = np.ones(stored.shape[:3], bool)
    signal = np.moveaxis(magnitude * np.exp(1j * unit.to_radians(stored)), -1, 0)
    b0 = estimate_b0(*polar(signal, mask), mask, THREE)
    assert not b0.alternation.found
    assert np.isfinite(b0.b0_hz).all()
    for axis in range(3):
        assert np.abs(np.diff(b0.b0_hz, axis=axis)).max() < 0.5 * b0.ambiguity_hz
    # more than the ±125 Hz of one cycle between echoes, less than what a shimmed 7 T head shows
    assert 100 < np.ptp(np.percentile(b0.b0_hz, [1, 99])) < 600
    # the line explains the phase: a tenth of a cycle at most, in nearly all voxels
    assert np.percentile(b0.residual_rad, 99) < 0.1 * 2 * np.pi
