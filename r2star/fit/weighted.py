"""`weighted`: least squares of ln M on echo time, each echo weighted by its fitted S². Imports numba.

var(ln M) ≈ σ²/S², so the right weight of a logarithm is S². The measured S² in its place gives an echo the more
weight the more noise raised it, and biases R2* low; the weights here are those of the previous fit, refreshed
`N_REFITS` times (Edwards, ISMRM 2022; Salvador 2005, doi:10.1002/hbm.20076, for the same idea in diffusion).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from r2star.fit.blocks import AMPLITUDE, LANES, RATE, Blocks, Design
from r2star.fit.compiling import kernel
from r2star.fit.elementary import fast_exp, fast_log
from r2star.fit.shared import Rows, describe_fit, fill_decays

N_REFITS = 3
TINY = 1e-150  # what a logarithm is taken of, at least: its square is still a number


def fit_blocks(blocks: Blocks, design: Design) -> None:
    """Fit every lane: first with the weights |F|², then with fitted ones."""
    _fit(blocks.signal, blocks.dephasing, design.x, design.x_first, blocks.result)


@kernel
def _fit(
    signal: NDArray[np.float64],
    dephasing: NDArray[np.float64],
    x: NDArray[np.float64],
    x_first: float,
    result: NDArray[np.float64],
) -> None:
    n_blocks, n_echoes, _ = signal.shape
    logs = np.empty((n_echoes, LANES))
    decays = np.empty((n_echoes, LANES))
    for block in range(n_blocks):
        y, f, rate, amplitude = signal[block], dephasing[block], result[block, RATE], result[block, AMPLITUDE]
        _fill_logs(y, f, logs)
        rate[:] = 0.0
        for _ in range(1 + N_REFITS):
            fill_decays(rate, x, f, decays)
            _regress(logs, decays, x, rate, amplitude)
        fill_decays(rate, x, f, decays)
        describe_fit(y, decays, x, x_first, result[block])


@kernel
def _fill_logs(y: Rows, f: Rows, logs: Rows) -> None:
    """ln(M/|F|)."""
    for echo in range(y.shape[0]):
        row, log = y[echo], logs[echo]
        for lane in range(LANES):
            log[lane] = fast_log(max(row[lane], TINY))
        if f.shape[0] > 0:
            factor = f[echo]
            for lane in range(LANES):
                log[lane] -= fast_log(max(factor[lane], TINY))


@kernel
def _regress(logs: Rows, decays: Rows, x: Rows, rate: Rows, amplitude: Rows) -> None:
    """Straight line through the logarithms, weights e²: rate is minus its slope, amplitude exp of its level at x = 0.

    x runs from the first echo, where a decay has its weight, so the differences below lose no digits. Two echoes at
    a time, so that sums are fetched and stored half as often; one that is alone goes with itself, at no weight.
    """
    sums = np.zeros((5, LANES))  # of the weights times 1, x, x², ln y, x·ln y
    last = x.size - 1
    for echo in range(0, x.size, 2):
        other = min(echo + 1, last)
        e_0, e_1, x_0, x_1 = decays[echo], decays[other], x[echo], x[other]
        present = 1.0 if echo < last else 0.0
        w, w_x, w_xx = sums[0], sums[1], sums[2]
        for lane in range(LANES):
            weight_0 = e_0[lane] * e_0[lane]
            weight_1 = e_1[lane] * e_1[lane] * present
            w[lane] += weight_0 + weight_1
            w_x[lane] += weight_0 * x_0 + weight_1 * x_1
            w_xx[lane] += weight_0 * (x_0 * x_0) + weight_1 * (x_1 * x_1)
        w_log, w_x_log, log_0, log_1 = sums[3], sums[4], logs[echo], logs[other]
        for lane in range(LANES):
            term_0 = e_0[lane] * e_0[lane] * log_0[lane]
            term_1 = e_1[lane] * e_1[lane] * log_1[lane] * present
            w_log[lane] += term_0 + term_1
            w_x_log[lane] += term_0 * x_0 + term_1 * x_1
    w, w_x, w_xx, w_log, w_x_log = sums[0], sums[1], sums[2], sums[3], sums[4]
    for lane in range(LANES):
        determinant = w[lane] * w_xx[lane] - w_x[lane] * w_x[lane]
        rate[lane] = (w_x[lane] * w_log[lane] - w[lane] * w_x_log[lane]) / determinant
        level = (w_xx[lane] * w_log[lane] - w_x[lane] * w_x_log[lane]) / determinant
        amplitude[lane] = fast_exp(min(max(level, -340.0), 340.0))
