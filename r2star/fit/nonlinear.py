"""`nonlinear`: exact least squares of the magnitudes, by variable projection. Imports numba.

For a rate ρ the best amplitude is Σ y·e / Σ e², e = |F|·exp(−ρ·x) (Golub & Pereyra 1973,
doi:10.1137/0710036), and it explains (Σ y·e)² / Σ e² of Σ y². That is largest where g(ρ) = 0: where the mean
echo time under the weights y·e equals the one under e². So a fit is three acts: project on a bank of decays,
which finds the best of several optima; take the vertex of the parabola through the three best; solve g = 0 by
Halley's iteration, and by bisection in the few voxels where that has not settled.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from r2star.fit.blocks import AMPLITUDE, LANES, RATE, Blocks, Design
from r2star.fit.compiling import kernel
from r2star.fit.elementary import fast_exp
from r2star.fit.shared import Rows, describe_fit, fill_decays, project_amplitude
from r2star.fit.status import Status

RATE_SPACING = 0.32  # in asinh ρ
N_STEPS = 2
TOLERANCE = (
    1e-4  # of the last step; the iteration is of third order, so what remains is of the order of its cube
)
OK = int(Status.OK)
AT_BOUND = int(Status.AT_BOUND)
NOT_CONVERGED = int(Status.NOT_CONVERGED)


def fit_blocks(blocks: Blocks, design: Design) -> None:
    """Fit every lane of every block; the best rate at either end of the bank is AT_BOUND."""
    scaled_rates = asinh_rates(design)
    rates = np.sinh(scaled_rates)
    decays = np.exp(-rates[:, None] * design.x)
    decays /= np.linalg.norm(decays, axis=1, keepdims=True)
    _fit(
        blocks.signal,
        blocks.dephasing,
        design.x,
        design.x_first,
        scaled_rates,
        rates,
        decays,
        blocks.result,
        blocks.status,
    )


def asinh_rates(design: Design) -> NDArray[np.float64]:
    """Values of asinh ρ for a bank that covers the design's range: even near zero, geometric far from it."""
    low, high = np.arcsinh(design.rate_range)
    return np.linspace(low, high, 1 + math.ceil((high - low) / RATE_SPACING))


@kernel
def _fit(
    signal: NDArray[np.float64],
    dephasing: NDArray[np.float64],
    x: NDArray[np.float64],
    x_first: float,
    scaled_rates: NDArray[np.float64],
    rates: NDArray[np.float64],
    bank: NDArray[np.float64],
    result: NDArray[np.float64],
    status: NDArray[np.uint8],
) -> None:
    n_blocks, n_echoes, _ = signal.shape
    explained = np.empty((scaled_rates.size, LANES))
    node = np.empty(LANES, np.int64)
    step = np.empty(LANES)
    decays = np.empty((n_echoes, LANES))
    for block in range(n_blocks):
        y, f, rate = signal[block], dephasing[block], result[block, RATE]
        _project_on_bank(y, f, bank, explained)
        _find_vertex(explained, scaled_rates, node, rate)
        for _ in range(N_STEPS):
            fill_decays(rate, x, f, decays)
            _improve(y, decays, x, rate, step)
        _settle(y, f, x, rates, node, step, rate, status[block])
        fill_decays(rate, x, f, decays)
        project_amplitude(y, decays, result[block, AMPLITUDE])
        describe_fit(y, decays, x, x_first, result[block])


@kernel
def _project_on_bank(y: Rows, f: Rows, bank: Rows, explained: Rows) -> None:
    """Σ y·e / √Σ e² for every decay of the bank, whose rows come with Σ e² = 1."""
    norm = np.empty(LANES)
    for k in range(bank.shape[0]):
        total = explained[k]
        if f.shape[0] == 0:
            _project(y, bank[k], total)
        else:
            total[:] = 0.0
            norm[:] = 0.0
            for echo in range(y.shape[0]):
                row, factor, e = y[echo], f[echo], bank[k, echo]
                for lane in range(LANES):
                    model = factor[lane] * e
                    total[lane] += row[lane] * model
                    norm[lane] += model * model
            for lane in range(LANES):
                total[lane] /= math.sqrt(norm[lane])


@kernel
def _project(y: Rows, decay: NDArray[np.float64], total: Rows) -> None:
    """Σ y·e, four echoes at a time: fetching and storing the sums would cost more than the sums."""
    in_fours = y.shape[0] - y.shape[0] % 4
    total[:] = 0.0
    for echo in range(0, in_fours, 4):
        y_0, y_1, y_2, y_3 = y[echo], y[echo + 1], y[echo + 2], y[echo + 3]
        e_0, e_1, e_2, e_3 = decay[echo], decay[echo + 1], decay[echo + 2], decay[echo + 3]
        for lane in range(LANES):
            total[lane] += (y_0[lane] * e_0 + y_1[lane] * e_1) + (y_2[lane] * e_2 + y_3[lane] * e_3)
    for echo in range(in_fours, y.shape[0]):
        row, e = y[echo], decay[echo]
        for lane in range(LANES):
            total[lane] += row[lane] * e


@kernel
def _find_vertex(explained: Rows, scaled_rates: Rows, node: NDArray[np.int64], rate: Rows) -> None:
    """The bank's best node, and the rate at the vertex of the parabola through it and its neighbours."""
    last = scaled_rates.size - 1
    best = explained[0].copy()
    node[:] = 0
    for k in range(1, last + 1):
        candidate = explained[k]
        for lane in range(LANES):
            better = candidate[lane] > best[lane]
            best[lane] = candidate[lane] if better else best[lane]
            node[lane] = k if better else node[lane]
    left, right = np.empty(LANES), np.empty(LANES)
    for lane in range(LANES):
        k = min(max(node[lane], 1), last - 1)
        left[lane], right[lane], rate[lane] = explained[k - 1, lane], explained[k + 1, lane], scaled_rates[k]
    spacing = scaled_rates[1] - scaled_rates[0]
    for lane in range(LANES):
        bend = max(2.0 * best[lane] - left[lane] - right[lane], 1e-300)
        shift = min(max(0.5 * (right[lane] - left[lane]) / bend, -1.0), 1.0)
        scaled = rate[lane] + spacing * shift
        rate[lane] = 0.5 * (fast_exp(scaled) - fast_exp(-scaled))


@kernel
def _improve(y: Rows, decays: Rows, x: Rows, rate: Rows, step: Rows) -> None:
    """One step of Halley's iteration on g(ρ) = mean of x under y·e − mean of x under e².

    Under weights that are exponential in ρ the derivative of a mean is a variance, and that of a variance a
    third central moment, each with the sign and the factor of the exponent.
    """
    data = np.zeros((4, LANES))  # Σ y·e·xᵏ
    model = np.zeros((4, LANES))  # Σ e²·xᵏ
    for echo in range(y.shape[0]):
        row, e = y[echo], decays[echo]
        weight = 1.0
        for k in range(4):
            data_k, model_k = data[k], model[k]
            for lane in range(LANES):
                data_k[lane] += weight * e[lane] * row[lane]
                model_k[lane] += weight * e[lane] * e[lane]
            weight *= x[echo]
    for lane in range(LANES):
        mean_d, square_d, cube_d = (
            data[1, lane] / data[0, lane],
            data[2, lane] / data[0, lane],
            data[3, lane] / data[0, lane],
        )
        mean_m, square_m, cube_m = (
            model[1, lane] / model[0, lane],
            model[2, lane] / model[0, lane],
            model[3, lane] / model[0, lane],
        )
        g = mean_d - mean_m
        slope = 2.0 * (square_m - mean_m * mean_m) - (square_d - mean_d * mean_d)
        skew_d = cube_d - mean_d * (3.0 * square_d - 2.0 * mean_d * mean_d)
        skew_m = cube_m - mean_m * (3.0 * square_m - 2.0 * mean_m * mean_m)
        step[lane] = -2.0 * g * slope / (2.0 * slope * slope - g * (skew_d - 4.0 * skew_m))
        rate[lane] += min(max(step[lane], -1.0 - abs(rate[lane])), 1.0 + abs(rate[lane]))


@kernel
def _settle(
    y: Rows,
    f: Rows,
    x: Rows,
    rates: Rows,
    node: NDArray[np.int64],
    step: Rows,
    rate: Rows,
    status: NDArray[np.uint8],
) -> None:
    """Mark optima outside the bank, and bisect where the last step was large or left the best node's bracket."""
    last = rates.size - 1
    for lane in range(LANES):
        settled = abs(step[lane]) < TOLERANCE * (1.0 + abs(rate[lane]))
        inside = 0 < node[lane] < last
        k = min(max(node[lane], 1), last - 1)
        low, high = rates[k - 1], rates[k + 1]
        if status[lane] != OK:
            rate[lane] = 0.0
        elif not inside:
            status[lane] = AT_BOUND
            rate[lane] = 0.0
        elif not (settled and low < rate[lane] < high):
            rate[lane] = _bisect(y[:, lane], f[:, lane], x, low, high)
            if math.isnan(rate[lane]):
                status[lane] = NOT_CONVERGED
                rate[lane] = 0.0


@kernel
def _bisect(y: Rows, f: Rows, x: Rows, low: float, high: float) -> float:
    """Zero of g in [low, high] for one voxel; NaN where g does not change its sign from − to +."""
    if not (_mean_difference(y, f, x, low) < 0.0 < _mean_difference(y, f, x, high)):
        return math.nan
    for _ in range(60):
        middle = 0.5 * (low + high)
        if _mean_difference(y, f, x, middle) < 0.0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@kernel
def _mean_difference(y: Rows, f: Rows, x: Rows, rate: float) -> float:
    data = data_x = model = model_x = 0.0
    for echo in range(x.size):
        e = math.exp(-rate * x[echo])
        if f.size > 0:
            e *= f[echo]
        data += y[echo] * e
        data_x += y[echo] * e * x[echo]
        model += e * e
        model_x += e * e * x[echo]
    return data_x / data - model_x / model
