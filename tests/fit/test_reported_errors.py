"""Standard errors, residuals and R² against the spread of estimates, differences of them, and plain sums."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from r2star.fit import METHODS, first_moment, fit_decay


@pytest.mark.parametrize("method", ["loglinear", "weighted", "arlo"])
def test_reported_errors_are_the_observed_spread(method: str) -> None:
    n, times = 60_000, np.arange(1, 9) * 0.004
    rng = np.random.default_rng(4)
    signal = 1000 * np.exp(-35 * times) + rng.normal(0, 12, (n, 8))
    decay = fit_decay(signal, times, method)
    assert np.sqrt(np.mean(decay.r2star_se_per_s**2)) == pytest.approx(decay.r2star_per_s.std(), rel=0.05)
    assert np.sqrt(np.mean(decay.s0_se**2)) == pytest.approx(decay.s0.std(), rel=0.05)
    assert np.sqrt(np.mean(decay.residual**2)) == pytest.approx(12.0, rel=0.02)


def slopes(outputs: Callable[[np.ndarray], np.ndarray], at: np.ndarray, step: float) -> np.ndarray:
    """Derivatives of two outputs by each of ``at`` by central differences, (2, n)."""
    moved = step * np.eye(len(at))
    return (outputs(at + moved) - outputs(at - moved)) / (2 * step)


@pytest.mark.parametrize("method", ["loglinear", "weighted", "arlo", "nonlinear"])
def test_errors_are_those_that_differences_of_the_estimates_give(method: str) -> None:
    """Noise carried by the estimates' slopes, taken at the fitted curve, for `arlo` at the data; residuals likewise."""
    times = np.arange(1, 8) * 0.004
    signals = 1000 * np.exp(-45 * times) + np.random.default_rng(7).normal(0, 25, (5, 7))

    def estimates(signal: np.ndarray) -> np.ndarray:
        decay = fit_decay(signal, times, method)
        return np.stack([decay.s0, decay.r2star_per_s])

    decay = fit_decay(signals, times, method)
    for i, signal in enumerate(signals):
        curve = np.exp(-decay.r2star_per_s[i] * times)
        at, step = (signal, 1e-2) if method == "arlo" else (decay.s0[i] * curve, 1e-3)
        carried = slopes(estimates, at, step)
        variance = carried @ carried.T
        model = np.stack([curve, -decay.s0[i] * times * curve], axis=1)
        freedom = len(times) - 4 + np.trace(model.T @ model @ variance)
        noise = np.sqrt(np.sum((signal - decay.s0[i] * curve) ** 2) / freedom)
        assert decay.residual[i] == pytest.approx(noise, rel=1e-7)
        assert decay.s0_se[i] == pytest.approx(noise * np.sqrt(variance[0, 0]), rel=1e-7)
        assert decay.r2star_se_per_s[i] == pytest.approx(noise * np.sqrt(variance[1, 1]), rel=1e-7)


@pytest.mark.parametrize("n_coils", [1, 4])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("sigma", [20.0, 0.5])
def test_rician_errors_are_those_of_its_model_with_the_noise_known_or_not(
    n_coils: int, sigma: float, *, known: bool
) -> None:
    """By differences of the model, the variance of magnitudes (less than σ² in the floor), and residuals for σ."""
    times = np.arange(1, 8) * 0.004
    noise = np.random.default_rng(3).normal(0, sigma, (6, 7, 2 * n_coils))
    noise[..., 0] += 600 * np.exp(-60 * times)
    signals = np.linalg.norm(noise, axis=-1)
    plain = fit_decay(signals, times, "nonlinear")
    decay = fit_decay(signals, times, "rician", noise_sigma=sigma if known else None, n_coils=n_coils)
    assert decay.has_value.all()
    for i, signal in enumerate(signals):
        left = signal - plain.s0[i] * np.exp(-plain.r2star_per_s[i] * times)
        sd = sigma if known else float(np.sqrt(np.sum(left**2) / 5))
        s0, rate = decay.s0[i], decay.r2star_per_s[i]

        def mean(s0: float, rate: float, sd: float = sd) -> np.ndarray:
            return np.asarray(sd * first_moment(s0 * np.exp(-rate * times) / sd, n_coils))

        model = np.stack(
            [
                (mean(s0 + 1e-3, rate) - mean(s0 - 1e-3, rate)) / 2e-3,
                (mean(s0, rate + 1e-4) - mean(s0, rate - 1e-4)) / 2e-4,
            ],
            axis=1,
        )
        clean = s0 * np.exp(-rate * times) / sd
        spread = np.diag(clean**2 + 2 * n_coils - (mean(s0, rate) / sd) ** 2)
        taken = np.linalg.inv(model.T @ model) @ model.T
        assert np.abs(taken @ (signal - mean(s0, rate)) / (s0, rate)).max() < 1e-7  # the optimum
        freedom = np.trace((np.eye(7) - model @ taken) @ spread)
        residual = np.sqrt(np.sum((signal - mean(s0, rate)) ** 2) / freedom)
        errors = (sigma if known else residual) * np.sqrt(np.diag(taken @ spread @ taken.T))
        assert decay.residual[i] == pytest.approx(residual, rel=1e-6)
        assert [decay.s0_se[i], decay.r2star_se_per_s[i]] == pytest.approx(list(errors), rel=1e-6)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("n_echoes", [3, 4, 5, 6, 7, 8, 9])
def test_the_coefficient_of_determination_is_that_of_the_magnitudes_for_any_number_of_echoes(
    method: str, n_echoes: int
) -> None:
    times = np.arange(1, n_echoes + 1) * 0.004
    signal = 700 * np.exp(-50 * times) + np.random.default_rng(n_echoes).normal(0, 9, (20, n_echoes))
    decay = fit_decay(signal, times, method)
    curve = decay.s0[:, None] * np.exp(-decay.r2star_per_s[:, None] * times)
    if (
        method == "rician"
    ):  # its curve is that of the mean magnitude, with σ from the residuals of `nonlinear`
        sigma = fit_decay(signal, times, "nonlinear").residual[:, None]
        curve = sigma * first_moment(curve / sigma)
    unexplained = np.sum((signal - curve) ** 2, axis=1)
    expected = 1 - unexplained / np.sum((signal - signal.mean(axis=1, keepdims=True)) ** 2, axis=1)
    np.testing.assert_allclose(decay.r_squared, expected, rtol=1e-9)
