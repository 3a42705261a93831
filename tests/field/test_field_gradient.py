"""Gradient of B0: exact on planes, the rim included; its error against scatter; against an independent fit."""

from __future__ import annotations

import numpy as np
import pytest

from r2star.field.gradient import GAMMA_HZ_PER_UT, fit_gradient

RNG = np.random.default_rng(7)


def _plane(shape, voxel_mm, gradient_ut_per_m):
    axes = np.meshgrid(*(np.arange(n) * size * 1e-3 for n, size in zip(shape, voxel_mm)), indexing="ij")
    return 30 + GAMMA_HZ_PER_UT * sum(g * axis for g, axis in zip(gradient_ut_per_m, axes))


def test_gamma_is_the_codata_value():
    from scipy.constants import physical_constants

    value, unit, _ = physical_constants["proton gyromag. ratio in MHz/T"]
    assert unit == "MHz T^-1"
    assert pytest.approx(value, rel=1e-8) == GAMMA_HZ_PER_UT


@pytest.mark.parametrize("voxel_mm", [(2.0, 2.0, 2.0), (0.5, 0.5, 1.0), (1.0, 1.0, 4.0)])
def test_a_plane_is_exact_everywhere_in_a_ragged_mask(voxel_mm):
    shape, planted = (18, 16, 12), (37.0, -81.0, 150.0)
    b0 = _plane(shape, voxel_mm, planted)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    mask = (x**2 + y**2 + z**2 < 0.9) & ~((x > 0.2) & (np.abs(y) < 0.15))
    got = fit_gradient(np.where(mask, b0, np.nan), voxel_mm).ut_per_m
    assert np.isnan(got[~mask]).all()
    known = np.isfinite(got).all(axis=-1)
    assert known[mask].mean() > 0.99
    np.testing.assert_allclose(got[known], np.broadcast_to(planted, (known.sum(), 3)), rtol=1e-3, atol=0.05)


def test_each_voxel_is_the_least_squares_plane_of_its_neighbours():
    b0 = RNG.normal(0, 20, (7, 6, 5))
    mask = RNG.uniform(size=b0.shape) < 0.7
    b0[~mask] = np.nan
    got = fit_gradient(b0, (2.0, 2.0, 2.5)).ut_per_m
    for voxel in np.argwhere(mask):
        near = np.argwhere(
            mask & (np.abs(np.indices(b0.shape) - voxel[:, None, None, None]).max(axis=0) <= 1)
        )
        design = np.column_stack([np.ones(len(near)), (near - voxel) * (2.0, 2.0, 2.5)])
        if np.linalg.matrix_rank(design) < 4:
            continue
        slope = np.linalg.lstsq(design, b0[tuple(near.T)], rcond=None)[0][1:]
        np.testing.assert_allclose(got[tuple(voxel)], slope * 1e3 / GAMMA_HZ_PER_UT, rtol=2e-3, atol=1.0)


def test_a_single_slice_has_no_gradient_across_it():
    b0 = _plane((9, 8, 1), (2.0, 2.0, 2.0), (40.0, 10.0, 0.0))
    got = fit_gradient(b0, (2.0, 2.0, 2.0)).ut_per_m
    np.testing.assert_allclose(got[..., 0], 40.0, atol=0.05)
    np.testing.assert_allclose(got[..., 1], 10.0, atol=0.05)
    assert np.isnan(got[..., 2]).all()


def test_a_lonely_voxel_has_none():
    b0 = np.full((5, 5, 5), np.nan)
    b0[2, 2, 2] = 7.0
    assert np.isnan(fit_gradient(b0, (2.0, 2.0, 2.0)).ut_per_m).all()


def test_the_standard_error_is_the_scatter_inside_and_at_the_rim():
    sigma, shape = 0.4, (60, 20, 20)
    noise = RNG.normal(0, sigma, shape)
    got = fit_gradient(noise, (2.0, 2.0, 2.0), np.full(shape, sigma))
    inside = (slice(1, -1),) * 3
    for axis in range(3):
        scatter, error = got.ut_per_m[inside][..., axis].std(), got.se_ut_per_m[inside][..., axis]
        assert np.median(error) == pytest.approx(scatter, rel=0.06)
    face = got.ut_per_m[0, 1:-1, 1:-1, 0]
    assert np.median(got.se_ut_per_m[0, 1:-1, 1:-1, 0]) == pytest.approx(face.std(), rel=0.15)
