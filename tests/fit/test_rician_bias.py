"""The mean of `rician` at high R2* and low SNR: what of its bias belongs to any efficient estimator."""

from __future__ import annotations

import numpy as np
from scipy.special import ive

from r2star.fit import first_moment, fit_decay
from r2star.fit.moments import moment_slope

TIMES = np.arange(1, 13) * 0.003
S0, R2STAR, SIGMA = 1000.0, 80.0, 50.0


def maximum_likelihood(signal: np.ndarray, start: np.ndarray) -> np.ndarray:
    """R2* (N,) of the exact Rician likelihood, by a damped Newton iteration on (ln S0, R2*) from ``start`` (N, 2)."""
    estimate, damping = start.copy(), np.full(len(start), 1e-3)

    def likelihood(p: np.ndarray) -> np.ndarray:
        s = np.exp(p[:, :1] - p[:, 1:] * TIMES)
        z = signal * s / SIGMA**2
        return np.sum(z + np.log(ive(0, z)) - s**2 / (2 * SIGMA**2), axis=1)

    best = likelihood(estimate)
    for _ in range(40):
        s = np.exp(estimate[:, :1] - estimate[:, 1:] * TIMES)
        z = signal * s / SIGMA**2
        ratio = ive(1, z) / ive(0, z)
        pull = (signal * ratio - s) * s / SIGMA**2
        bend = s * (2 * s - signal * ratio) / SIGMA**2 - z**2 * (1 - ratio / z - ratio**2)
        bend = np.maximum(bend, 1e-3 * s**2 / SIGMA**2)
        weights = np.stack([np.ones_like(TIMES), -TIMES])
        gradient = pull @ weights.T
        curvature = np.einsum("ne,ae,be->nab", bend, weights, weights)
        curvature *= 1 + damping[:, None, None] * np.eye(2)
        trial = estimate + np.linalg.solve(curvature, gradient[..., None])[..., 0]
        found = likelihood(trial)
        better = found >= best
        estimate[better], best = trial[better], np.where(better, found, best)
        damping = np.where(better, damping * 0.3, damping * 5)
    return estimate[:, 1]


def expected_bias() -> float:
    """Bias of second order of least squares, −½·(JᵀJ)⁻¹·Jᵀ·tr(C·Hᵢ), at the truth (Box 1971)."""
    s = S0 * np.exp(-R2STAR * TIMES)
    mean = SIGMA * first_moment(s / SIGMA)
    slope = moment_slope(s / SIGMA)
    bend = (moment_slope(s / SIGMA + 1e-5) - moment_slope(s / SIGMA - 1e-5)) / 2e-5 / SIGMA
    by_level, by_rate = s, -TIMES * s  # of S, by ln S0 and R2*
    jacobian = np.stack([slope * by_level, slope * by_rate], axis=1)
    inverse = np.linalg.inv(jacobian.T @ jacobian)
    variance = s**2 + 2 * SIGMA**2 - mean**2
    covariance = inverse @ (jacobian.T * variance) @ jacobian @ inverse
    powers = np.stack([np.ones_like(TIMES), -TIMES])
    second = slope * s + bend * s**2  # of E[M], but for the powers of −t
    traces = np.einsum("ab,ae,be,e->e", covariance, powers, powers, second)
    return float(-0.5 * (inverse @ jacobian.T @ traces)[1])


def test_the_mean_has_the_bias_of_maximum_likelihood_and_of_theory_and_the_median_none() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, SIGMA, (2, 40_000, 12))
    signal = np.hypot(S0 * np.exp(-R2STAR * TIMES) + noise[0], noise[1])
    decay = fit_decay(signal, TIMES, "rician", noise_sigma=SIGMA)
    rate = decay.r2star_per_s
    assert decay.has_value.all()
    few = slice(0, 6000)
    likely = maximum_likelihood(signal[few], np.stack([np.log(decay.s0[few]), rate[few]], axis=1))
    assert abs(likely.mean() - rate[few].mean()) < 0.1  # on the same noise
    assert abs(np.median(likely) - np.median(rate[few])) < 0.1
    error = rate.std() / np.sqrt(rate.size)
    assert abs(rate.mean() - R2STAR - expected_bias()) < 3 * error
    assert abs(np.median(rate) - R2STAR) < 0.1
