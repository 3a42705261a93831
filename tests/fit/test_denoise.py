"""MP-PCA through dipy: less noise, the same R2*."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from r2star.errors import EnvironmentFault, InputError
from r2star.fit import denoise_mppca, fit_decay
from r2star.fit.denoise import residual_change

TIMES = np.arange(1, 9) * 0.004


def tissue() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    r2star = np.broadcast_to(np.linspace(15, 45, 12)[:, None, None], (12, 12, 12))
    clean = 800 * np.exp(-r2star[..., None] * TIMES)
    return np.hypot(clean + rng.normal(0, 20, clean.shape), rng.normal(0, 20, clean.shape)), r2star


def test_noise_falls_and_r2star_stays() -> None:
    pytest.importorskip("dipy", reason="the extra 'denoise' is not installed")
    signal, r2star = tissue()
    denoised = denoise_mppca(signal)
    before, after = fit_decay(signal.astype(np.float32), TIMES), fit_decay(denoised.signal, TIMES)
    assert np.std(after.r2star_per_s - r2star) < 0.65 * np.std(before.r2star_per_s - r2star)
    assert abs(np.median(after.r2star_per_s - r2star)) < 0.4
    assert np.median(denoised.sigma) == pytest.approx(20, rel=0.1)
    assert 0.02 < residual_change(before, after) < 0.8


def test_voxels_outside_the_mask_or_not_finite_stay() -> None:
    pytest.importorskip("dipy", reason="the extra 'denoise' is not installed")
    signal, _ = tissue()
    signal[3, 3, 3, 1] = np.nan
    mask = np.ones((12, 12, 12), bool)
    mask[8:] = False
    denoised = denoise_mppca(signal, mask=mask)
    np.testing.assert_array_equal(denoised.signal[8:], signal[8:].astype(np.float32))
    np.testing.assert_array_equal(denoised.signal[3, 3, 3], signal[3, 3, 3].astype(np.float32))
    assert (denoised.signal[4, 4, 4] != signal[4, 4, 4].astype(np.float32)).all()


def test_the_change_of_residuals_is_the_median_of_voxels_that_have_one_before_and_after() -> None:
    signal, _ = tissue()
    rows = signal.reshape(-1, 8)[:7]
    before, after = rows.copy(), rows * np.array([0.1, 0.2, 0.4, 0.6, 0.9, 0.01, 0.01])[:, None]
    before[5], after[6] = np.nan, 0.0
    change = residual_change(fit_decay(before, TIMES), fit_decay(after, TIMES))
    assert change == pytest.approx(0.4, rel=1e-6)
    assert np.isnan(residual_change(fit_decay(before[5:], TIMES), fit_decay(after[5:], TIMES)))
    exact = fit_decay(np.full((3, 8), 5.0), TIMES)
    assert np.isnan(residual_change(exact, exact))  # nothing was left to take away


def test_a_missing_dipy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dipy.denoise.localpca", None)
    with pytest.raises(EnvironmentFault, match="dipy"):
        denoise_mppca(np.ones((6, 6, 6, 4)))
    with pytest.raises(InputError, match="three echoes"):
        denoise_mppca(np.ones((6, 6, 6, 2)))
