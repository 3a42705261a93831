"""`loglinear`: ordinary least squares of ln M on echo time. Imports numba.

ln M = ln S0 − R2*·t, every echo with the same weight. It is the baseline: biased and noisy where an echo comes
near the noise, because the logarithm stretches small values (var ln M ≈ σ²/S²).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from r2star.fit.blocks import (
    AMPLITUDE,
    AMPLITUDE_VARIANCE,
    FREEDOM,
    LANES,
    RATE,
    RATE_VARIANCE,
    SQUARED_ERROR,
    Blocks,
    Design,
)  # fmt: skip
from r2star.fit.compiling import kernel
from r2star.fit.elementary import fast_exp
from r2star.fit.shared import Rows, add_four, fill_decays, fill_logs, four_rows

FAINTEST = 1e-130  # of a fitted echo: the inverse of its square is still a number


def fit_blocks(blocks: Blocks, design: Design) -> None:
    """Fit ρ = −Σ wᵢ ln yᵢ and the level at the first echo, Σ uᵢ ln yᵢ."""
    weights, products = make_weights(design)
    _fit(blocks.signal, design.x, design.powers, design.x_first, weights, products, blocks.result)


@lru_cache
def make_weights(design: Design) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(2, E') the rows −w and u, and (3, E') the rows u², u·w and w², with zeros after the last echo."""
    x = design.x
    slope = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    level = 1 / x.size - slope * x.mean()
    weights, products = np.zeros((2, design.powers.shape[1])), np.zeros((3, design.powers.shape[1]))
    weights[:, : x.size] = -slope, level
    products[:, : x.size] = level**2, level * slope, slope**2
    return weights, products


@kernel
def _fit(
    signal: NDArray[np.float64],
    x: NDArray[np.float64],
    powers: NDArray[np.float64],
    x_first: float,
    weights: NDArray[np.float64],
    products: NDArray[np.float64],
    result: NDArray[np.float64],
) -> None:
    n_blocks, n_echoes, _ = signal.shape
    at_first = np.empty(LANES)
    logs = np.empty((n_echoes, LANES))
    decays = np.empty((n_echoes, LANES))
    no_dephasing = np.empty((0, LANES))
    for block in range(n_blocks):
        rate, amplitude = result[block, RATE], result[block, AMPLITUDE]
        fill_logs(signal[block], no_dephasing, logs)
        _regress(logs, weights, x_first, rate, at_first, amplitude)
        fill_decays(rate, x, no_dephasing, decays)
        _propagate(signal[block], at_first, decays, powers, products, x_first, result[block])


@kernel
def _regress(logs: Rows, weights: Rows, x_first: float, rate: Rows, at_first: Rows, amplitude: Rows) -> None:
    """Rate, fitted first echo and amplitude at t = 0."""
    sums = np.zeros((2, LANES))
    for echo in range(0, logs.shape[0], 4):
        log_0, log_1, log_2, log_3 = four_rows(logs, echo)
        for lane in range(LANES):
            a, b, c, d = log_0[lane], log_1[lane], log_2[lane], log_3[lane]
            sums[0, lane] = add_four(sums[0, lane], a, b, c, d, weights, 0, echo)
            sums[1, lane] = add_four(sums[1, lane], a, b, c, d, weights, 1, echo)
    level = sums[1]
    for lane in range(LANES):
        rate[lane] = sums[0, lane]
        at_first[lane] = fast_exp(min(max(level[lane], -700.0), 300.0))
    for lane in range(LANES):
        amplitude[lane] = fast_exp(min(max(level[lane] + rate[lane] * x_first, -700.0), 700.0))


@kernel
def _propagate(
    signal: Rows, at_first: Rows, decays: Rows, powers: Rows, products: Rows, x_first: float, result: Rows
) -> None:
    """Squared error on the magnitudes, and the variances that σ²/S² of each logarithm gives to slope and level.

    The estimate isn't least squares on the magnitudes, so the expected squared error is not (E − 2)·σ² but
    (E − 4 + tr JᵀJ·C)·σ², with J the Jacobian of the magnitudes and C the covariance of the estimates.
    ``at_first`` is the fitted first echo, ``decays`` the fitted echoes over it.
    """
    sums = np.zeros((7, LANES))  # Σ (y − S)², Σ S²·(1, x, x²), Σ (u², u·w, w²)/S²
    for echo in range(0, signal.shape[0], 4):
        y_0, y_1, y_2, y_3 = four_rows(signal, echo)
        e_0, e_1, e_2, e_3 = four_rows(decays, echo)
        for lane in range(LANES):
            a = max(at_first[lane] * e_0[lane], FAINTEST)
            b = max(at_first[lane] * e_1[lane], FAINTEST)
            c = max(at_first[lane] * e_2[lane], FAINTEST)
            d = max(at_first[lane] * e_3[lane], FAINTEST)
            p, q, r, s = y_0[lane] - a, y_1[lane] - b, y_2[lane] - c, y_3[lane] - d
            sums[0, lane] = add_four(sums[0, lane], p * p, q * q, r * r, s * s, powers, 0, echo)
            a, b, c, d = a * a, b * b, c * c, d * d
            sums[1, lane] = add_four(sums[1, lane], a, b, c, d, powers, 0, echo)
            sums[2, lane] = add_four(sums[2, lane], a, b, c, d, powers, 1, echo)
            sums[3, lane] = add_four(sums[3, lane], a, b, c, d, powers, 2, echo)
            a, b, c, d = 1.0 / a, 1.0 / b, 1.0 / c, 1.0 / d
            sums[4, lane] = add_four(sums[4, lane], a, b, c, d, products, 0, echo)
            sums[5, lane] = add_four(sums[5, lane], a, b, c, d, products, 1, echo)
            sums[6, lane] = add_four(sums[6, lane], a, b, c, d, products, 2, echo)
    result[SQUARED_ERROR, :] = sums[0]
    _finish(sums, signal.shape[0], x_first, result)


@kernel
def _finish(sums: Rows, n_echoes: int, x_first: float, result: Rows) -> None:
    m0, m1, m2, c0, c1, c2 = sums[1], sums[2], sums[3], sums[4], sums[5], sums[6]
    amplitude, freedom = result[AMPLITUDE], result[FREEDOM]
    rate_variance, amplitude_variance = result[RATE_VARIANCE], result[AMPLITUDE_VARIANCE]
    for lane in range(LANES):
        trace = m0[lane] * c0[lane] + 2.0 * m1[lane] * c1[lane] + m2[lane] * c2[lane]
        freedom[lane] = n_echoes - 4.0 + trace if n_echoes > 2 else 0.0
        rate_variance[lane] = c2[lane]
    for lane in range(LANES):
        at_zero = c0[lane] - x_first * (2.0 * c1[lane] - x_first * c2[lane])
        amplitude_variance[lane] = amplitude[lane] * amplitude[lane] * at_zero
