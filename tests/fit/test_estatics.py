"""`fit_estatics`: one R2* for several contrasts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from r2star.errors import InputError
from r2star.fit import Status, fit_decay, fit_estatics

TIMES = [
    np.array([0.0023, 0.0046, 0.0069, 0.0092, 0.0115]),
    np.array([0.0023, 0.0046, 0.0069]),
    np.array([0.003]),
]


def contrasts(
    shape: tuple[int, ...], sigma: float = 0.0
) -> tuple[list[np.ndarray], np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(6)
    r2star = rng.uniform(5, 90, shape)
    levels = [rng.uniform(200, 900, shape) for _ in TIMES]
    signals = [s0[..., None] * np.exp(-r2star[..., None] * t) for s0, t in zip(levels, TIMES, strict=True)]
    return [np.abs(each + rng.normal(0, sigma, each.shape)) for each in signals], r2star, levels


def test_truth_without_noise() -> None:
    signals, r2star, levels = contrasts((7, 8, 9))
    fit = fit_estatics(signals, TIMES)
    assert (fit.status == Status.OK).all()
    assert fit.s0.shape == fit.s0_se.shape == (3, 7, 8, 9)
    np.testing.assert_allclose(fit.r2star_per_s, r2star, rtol=1e-10)
    np.testing.assert_allclose(fit.s0, np.stack(levels), rtol=1e-10)
    single = fit_estatics([each.astype(np.float32) for each in signals], TIMES)
    assert single.r2star_per_s.dtype == np.float32
    np.testing.assert_allclose(single.r2star_per_s, r2star, rtol=1e-5)


def test_optimum_and_errors_of_a_general_solver() -> None:
    signals, _, _ = contrasts((60,), sigma=8.0)
    fit = fit_estatics(signals, TIMES)
    for i in range(60):
        y = [each[i] for each in signals]

        def residual(p: np.ndarray, y: list[np.ndarray] = y) -> np.ndarray:
            return np.concatenate(
                [p[k + 1] * 500 * np.exp(-p[0] * 50 * t) - y[k] for k, t in enumerate(TIMES)]
            )

        best = least_squares(residual, (0.8, 1, 1, 1), method="lm", xtol=1e-15, ftol=1e-15)
        variance = 2 * best.cost / (9 - 4)
        errors = np.sqrt(variance * np.diag(np.linalg.inv(best.jac.T @ best.jac))) * [50, 500, 500, 500]
        assert fit.r2star_per_s[i] == pytest.approx(50 * best.x[0], rel=1e-5, abs=1e-4)
        np.testing.assert_allclose(fit.s0[:, i], 500 * best.x[1:], rtol=1e-6)
        np.testing.assert_allclose([fit.r2star_se_per_s[i], *fit.s0_se[:, i]], errors, rtol=1e-4)


def test_one_contrast_is_the_nonlinear_fit() -> None:
    signals, _, _ = contrasts((500,), sigma=8.0)
    joint, plain = fit_estatics(signals[:1], TIMES[:1], n_threads=1), fit_decay(signals[0], TIMES[0])
    value = plain.has_value & np.isfinite(joint.r2star_per_s)
    assert value.mean() > 0.98
    for name in ("r2star_per_s", "r2star_se_per_s", "residual"):
        np.testing.assert_allclose(
            getattr(joint, name)[value], getattr(plain, name)[value], rtol=1e-7, atol=1e-7
        )
    np.testing.assert_allclose(joint.s0_se[0][value], plain.s0_se[value], rtol=1e-7)


def test_faults_have_a_status_and_no_value() -> None:
    signals, _, _ = contrasts((8,))
    signals[0][0, 1], signals[1][1, 0], signals[0][2, 0] = np.nan, -1.0, np.inf
    for each in signals:
        each[3] = 0
        each[4] = np.where(np.arange(each.shape[-1]) == 0, 5.0, 0.0)
    mask = np.arange(8) != 6
    fit = fit_estatics(signals, TIMES, mask=mask, noise_sigma=3.0)
    names = [Status(int(code)).label for code in fit.status]
    assert names == [
        "not_finite", "negative", "not_finite", "no_signal", "too_few_echoes", "ok", "outside_mask", "ok"
    ]  # fmt: skip
    bad = np.array([name != "ok" for name in names])
    assert np.isnan(fit.r2star_per_s[bad]).all()
    assert np.isnan(fit.s0[:, bad]).all()
    assert np.isfinite(fit.r2star_se_per_s[~bad]).all()


def test_a_rate_that_is_not_above_rounding_is_rising() -> None:
    rates = np.array([-20.0, -1e-7, 0.0, 1e-5, 20.0])
    signals = [600 * np.exp(-rates[:, None] * t) for t in TIMES]
    fit = fit_estatics(signals, TIMES)
    assert [Status(int(code)).label for code in fit.status] == ["rising", "rising", "rising", "ok", "ok"]
    np.testing.assert_allclose(fit.r2star_per_s, rates, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("signals", "times"),
    [
        ([np.ones((2, 3))], [[0.004, 0.008]]),
        ([np.ones((2, 2)), np.ones((3, 2))], [[0.004, 0.008], [0.004, 0.008]]),
        ([np.ones((2, 2))], [[0.004, 0.008], [0.004, 0.008]]),
        ([np.ones((2, 2)), np.ones((2, 2))], [[0.004, 0.008]]),
        ([np.ones((2, 1)), np.ones((2, 1))], [[0.004], [0.008]]),
        ([], []),
    ],
)
def test_lists_that_do_not_match_are_refused(signals: list[np.ndarray], times: list[list[float]]) -> None:
    with pytest.raises(InputError):
        fit_estatics(signals, times)
