"""The dephasing factor against spins summed one by one, and the choice of its model."""

from __future__ import annotations

import numpy as np
import pytest

from r2star.field import GAMMA_HZ_PER_UT, choose_dephasing, dephasing_factor, iterate_dephasing

TIMES = np.linspace(0.005, 0.04, 8)


@pytest.mark.parametrize("size_mm", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("gradient", [0.0, 50.0, 100.0, 200.0])
def test_a_slice_dephases_like_the_sum_of_its_spins(sum_over_spins, size_mm, gradient):
    voxel = (size_mm,) * 3
    signal, _ = sum_over_spins((1, 1, 1), voxel, lambda x, y, z: 80 * x + gradient * GAMMA_HZ_PER_UT * 1e-3 * z,
                               0.0, TIMES, (0, 0, size_mm), snr=0, n_spins=400)  # fmt: skip
    model = choose_dephasing("2D", size_mm, voxel)
    got = dephasing_factor(np.array([1878.0, 0.0, gradient]), TIMES, model)
    np.testing.assert_allclose(got, np.abs(signal[:, 0, 0, 0]), atol=2e-5)


def test_a_voxel_of_a_3d_acquisition_dephases_along_all_its_edges(sum_over_spins):
    voxel, gradient = (1.0, 2.0, 3.0), np.array([90.0, -60.0, 75.0])
    slopes = gradient * GAMMA_HZ_PER_UT * 1e-3
    signal, _ = sum_over_spins((1, 1, 1), voxel, lambda x, y, z: 12 + slopes[0] * x + slopes[1] * y + slopes[2] * z,
                               0.0, TIMES, voxel, snr=0, n_spins=16)  # fmt: skip
    got = dephasing_factor(gradient, TIMES, choose_dephasing("3D", None, voxel))
    np.testing.assert_allclose(got, np.abs(signal[:, 0, 0, 0]), atol=2e-3)


@pytest.mark.parametrize(
    ("kind", "thickness", "reason"),
    [(None, 2.0, "MRAcquisitionType is missing"), ("", 2.0, "MRAcquisitionType is missing"),
     ("4D", 2.0, "MRAcquisitionType is 4D"), ("2D", None, "SliceThickness is missing"),
     ("2D", 0.0, "SliceThickness is missing"), ("2D", float("nan"), "SliceThickness is missing")],
)  # fmt: skip
def test_what_is_missing_turns_the_factor_off_and_is_named(kind, thickness, reason):
    model = choose_dephasing(kind, thickness, (1.0, 1.0, 2.0))
    assert not model.known
    assert model.reason.startswith(reason)
    assert "\n" not in model.reason
    assert (dephasing_factor(np.array([200.0, 200.0, 200.0]), TIMES, model) == 1).all()


def test_slices_of_a_sagittal_acquisition_lie_along_their_own_axis():
    model = choose_dephasing("2D", 3.0, (3.3, 1.0, 1.0), slice_axis=0)
    assert model.lengths_mm == (3.0, 0.0, 0.0)


def test_slabs_join_to_the_whole_and_unknown_gradients_leave_the_signal():
    gradient = np.random.default_rng(0).normal(0, 80, (6, 5, 7, 3))
    gradient[2, 2, 2] = np.nan
    gradient[:, :, 3:6] = np.nan  # a whole slab outside the brain
    model = choose_dephasing("2D", 2.0, (2.0, 2.0, 2.0))
    slabs = list(iterate_dephasing(gradient, TIMES, model, depth=3))
    assert [slab.shape for slab in slabs] == [(6, 5, 3, 8), (6, 5, 3, 8), (6, 5, 1, 8)]
    joined = np.concatenate(slabs, axis=2)
    assert (joined[2, 2, 2] == 1).all()
    whole = dephasing_factor(gradient, TIMES, model)
    known = np.isfinite(whole)
    assert 0.5 < known.mean() < 0.6
    assert (joined[:, :, 3:6] == 1).all()
    assert (joined[known] == whole[known]).all()
