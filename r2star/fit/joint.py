"""The kernel of `r2star.fit.estatics`: one rate, several amplitudes, one voxel after the other. Imports numba."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from r2star.fit.compiling import kernel
from r2star.fit.shared import Rows
from r2star.fit.status import Status

OK = int(Status.OK)
AT_BOUND = int(Status.AT_BOUND)
NOT_CONVERGED = int(Status.NOT_CONVERGED)
RISING = int(Status.RISING)
N_RATES = 40
FLAT = 1e-9


@kernel
def fit_joint(
    signals: NDArray[np.float64],
    x: NDArray[np.float64],
    group: NDArray[np.int64],
    low: float,
    high: float,
    sigmas: NDArray[np.float64],
    rows: NDArray[np.float64],
    status: NDArray[np.uint8],
) -> None:
    """Fit every row of ``signals`` (N, ΣEₖ); ``x`` are times, ``group`` the contrast of each echo."""
    sums = np.empty((4, group[-1] + 1))
    for voxel in range(signals.shape[0]):
        y, row = signals[voxel], rows[voxel]
        row[:] = math.nan
        best, best_node = -1.0, 0
        for node in range(N_RATES):
            explained, _ = _explained(y, x, group, _rate(node, low, high), sums)
            if explained > best:
                best, best_node = explained, node
        if best_node in (0, N_RATES - 1):
            status[voxel] = AT_BOUND
            continue
        rate = _root(y, x, group, _rate(best_node - 1, low, high), _rate(best_node + 1, low, high), sums)
        if math.isnan(rate):
            status[voxel] = NOT_CONVERGED
            continue
        _describe(y, x, group, rate, sigmas[voxel], sums, row)
        status[voxel] = RISING if rate <= FLAT else OK


@kernel
def _rate(node: int, low: float, high: float) -> float:
    start, stop = math.asinh(low), math.asinh(high)
    return math.sinh(start + (stop - start) * node / (N_RATES - 1))


@kernel
def _explained(y: Rows, x: Rows, group: NDArray[np.int64], rate: float, sums: Rows) -> tuple[float, float]:
    """Σₖ (Σ y·e)²/Σ e², and half its derivative; ``sums`` become Σ y·e, Σ y·e·x, Σ e², Σ e²·x of each contrast."""
    sums[:] = 0.0
    for i in range(x.size):
        e, k = math.exp(-rate * (x[i] - x[0])), group[i]
        sums[0, k] += y[i] * e
        sums[1, k] += y[i] * e * x[i]
        sums[2, k] += e * e
        sums[3, k] += e * e * x[i]
    value = slope = 0.0
    for k in range(sums.shape[1]):
        amplitude = sums[0, k] / sums[2, k]
        value += sums[0, k] * amplitude
        slope += amplitude * (amplitude * sums[3, k] - sums[1, k])
    return value, slope


@kernel
def _root(y: Rows, x: Rows, group: NDArray[np.int64], low: float, high: float, sums: Rows) -> float:
    """Where the explained part is largest: the zero of its derivative, by the Illinois method; NaN without one."""
    _, at_low = _explained(y, x, group, low, sums)
    _, at_high = _explained(y, x, group, high, sums)
    if not (at_low > 0.0 > at_high):
        return math.nan
    side = 0
    for _ in range(100):
        rate = (low * at_high - high * at_low) / (at_high - at_low)
        _, slope = _explained(y, x, group, rate, sums)
        if slope == 0.0 or abs(high - low) < 1e-14 * (1.0 + abs(rate)):
            return rate
        if slope > 0.0:
            step, low, at_low = abs(rate - low), rate, slope
            at_high = 0.5 * at_high if side == 1 else at_high
            side = 1
        else:
            step, high, at_high = abs(high - rate), rate, slope
            at_low = 0.5 * at_low if side == -1 else at_low
            side = -1
        if step < 1e-14 * (1.0 + abs(rate)):
            return rate
    return rate


@kernel
def _describe(
    y: Rows, x: Rows, group: NDArray[np.int64], rate: float, sigma: float, sums: Rows, row: Rows
) -> None:
    """Estimates and the standard errors of (JᵀJ)⁻¹, from which the amplitudes are eliminated."""
    n_contrasts = sums.shape[1]
    _explained(y, x, group, rate, sums)
    error = information = 0.0
    for i in range(x.size):
        k = group[i]
        fitted = sums[0, k] / sums[2, k] * math.exp(-rate * (x[i] - x[0]))
        error += (y[i] - fitted) ** 2
        information += (fitted * (x[i] - sums[3, k] / sums[2, k])) ** 2
    freedom = x.size - n_contrasts - 1
    residual = math.sqrt(error / freedom) if freedom > 0 else math.nan
    noise = sigma if sigma > 0.0 else residual
    row[0], row[1], row[2] = rate, noise / math.sqrt(information), residual
    to_zero = math.exp(rate * x[0])
    for k in range(n_contrasts):
        amplitude = sums[0, k] / sums[2, k] * to_zero
        lever = amplitude * sums[3, k] / sums[2, k]
        row[3 + k] = amplitude
        row[3 + n_contrasts + k] = noise * math.sqrt(to_zero**2 / sums[2, k] + lever**2 / information)
