"""From noisy complex echoes to R2*: what correction recovers, and what the prediction says without it."""

from __future__ import annotations

import numpy as np
import pytest

from r2star.field import (
    GAMMA_HZ_PER_UT,
    choose_dephasing,
    dephasing_factor,
    estimate_b0,
    fit_gradient,
    predict_bias_map,
)
from r2star.fit import fit_decay

TIMES = np.linspace(0.005, 0.029, 8)
SHAPE = (14, 14, 10)
SNR = 60.0


def _measure(sum_over_spins, polar, size_mm, rate, gradient, kind="2D", seed=0):
    """Magnitude (…, E), gradient and model as they come out of the noisy phase."""
    voxel = (size_mm,) * 3
    slopes = np.array([15.0, -10.0, gradient]) if kind == "2D" else gradient * np.array([0.5, 0.3, 0.8])
    slopes = slopes * GAMMA_HZ_PER_UT * 1e-3
    lengths = voxel if kind == "3D" else (0.0, 0.0, size_mm)
    signal, _ = sum_over_spins(
        SHAPE, voxel, lambda x, y, z: 25 + slopes[0] * x + slopes[1] * y + slopes[2] * z,
        rate, TIMES, lengths, snr=SNR, seed=seed, n_spins=8 if kind == "3D" else 32,
    )  # fmt: skip
    mask = np.ones(SHAPE, bool)
    b0 = estimate_b0(*polar(signal, mask), mask, TIMES)
    found = fit_gradient(b0.b0_hz, voxel, b0.b0_se_hz).ut_per_m
    return np.moveaxis(np.abs(signal), 0, -1), found, choose_dephasing(kind, size_mm, voxel)


@pytest.mark.parametrize("method", ["nonlinear", "weighted", "rician"])
@pytest.mark.parametrize("rate", [20.0, 40.0, 60.0])
@pytest.mark.parametrize(
    ("size_mm", "gradient"), [(1, 200), (2, 0), (2, 75), (2, 150), (3, 100), (4, 75), (4, 100)]
)
def test_correction_brings_r2star_back_within_two_percent(
    sum_over_spins, polar, method, rate, size_mm, gradient
):
    magnitude, found, model = _measure(sum_over_spins, polar, size_mm, rate, gradient)
    factor = dephasing_factor(found, TIMES, model)
    sigma = 1 / SNR if method == "rician" else None
    corrected = fit_decay(magnitude, TIMES, method, noise_sigma=sigma, dephasing=factor)
    assert np.nanmedian(corrected.r2star_per_s) == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize("rate", [20.0, 40.0, 60.0])
@pytest.mark.parametrize("gradient", [0.0, 50.0, 100.0, 150.0, 200.0])
@pytest.mark.parametrize("size_mm", [1.0, 2.0, 4.0])
def test_prediction_is_the_real_bias(sum_over_spins, polar, size_mm, gradient, rate):
    magnitude, found, model = _measure(sum_over_spins, polar, size_mm, rate, gradient, seed=1)
    plain = fit_decay(magnitude, TIMES, "nonlinear").r2star_per_s
    predicted = np.nanmedian(predict_bias_map(plain, found, TIMES, model))
    real = np.nanmedian(plain) - rate
    assert predicted == pytest.approx(real, rel=0.1, abs=0.3)


def test_the_uncorrected_fit_is_as_wrong_as_it_should_be(sum_over_spins, polar):
    magnitude, _, _ = _measure(sum_over_spins, polar, 2.0, 30.0, 150.0)
    plain = np.nanmedian(fit_decay(magnitude, TIMES, "nonlinear").r2star_per_s)
    assert plain / 30.0 - 1 == pytest.approx(0.28, abs=0.01)


def test_a_3d_voxel_is_corrected_along_all_axes(sum_over_spins, polar):
    magnitude, found, model = _measure(sum_over_spins, polar, 2.0, 40.0, 150.0, kind="3D")
    plain = fit_decay(magnitude, TIMES, "nonlinear").r2star_per_s
    corrected = fit_decay(magnitude, TIMES, "nonlinear", dephasing=dephasing_factor(found, TIMES, model))
    assert np.nanmedian(plain) > 46
    assert np.nanmedian(corrected.r2star_per_s) == pytest.approx(40.0, rel=0.02)
    predicted = np.nanmedian(predict_bias_map(plain, found, TIMES, model))
    assert predicted == pytest.approx(np.nanmedian(plain) - 40.0, rel=0.1, abs=0.3)
