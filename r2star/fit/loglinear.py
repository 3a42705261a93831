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


def fit_blocks(blocks: Blocks, design: Design) -> None:
    """Fit ρ = −Σ wᵢ ln yᵢ and ln S0 = Σ uᵢ ln yᵢ, whose weights depend on the echo times alone."""
    time = design.x + design.x_first
    slope_weights = (time - time.mean()) / np.sum((time - time.mean()) ** 2)
    level_weights = 1 / time.size - slope_weights * time.mean()
    _fit(blocks.signal, time, slope_weights, level_weights, blocks.result)


@kernel
def _fit(
    signal: NDArray[np.float64],
    time: NDArray[np.float64],
    slope_weights: NDArray[np.float64],
    level_weights: NDArray[np.float64],
    result: NDArray[np.float64],
) -> None:
    n_blocks, n_echoes, _ = signal.shape
    level = np.empty(LANES)
    fitted = np.empty(LANES)
    for block in range(n_blocks):
        rate, amplitude, squared_error = (
            result[block, RATE],
            result[block, AMPLITUDE],
            result[block, SQUARED_ERROR],
        )
        for lane in range(LANES):
            rate[lane] = 0.0
            level[lane] = 0.0
            squared_error[lane] = 0.0
        for echo in range(n_echoes):
            row = signal[block, echo]
            for lane in range(LANES):
                log_signal = fast_log(row[lane])
                rate[lane] -= slope_weights[echo] * log_signal
                level[lane] += level_weights[echo] * log_signal
        for lane in range(LANES):
            amplitude[lane] = fast_exp(min(max(level[lane], -700.0), 700.0))
        _propagate(signal[block], time, slope_weights, level_weights, rate, level, fitted, result[block])


@kernel
def _propagate(
    signal: NDArray[np.float64],
    time: NDArray[np.float64],
    slope_weights: NDArray[np.float64],
    level_weights: NDArray[np.float64],
    rate: NDArray[np.float64],
    level: NDArray[np.float64],
    fitted: NDArray[np.float64],
    result: NDArray[np.float64],
) -> None:
    """Squared error on the magnitudes, and the variances that σ²/S² of each logarithm gives to slope and level.

    The estimate isn't least squares on the magnitudes, so the expected squared error is not (E − 2)·σ² but
    (E − 4 + tr JᵀJ·C)·σ², with J the Jacobian of the magnitudes and C the covariance of the estimates.
    """
    n_echoes = time.size
    inverse = np.empty(LANES)
    moments = np.zeros((3, LANES))  # Σ S²·(1, t, t²)
    covariances = np.zeros((3, LANES))  # Σ (u², u·w, w²)/S²
    for echo in range(n_echoes):
        row = signal[echo]
        for lane in range(LANES):
            exponent = level[lane] - rate[lane] * time[echo]
            fitted[lane] = fast_exp(min(max(exponent, -300.0), 300.0))
        for lane in range(LANES):
            residual = row[lane] - fitted[lane]
            result[SQUARED_ERROR, lane] += residual * residual
            fitted[lane] *= fitted[lane]
            inverse[lane] = 1.0 / fitted[lane]
        t, u, w = time[echo], level_weights[echo], slope_weights[echo]
        for lane in range(LANES):
            moments[0, lane] += fitted[lane]
            moments[1, lane] += fitted[lane] * t
            moments[2, lane] += fitted[lane] * t * t
        for lane in range(LANES):
            covariances[0, lane] += inverse[lane] * u * u
            covariances[1, lane] += inverse[lane] * u * w
            covariances[2, lane] += inverse[lane] * w * w
    for lane in range(LANES):
        trace = (
            moments[0, lane] * covariances[0, lane]
            + 2.0 * moments[1, lane] * covariances[1, lane]
            + moments[2, lane] * covariances[2, lane]
        )
        amplitude = result[AMPLITUDE, lane]
        result[RATE_VARIANCE, lane] = covariances[2, lane]
        result[AMPLITUDE_VARIANCE, lane] = amplitude * amplitude * covariances[0, lane]
        result[FREEDOM, lane] = n_echoes - 4.0 + trace if n_echoes > 2 else 0.0
