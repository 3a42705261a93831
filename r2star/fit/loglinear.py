"""`loglinear`: ordinary least squares of ln M on echo time. Imports numba.

ln M = ln S0 − R2*·t, every echo with the same weight. It is the baseline: biased and noisy where an echo comes
near the noise, because the logarithm stretches small values (var ln M ≈ σ²/S²).
"""

from __future__ import annotations

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
from r2star.fit.elementary import fast_exp, fast_log
from r2star.fit.shared import Rows, fill_decays, four_rows, four_terms

FAINTEST = 1e-130  # of a fitted echo: the inverse of its square is still a number


def fit_blocks(blocks: Blocks, design: Design) -> None:
    """Fit ρ = −Σ wᵢ ln yᵢ and the level at the first echo, Σ uᵢ ln yᵢ; w and u depend on the echo times alone."""
    x = design.x
    slope_weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    level_weights = 1 / x.size - slope_weights * x.mean()
    products = np.zeros((3, design.powers.shape[1]))
    products[:, : x.size] = level_weights**2, level_weights * slope_weights, slope_weights**2
    _fit(
        blocks.signal, x, design.powers, design.x_first, slope_weights, level_weights, products, blocks.result
    )


@kernel
def _fit(
    signal: NDArray[np.float64],
    x: NDArray[np.float64],
    powers: NDArray[np.float64],
    x_first: float,
    slope_weights: NDArray[np.float64],
    level_weights: NDArray[np.float64],
    products: NDArray[np.float64],
    result: NDArray[np.float64],
) -> None:
    n_blocks, n_echoes, _ = signal.shape
    level = np.empty(LANES)
    at_first = np.empty(LANES)
    fitted = np.empty((n_echoes, LANES))
    inverses = np.empty((n_echoes, LANES))
    no_dephasing = np.empty((0, LANES))
    for block in range(n_blocks):
        rate, amplitude = result[block, RATE], result[block, AMPLITUDE]
        rate[:] = 0.0
        level[:] = 0.0
        for echo in range(n_echoes):
            row, slope_weight, level_weight = signal[block, echo], slope_weights[echo], level_weights[echo]
            for lane in range(LANES):
                log_signal = fast_log(row[lane])
                rate[lane] -= slope_weight * log_signal
                level[lane] += level_weight * log_signal
        for lane in range(LANES):
            at_first[lane] = fast_exp(min(max(level[lane], -700.0), 300.0))
        for lane in range(LANES):
            amplitude[lane] = fast_exp(min(max(level[lane] + rate[lane] * x_first, -700.0), 700.0))
        fill_decays(rate, x, no_dephasing, fitted)
        fill_decays(-rate, x, no_dephasing, inverses)
        _propagate(signal[block], at_first, fitted, inverses, powers, products, x_first, result[block])


@kernel
def _propagate(
    signal: Rows,
    at_first: Rows,
    fitted: Rows,
    inverses: Rows,
    powers: Rows,
    products: Rows,
    x_first: float,
    result: Rows,
) -> None:
    """Squared error on the magnitudes, and the variances that σ²/S² of each logarithm gives to slope and level.

    The estimate isn't least squares on the magnitudes, so the expected squared error is not (E − 2)·σ² but
    (E − 4 + tr JᵀJ·C)·σ², with J the Jacobian of the magnitudes and C the covariance of the estimates.
    ``at_first`` is the fitted first echo, ``fitted`` comes as decays from 1 and ``inverses`` as one over them.
    """
    squared_error = result[SQUARED_ERROR]
    moments = np.zeros((3, LANES))  # Σ S²·(1, x, x²)
    covariances = np.zeros((3, LANES))  # Σ (u², u·w, w²)/S²
    squared_error[:] = 0.0
    per_first = 1.0 / at_first
    for echo in range(signal.shape[0]):
        row, s, inverse = signal[echo], fitted[echo], inverses[echo]
        for lane in range(LANES):
            value = max(at_first[lane] * s[lane], FAINTEST)
            residual = row[lane] - value
            squared_error[lane] += residual * residual
            s[lane] = value * value
        for lane in range(LANES):
            one_over = min(inverse[lane] * per_first[lane], 1.0 / FAINTEST)
            inverse[lane] = one_over * one_over
    for echo in range(0, signal.shape[0], 4):
        s_0, s_1, s_2, s_3 = four_rows(fitted, echo)
        for lane in range(LANES):
            a, b, c, d = s_0[lane], s_1[lane], s_2[lane], s_3[lane]
            moments[0, lane] += four_terms(a, b, c, d, powers, 0, echo)
            moments[1, lane] += four_terms(a, b, c, d, powers, 1, echo)
            moments[2, lane] += four_terms(a, b, c, d, powers, 2, echo)
        s_0, s_1, s_2, s_3 = four_rows(inverses, echo)
        for lane in range(LANES):
            a, b, c, d = s_0[lane], s_1[lane], s_2[lane], s_3[lane]
            covariances[0, lane] += four_terms(a, b, c, d, products, 0, echo)
            covariances[1, lane] += four_terms(a, b, c, d, products, 1, echo)
            covariances[2, lane] += four_terms(a, b, c, d, products, 2, echo)
    _finish(moments, covariances, signal.shape[0], x_first, result)


@kernel
def _finish(moments: Rows, covariances: Rows, n_echoes: int, x_first: float, result: Rows) -> None:
    m0, m1, m2 = moments[0], moments[1], moments[2]
    c0, c1, c2 = covariances[0], covariances[1], covariances[2]
    amplitude, freedom = result[AMPLITUDE], result[FREEDOM]
    rate_variance, amplitude_variance = result[RATE_VARIANCE], result[AMPLITUDE_VARIANCE]
    for lane in range(LANES):
        trace = m0[lane] * c0[lane] + 2.0 * m1[lane] * c1[lane] + m2[lane] * c2[lane]
        freedom[lane] = n_echoes - 4.0 + trace if n_echoes > 2 else 0.0
        rate_variance[lane] = c2[lane]
    for lane in range(LANES):
        at_zero = c0[lane] - x_first * (2.0 * c1[lane] - x_first * c2[lane])
        amplitude_variance[lane] = amplitude[lane] * amplitude[lane] * at_zero
