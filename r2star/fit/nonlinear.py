"""`nonlinear`: exact least squares of the magnitudes, by variable projection. Imports numba.

For a rate ρ the best amplitude is Σ y·e / Σ e², e = |F|·exp(−ρ·x) (Golub & Pereyra 1973,
doi:10.1137/0710036), and it explains (Σ y·e)² / Σ e² of Σ y². That is largest where g(ρ) = 0: where the mean
echo time under the weights y·e equals the one under e². So a fit is three acts: project on a bank of decays,
which finds the best of several optima; take the vertex of the parabola through the three best; solve g = 0 by
Halley's iteration, and by bisection in the few voxels where that has not settled.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from r2star.fit.blocks import AMPLITUDE, LANES, RATE, Blocks, Design
from r2star.fit.compiling import kernel
from r2star.fit.elementary import fast_exp, fused
from r2star.fit.shared import Rows, add_four, describe_fit, fill_decays, four_rows, project_amplitude
from r2star.fit.status import Status

SingleRows = NDArray[np.float32]

RATE_SPACING = 0.64  # in asinh ρ
N_STEPS = 2
TOLERANCE = 1e-4  # of Newton's last step; the iteration is of third order, so what remains is of the order of its cube
SMALLEST = 1e-30  # of the bank's entries: products with it are still normal numbers of single precision
OK = int(Status.OK)
AT_BOUND = int(Status.AT_BOUND)
NOT_CONVERGED = int(Status.NOT_CONVERGED)


def fit_blocks(blocks: Blocks, design: Design) -> None:
    """Fit every lane of every block; the best rate at either end of the bank is AT_BOUND."""
    _fit(
        blocks.signal,
        blocks.dephasing,
        design.x,
        design.powers,
        design.x_first,
        *make_bank(design),
        blocks.result,
        blocks.status,
    )


def asinh_rates(design: Design) -> NDArray[np.float64]:
    """Values of asinh ρ for a bank that covers the design's range: even near zero, geometric far from it."""
    low, high = np.arcsinh(design.rate_range)
    return np.linspace(low, high, 2 * math.ceil(0.5 + (high - low) / RATE_SPACING / 2))


@lru_cache
def make_bank(design: Design) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
    """Values of asinh ρ and ρ (K,), K even, and their decays (K, E') with Σ e² = 1 in single precision.

    That is enough to find the best of them. Zeros fill up the echoes to a multiple of four, and stand for what
    single precision holds with few digits only.
    """
    scaled_rates = asinh_rates(design)
    rates = np.sinh(scaled_rates)
    decays = np.exp(-rates[:, None] * design.x)
    decays /= np.linalg.norm(decays, axis=1, keepdims=True)
    bank = np.zeros((rates.size, design.powers.shape[1]), np.float32)
    bank[:, : design.x.size] = np.where(decays > SMALLEST, decays, 0.0)
    return scaled_rates, rates, bank


@kernel
def _fit(
    signal: NDArray[np.float64],
    dephasing: NDArray[np.float64],
    x: NDArray[np.float64],
    powers: NDArray[np.float64],
    x_first: float,
    scaled_rates: NDArray[np.float64],
    rates: NDArray[np.float64],
    bank: NDArray[np.float32],
    result: NDArray[np.float64],
    status: NDArray[np.uint8],
) -> None:
    n_blocks, n_echoes, _ = signal.shape
    explained = np.empty((scaled_rates.size, LANES), np.float32)
    node = np.empty(LANES, np.int32)
    doubt = np.empty(LANES)
    decays = np.empty((n_echoes, LANES))
    for block in range(n_blocks):
        y, f, rate = signal[block], _unless_all_one(dephasing[block]), result[block, RATE]
        _project_on_bank(y, f, bank, explained)
        _find_vertex(explained, scaled_rates, node, rate)
        for _ in range(N_STEPS):
            fill_decays(rate, x, f, decays)
            _improve(y, decays, powers, rate, doubt)
        _settle(y, f, x, rates, node, doubt, rate, status[block])
        fill_decays(rate, x, f, decays)
        project_amplitude(y, decays, powers, result[block, AMPLITUDE])
        describe_fit(y, decays, powers, x_first, result[block])


@kernel
def _unless_all_one(f: Rows) -> Rows:
    """The factors, or none where all are 1, as outside the brain: there the fit needs no more time than without."""
    n_below = 0
    for echo in range(f.shape[0]):
        row = f[echo]
        for lane in range(LANES):
            n_below += row[lane] < 1.0
    return f if n_below > 0 else f[:0]


@kernel
def _project_on_bank(y: Rows, f: Rows, bank: SingleRows, explained: SingleRows) -> None:
    """Σ y·e / √Σ e² for every decay of the bank, whose rows come with Σ e² = 1."""
    single = np.zeros((bank.shape[1], LANES), np.float32)
    for echo in range(y.shape[0]):
        row, to = y[echo], single[echo]
        for lane in range(LANES):
            to[lane] = row[lane]
        if f.shape[0] > 0:
            factor = f[echo]
            for lane in range(LANES):
                to[lane] = row[lane] * factor[lane]
    _project(single, bank, explained)
    if f.shape[0] == 0:
        return
    lowest = np.ones(LANES, np.float32)
    for echo in range(y.shape[0]):
        factor, to = f[echo], single[echo]
        for lane in range(LANES):
            to[lane] = factor[lane] * factor[lane]
            lowest[lane] = min(lowest[lane], to[lane])
    norms = np.empty_like(explained)
    _project(single, bank * bank, norms)
    one = np.float32(1.0)
    for k in range(explained.shape[0]):
        total, norm = explained[k], norms[k]
        for lane in range(LANES):  # exactly 1 for a voxel without dephasing, as in a block that has none
            total[lane] /= math.sqrt(norm[lane]) if lowest[lane] < one else one


@kernel
def _project(y: SingleRows, bank: SingleRows, total: SingleRows) -> None:
    """Σ y·e for every e of the bank, two of them and four echoes at a time, to fetch and store less."""
    total[:] = np.float32(0.0)
    for k in range(0, bank.shape[0], 2):
        one, other = total[k], total[k + 1]
        for echo in range(0, y.shape[0], 4):
            y_0, y_1, y_2, y_3 = y[echo], y[echo + 1], y[echo + 2], y[echo + 3]
            e_0, e_1, e_2, e_3 = bank[k, echo], bank[k, echo + 1], bank[k, echo + 2], bank[k, echo + 3]
            f_0, f_1, f_2, f_3 = (
                bank[k + 1, echo], bank[k + 1, echo + 1], bank[k + 1, echo + 2], bank[k + 1, echo + 3]
            )  # fmt: skip
            for lane in range(LANES):
                a, b, c, d = y_0[lane], y_1[lane], y_2[lane], y_3[lane]
                one[lane] = fused(a, e_0, fused(b, e_1, fused(c, e_2, fused(d, e_3, one[lane]))))
                other[lane] = fused(a, f_0, fused(b, f_1, fused(c, f_2, fused(d, f_3, other[lane]))))


@kernel
def _find_vertex(
    explained: SingleRows, scaled_rates: NDArray[np.float64], node: NDArray[np.int32], rate: Rows
) -> None:
    """The bank's best node, and the rate at the vertex of the parabola through it and its neighbours."""
    last = scaled_rates.size - 1
    best = np.zeros(LANES, np.float32)
    node[:] = 0
    for k in range(0, last, 2):
        one, other = explained[k], explained[k + 1]
        for lane in range(LANES):
            a, b = one[lane], other[lane]
            candidate, at = (b, np.int32(k + 1)) if b > a else (a, np.int32(k))
            better = candidate > best[lane]
            best[lane] = candidate if better else best[lane]
            node[lane] = at if better else node[lane]
    left, right = np.empty(LANES), np.empty(LANES)
    for lane in range(LANES):
        k = min(max(node[lane], 1), last - 1)
        left[lane], right[lane] = explained[k - 1, lane], explained[k + 1, lane]
    lowest, spacing = scaled_rates[0], scaled_rates[1] - scaled_rates[0]
    for lane in range(LANES):
        bend = max(2.0 * best[lane] - left[lane] - right[lane], 1e-300)
        shift = min(max(0.5 * (right[lane] - left[lane]) / bend, -1.0), 1.0)
        growth = fast_exp(lowest + spacing * (node[lane] + shift))
        rate[lane] = 0.5 * (growth - 1.0 / growth)


@kernel
def _improve(y: Rows, decays: Rows, powers: Rows, rate: Rows, doubt: Rows) -> None:
    """One step of Halley's iteration on g(ρ) = mean of x under y·e − mean of x under e².

    Under weights that are exponential in ρ the derivative of a mean is a variance, and that of a variance a
    third central moment, each with the sign and the factor of the exponent. ``doubt`` falls below zero where
    Newton's step was short and g rose: Halley's is short, too, where g is level, far from its zero.
    """
    sums = np.zeros((8, LANES))  # Σ y·e·xᵏ, then Σ e²·xᵏ
    for echo in range(0, y.shape[0], 4):
        y_0, y_1, y_2, y_3 = four_rows(y, echo)
        e_0, e_1, e_2, e_3 = four_rows(decays, echo)
        for lane in range(LANES):
            a, b, c, d = (
                y_0[lane] * e_0[lane],
                y_1[lane] * e_1[lane],
                y_2[lane] * e_2[lane],
                y_3[lane] * e_3[lane],
            )
            sums[0, lane] = add_four(sums[0, lane], a, b, c, d, powers, 0, echo)
            sums[1, lane] = add_four(sums[1, lane], a, b, c, d, powers, 1, echo)
            sums[2, lane] = add_four(sums[2, lane], a, b, c, d, powers, 2, echo)
            sums[3, lane] = add_four(sums[3, lane], a, b, c, d, powers, 3, echo)
        for lane in range(LANES):
            a, b, c, d = (
                e_0[lane] * e_0[lane],
                e_1[lane] * e_1[lane],
                e_2[lane] * e_2[lane],
                e_3[lane] * e_3[lane],
            )
            sums[4, lane] = add_four(sums[4, lane], a, b, c, d, powers, 0, echo)
            sums[5, lane] = add_four(sums[5, lane], a, b, c, d, powers, 1, echo)
            sums[6, lane] = add_four(sums[6, lane], a, b, c, d, powers, 2, echo)
            sums[7, lane] = add_four(sums[7, lane], a, b, c, d, powers, 3, echo)
    for lane in range(LANES):
        per_data, per_model = 1.0 / sums[0, lane], 1.0 / sums[4, lane]
        mean_d, square_d, cube_d = (
            sums[1, lane] * per_data,
            sums[2, lane] * per_data,
            sums[3, lane] * per_data,
        )
        mean_m, square_m, cube_m = (
            sums[5, lane] * per_model,
            sums[6, lane] * per_model,
            sums[7, lane] * per_model,
        )
        g = mean_d - mean_m
        slope = 2.0 * (square_m - mean_m * mean_m) - (square_d - mean_d * mean_d)
        skew_d = cube_d - mean_d * (3.0 * square_d - 2.0 * mean_d * mean_d)
        skew_m = cube_m - mean_m * (3.0 * square_m - 2.0 * mean_m * mean_m)
        step = -2.0 * g * slope / (2.0 * slope * slope - g * (skew_d - 4.0 * skew_m))
        reach = 1.0 + abs(rate[lane])
        doubt[lane] = abs(g) - TOLERANCE * reach * slope
        rate[lane] += min(max(step, -reach), reach)


@kernel
def _settle(
    y: Rows,
    f: Rows,
    x: Rows,
    rates: Rows,
    node: NDArray[np.int32],
    doubt: Rows,
    rate: Rows,
    status: NDArray[np.uint8],
) -> None:
    """Mark optima outside the bank, and bisect where the rate has not settled or left the best node's bracket."""
    last = rates.size - 1
    for lane in range(LANES):
        if status[lane] != OK:
            continue
        if not 0 < node[lane] < last:
            status[lane] = AT_BOUND
            continue
        low, high = rates[node[lane] - 1], rates[node[lane] + 1]
        if not (doubt[lane] < 0.0 and low < rate[lane] < high):
            rate[lane] = _bisect(y[:, lane], f[:, lane], x, low, high)
            if math.isnan(rate[lane]):
                status[lane] = NOT_CONVERGED


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
