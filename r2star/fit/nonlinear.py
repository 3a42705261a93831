"""`nonlinear`: exact least squares of the magnitudes, one unknown per voxel by variable projection. Imports numba.

For a rate R the best S0 is Σ y·e / Σ e², e = |F|·exp(−R·t) (Golub & Pereyra 1973, doi:10.1137/0710036), and what
it explains of Σ y² is (Σ y·e)²/Σ e². That is maximal where the mean echo time under weights y·e equals the one
under e². So: project on a bank of decays to find the best region of rates, then solve this equation.
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
from r2star.fit.elementary import fast_exp
from r2star.fit.status import Status

N_RATES = 32
N_STEPS = 3
TOLERANCE = 1e-4  # the last step of an iteration of third order: what is left is its cube
OK = int(Status.OK)
AT_BOUND = int(Status.AT_BOUND)
NOT_CONVERGED = int(Status.NOT_CONVERGED)


def rate_bank(design: Design) -> NDArray[np.float64]:
    """Dimensionless rates that cover the design's range, evenly spaced in asinh ρ."""
    low, high = design.rate_range
    return np.sinh(np.linspace(np.arcsinh(low), np.arcsinh(high), N_RATES))


def fit_blocks(blocks: Blocks, design: Design) -> None:
    """Fit every lane; a best rate at either end of the bank is AT_BOUND."""
    rates = rate_bank(design)
    decays = np.exp(-rates[:, None] * design.x)
    _fit(
        blocks.signal, blocks.dephasing, design.x, design.x_first, rates, decays, blocks.result, blocks.status
    )  # fmt: skip


@kernel
def _fit(
    signal: NDArray[np.float64],
    dephasing: NDArray[np.float64],
    x: NDArray[np.float64],
    x_first: float,
    rates: NDArray[np.float64],
    decays: NDArray[np.float64],
    result: NDArray[np.float64],
    status: NDArray[np.uint8],
) -> None:
    n_blocks = signal.shape[0]
    node = np.empty(LANES, np.int64)
    step = np.empty(LANES)
    for block in range(n_blocks):
        y, f, rate = signal[block], dephasing[block], result[block, RATE]
        _find_best_node(y, f, decays, node)
        for lane in range(LANES):
            rate[lane] = rates[node[lane]]
        for _ in range(N_STEPS):
            _improve(y, f, x, rate, step)
        for lane in range(LANES):
            if status[block, lane] == OK:
                if node[lane] == 0 or node[lane] == rates.size - 1:
                    status[block, lane] = AT_BOUND
                elif not (
                    abs(step[lane]) < TOLERANCE * (1.0 + abs(rate[lane]))
                    and rates[node[lane] - 1] < rate[lane] < rates[node[lane] + 1]
                ):
                    rate[lane] = _bracketed(
                        y[:, lane], f[:, lane], x, rates[node[lane] - 1], rates[node[lane] + 1]
                    )
                    if not np.isfinite(rate[lane]):
                        status[block, lane] = NOT_CONVERGED
        _describe(y, f, x, x_first, result[block])


@kernel
def _find_best_node(
    y: NDArray[np.float64], f: NDArray[np.float64], decays: NDArray[np.float64], node: NDArray[np.int64]
) -> None:
    """The rate of the bank that explains most: the largest Σ y·e / √Σ e²."""
    best = np.full(LANES, -1.0)
    projection = np.empty(LANES)
    norm = np.empty(LANES)
    node[:] = 0
    for k in range(decays.shape[0]):
        projection[:] = 0.0
        norm[:] = 0.0
        if f.shape[0] == 0:
            for echo in range(y.shape[0]):
                decay, row = decays[k, echo], y[echo]
                for lane in range(LANES):
                    projection[lane] += decay * row[lane]
            norm[:] = np.sum(decays[k] * decays[k])
        else:
            for echo in range(y.shape[0]):
                decay, row, factor = decays[k, echo], y[echo], f[echo]
                for lane in range(LANES):
                    model = decay * factor[lane]
                    projection[lane] += model * row[lane]
                    norm[lane] += model * model
        for lane in range(LANES):
            explained = projection[lane] / np.sqrt(norm[lane])
            if explained > best[lane]:
                best[lane] = explained
                node[lane] = k


@kernel
def _improve(
    y: NDArray[np.float64],
    f: NDArray[np.float64],
    x: NDArray[np.float64],
    rate: NDArray[np.float64],
    step: NDArray[np.float64],
) -> None:
    """One Halley step on g(ρ) = mean of x under y·e − mean of x under e².

    Under weights that are exponential in ρ, the derivative of a mean is a variance and that of a variance a third
    central moment, each with the sign and the factor of the exponent.
    """
    data = np.zeros((4, LANES))  # Σ y·e·xᵏ
    model = np.zeros((4, LANES))  # Σ e²·xᵏ
    d = np.empty(LANES)
    m = np.empty(LANES)
    for echo in range(y.shape[0]):
        row, x1 = y[echo], x[echo]
        for lane in range(LANES):
            m[lane] = fast_exp(-rate[lane] * x1)
        if f.shape[0] > 0:
            factor = f[echo]
            for lane in range(LANES):
                m[lane] *= factor[lane]
        for lane in range(LANES):
            d[lane] = row[lane] * m[lane]
            m[lane] *= m[lane]
        power = 1.0
        for k in range(4):
            data_k, model_k = data[k], model[k]
            for lane in range(LANES):
                data_k[lane] += d[lane] * power
                model_k[lane] += m[lane] * power
            power *= x1
    for lane in range(LANES):
        mean_d = data[1, lane] / data[0, lane]
        second_d = data[2, lane] / data[0, lane]
        third_d = data[3, lane] / data[0, lane]
        mean_m = model[1, lane] / model[0, lane]
        second_m = model[2, lane] / model[0, lane]
        third_m = model[3, lane] / model[0, lane]
        g = mean_d - mean_m
        slope = 2.0 * (second_m - mean_m * mean_m) - (second_d - mean_d * mean_d)
        bend = (third_d - 3.0 * second_d * mean_d + 2.0 * mean_d * mean_d * mean_d) - 4.0 * (
            third_m - 3.0 * second_m * mean_m + 2.0 * mean_m * mean_m * mean_m
        )
        step[lane] = -2.0 * g * slope / (2.0 * slope * slope - g * bend)
        rate[lane] = min(max(rate[lane] + step[lane], -20.0), 600.0 / 1.0)


@kernel
def _bracketed(
    y: NDArray[np.float64], f: NDArray[np.float64], x: NDArray[np.float64], low: float, high: float
) -> float:
    """Rate in [low, high] that explains most of one voxel, by bisection of the sign of g; NaN where there is none."""
    g_low = _mean_difference(y, f, x, low)
    g_high = _mean_difference(y, f, x, high)
    if not (g_low < 0.0 < g_high):
        return np.nan
    for _ in range(60):
        middle = 0.5 * (low + high)
        if _mean_difference(y, f, x, middle) < 0.0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@kernel
def _mean_difference(
    y: NDArray[np.float64], f: NDArray[np.float64], x: NDArray[np.float64], rate: float
) -> float:
    d0 = d1 = m0 = m1 = 0.0
    for echo in range(x.size):
        e = fast_exp(-rate * x[echo])
        if f.shape[0] > 0:
            e *= f[echo]
        d0 += y[echo] * e
        d1 += y[echo] * e * x[echo]
        m0 += e * e
        m1 += e * e * x[echo]
    return d1 / d0 - m1 / m0


@kernel
def _describe(
    y: NDArray[np.float64],
    f: NDArray[np.float64],
    x: NDArray[np.float64],
    x_first: float,
    result: NDArray[np.float64],
) -> None:
    """S0, squared error and (JᵀJ)⁻¹ at the fitted rate; J = (e, −S0·t·e)."""
    rate, amplitude = result[RATE], result[AMPLITUDE]
    d0 = np.zeros(LANES)
    m = np.zeros((3, LANES))
    e = np.empty(LANES)
    for echo in range(x.size):
        row, x1 = y[echo], x[echo]
        for lane in range(LANES):
            e[lane] = fast_exp(-rate[lane] * x1)
        if f.shape[0] > 0:
            factor = f[echo]
            for lane in range(LANES):
                e[lane] *= factor[lane]
        for lane in range(LANES):
            d0[lane] += row[lane] * e[lane]
            e[lane] *= e[lane]
        power = 1.0
        for k in range(3):
            m_k = m[k]
            for lane in range(LANES):
                m_k[lane] += e[lane] * power
            power *= x1
    squared_error = result[SQUARED_ERROR]
    for lane in range(LANES):
        amplitude[lane] = d0[lane] / m[0, lane]
        squared_error[lane] = 0.0
    for echo in range(x.size):
        row, x1 = y[echo], x[echo]
        for lane in range(LANES):
            e[lane] = amplitude[lane] * fast_exp(-rate[lane] * x1)
        if f.shape[0] > 0:
            factor = f[echo]
            for lane in range(LANES):
                e[lane] *= factor[lane]
        for lane in range(LANES):
            residual = row[lane] - e[lane]
            squared_error[lane] += residual * residual
    for lane in range(LANES):
        a = amplitude[lane]
        determinant = m[0, lane] * m[2, lane] - m[1, lane] * m[1, lane]
        to_zero = fast_exp(min(rate[lane] * x_first, 700.0))
        result[RATE_VARIANCE, lane] = m[0, lane] / (a * a * determinant)
        result[AMPLITUDE_VARIANCE, lane] = (
            to_zero
            * to_zero
            * (m[2, lane] + 2.0 * x_first * m[1, lane] + x_first * x_first * m[0, lane])
            / determinant
        )
        result[FREEDOM, lane] = x.size - 2.0
        amplitude[lane] = a * to_zero
