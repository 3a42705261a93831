"""`rician`: least squares of the magnitudes against the first moment of their distribution. Imports numba.

Noise lifts a magnitude: E[M] > S, the more the closer S comes to σ. This fit compares M with E[M](S0·e; σ) of
`r2star.fit.moments` (Rician for one coil, non-central χ for several), so late echoes in the noise floor bend
the model as they bend the data (Feng 2013, doi:10.1002/mrm.24607). σ is the caller's; where it is unknown it is
the voxel's own, from the residuals of `nonlinear`, and with two echoes there is none: then E[M] = S.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from r2star.fit import nonlinear
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
)
from r2star.fit.compiling import helper, kernel
from r2star.fit.moments import NODES_PER_SIGMA, moment_table
from r2star.fit.shared import Rows
from r2star.fit.status import Status

N_STEPS = 100
TOLERANCE = 1e-11  # of a step, relative
NEAR = 1e-6  # steps below it are taken as they are: rounding hides by how little the error falls
FAINTEST = 1e-3  # times σ: an amplitude below it leaves no trace in the magnitudes
OK = int(Status.OK)
AT_BOUND = int(Status.AT_BOUND)
BELOW_NOISE_FLOOR = int(Status.BELOW_NOISE_FLOOR)
NOT_CONVERGED = int(Status.NOT_CONVERGED)


def fit_blocks(blocks: Blocks, design: Design) -> None:
    """Start from `nonlinear` and go on, lane by lane, with a damped Gauss–Newton iteration."""
    nonlinear.fit_blocks(blocks, design)
    _fit(
        blocks.signal,
        blocks.dephasing,
        blocks.sigma,
        design.x,
        design.x_first,
        design.rate_range,
        moment_table(blocks.n_coils),
        blocks.n_coils,
        blocks.result,
        blocks.status,
    )


@helper
def _moment(s: float, table: Rows, n_coils: int) -> tuple[float, float]:
    """E[M] and dE[M]/dS at σ = 1: a cubic between the table's nodes, an asymptotic series beyond them."""
    position = s * NODES_PER_SIGMA
    if not position < table.shape[0] - 1:
        c, q = n_coils - 0.5, 1.0 / (s * s)
        bend = 0.5 * c * (c - 1.0) * q * q
        return s * (1.0 + c * q - bend * (1.0 - (c - 2.0) * q)), 1.0 - c * q + 3.0 * bend
    node = int(position)
    u = position - node
    m0, d0, m1, d1 = table[node, 0], table[node, 1], table[node + 1, 0], table[node + 1, 1]
    d0 /= NODES_PER_SIGMA
    d1 /= NODES_PER_SIGMA
    square, cube = 3.0 * (m1 - m0) - 2.0 * d0 - d1, d0 + d1 - 2.0 * (m1 - m0)
    return m0 + u * (d0 + u * (square + u * cube)), (
        d0 + u * (2.0 * square + 3.0 * u * cube)
    ) * NODES_PER_SIGMA


@helper
def _model(
    y: Rows, f: Rows, x: Rows, sigma: float, a: float, rate: float, table: Rows, n_coils: int, sums: Rows
) -> float:
    """Squared error, and into ``sums`` the normal equations for (ln a, ρ): JᵀJ (3 entries) and Jᵀr (2)."""
    sums[:] = 0.0
    error = 0.0
    for i in range(x.size):
        s = a * math.exp(-rate * x[i])
        if f.size > 0:
            s *= f[i]
        mean, slope = s, 1.0
        if sigma > 0.0:
            mean, slope = _moment(s / sigma, table, n_coils)
            mean *= sigma
        r = y[i] - mean
        j_level, j_rate = slope * s, -slope * s * x[i]
        error += r * r
        sums[0] += j_level * j_level
        sums[1] += j_level * j_rate
        sums[2] += j_rate * j_rate
        sums[3] += j_level * r
        sums[4] += j_rate * r
    return error


@kernel
def _fit(
    signal: NDArray[np.float64],
    dephasing: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    x: NDArray[np.float64],
    x_first: float,
    rate_range: tuple[float, float],
    table: NDArray[np.float64],
    n_coils: int,
    result: NDArray[np.float64],
    status: NDArray[np.uint8],
) -> None:
    estimate = np.empty(2)
    for block in range(signal.shape[0]):
        for lane in range(LANES):
            if status[block, lane] != OK:
                continue
            y, f, row = signal[block, :, lane], dephasing[block, :, lane], result[block, :, lane]
            sigma = sigmas[block, lane]
            if sigma == 0.0 and x.size > 2:
                sigma = math.sqrt(max(row[SQUARED_ERROR], 0.0) / (x.size - 2.0))
            sigma = sigma if sigma > 1e-12 else 0.0
            estimate[0], estimate[1] = row[AMPLITUDE] * math.exp(-row[RATE] * x_first), row[RATE]
            status[block, lane] = _iterate(y, f, x, sigma, rate_range, table, n_coils, estimate)
            if status[block, lane] == OK:
                _propagate(y, f, x, x_first, sigma, table, n_coils, estimate, row)


@kernel
def _iterate(
    y: Rows,
    f: Rows,
    x: Rows,
    sigma: float,
    rate_range: tuple[float, float],
    table: Rows,
    n_coils: int,
    estimate: Rows,
) -> int:
    """Levenberg–Marquardt on (ln a, ρ), in place; returns the status."""
    sums, trial_sums = np.empty(5), np.empty(5)
    a, rate, damping = estimate[0], estimate[1], 1e-3
    error = _model(y, f, x, sigma, a, rate, table, n_coils, sums)
    for _ in range(N_STEPS):
        if not rate_range[0] < rate < rate_range[1]:
            return AT_BOUND
        if a < FAINTEST * sigma:
            return BELOW_NOISE_FLOOR
        level_level, rate_rate = sums[0] * (1.0 + damping), sums[2] * (1.0 + damping)
        determinant = level_level * rate_rate - sums[1] * sums[1]
        if not determinant > 0.0:
            return NOT_CONVERGED
        d_level = (rate_rate * sums[3] - sums[1] * sums[4]) / determinant
        d_rate = (level_level * sums[4] - sums[1] * sums[3]) / determinant
        trial_a = a * math.exp(min(max(d_level, -2.0), 2.0))
        trial_error = _model(y, f, x, sigma, trial_a, rate + d_rate, table, n_coils, trial_sums)
        size = max(abs(d_level), abs(d_rate) / (1.0 + abs(rate)))
        if trial_error <= error or size < NEAR:
            a, rate, error, damping = trial_a, rate + d_rate, trial_error, damping * 0.1
            sums[:] = trial_sums
        else:
            damping *= 10.0
        if size < TOLERANCE:
            estimate[0], estimate[1] = a, rate
            return OK
    return NOT_CONVERGED


@kernel
def _propagate(
    y: Rows,
    f: Rows,
    x: Rows,
    x_first: float,
    sigma: float,
    table: Rows,
    n_coils: int,
    estimate: Rows,
    row: Rows,
) -> None:
    """Results and variances: (JᵀJ)⁻¹·JᵀVJ·(JᵀJ)⁻¹ with var M = S² + 2Lσ² − E[M]², less than σ² in the floor."""
    sums = np.empty(5)
    a, rate = estimate[0], estimate[1]
    row[SQUARED_ERROR] = _model(y, f, x, sigma, a, rate, table, n_coils, sums)
    determinant = sums[0] * sums[2] - sums[1] * sums[1]
    level_variance = cross = rate_variance = freedom = 0.0
    for i in range(x.size):
        s = a * math.exp(-rate * x[i])
        if f.size > 0:
            s *= f[i]
        slope, spread = 1.0, 1.0
        if sigma > 0.0:
            mean, slope = _moment(s / sigma, table, n_coils)
            square = (s / sigma) ** 2
            # far above the noise the difference of squares loses its digits, and its series is as good
            far = square > 900.0 * n_coils
            spread = 1.0 - (n_coils - 0.5) / square if far else square + 2.0 * n_coils - mean * mean
        to_level = slope * s * (sums[2] + x[i] * sums[1]) / determinant
        to_rate = -slope * s * (x[i] * sums[0] + sums[1]) / determinant
        level_variance += to_level * to_level * spread
        cross += to_level * to_rate * spread
        rate_variance += to_rate * to_rate * spread
        freedom += spread * (1.0 - slope * s * (to_level - x[i] * to_rate))
    s0 = a * math.exp(min(rate * x_first, 340.0))
    row[RATE], row[AMPLITUDE] = rate, s0
    row[RATE_VARIANCE] = rate_variance
    row[AMPLITUDE_VARIANCE] = s0 * s0 * (level_variance + x_first * (2.0 * cross + x_first * rate_variance))
    row[FREEDOM] = freedom if x.size > 2 else 0.0
