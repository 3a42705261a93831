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
from r2star.fit.elementary import fast_exp
from r2star.fit.shared import Rows, add_four, describe_fit, fill_decays, fill_logs, four_rows

N_REFITS = 3


def fit_blocks(blocks: Blocks, design: Design) -> None:
    """Fit every lane: first with the weights |F|², then with fitted ones."""
    _fit(blocks.signal, blocks.dephasing, design.x, design.powers, design.x_first, blocks.result)


@kernel
def _fit(
    signal: NDArray[np.float64],
    dephasing: NDArray[np.float64],
    x: NDArray[np.float64],
    powers: NDArray[np.float64],
    x_first: float,
    result: NDArray[np.float64],
) -> None:
    n_blocks, n_echoes, _ = signal.shape
    logs = np.empty((n_echoes, LANES))
    decays = np.empty((n_echoes, LANES))
    level = np.empty(LANES)
    for block in range(n_blocks):
        y, f, rate, amplitude = signal[block], dephasing[block], result[block, RATE], result[block, AMPLITUDE]
        fill_logs(y, f, logs)
        rate[:] = 0.0
        for _ in range(1 + N_REFITS):
            fill_decays(rate, x, f, decays)
            _regress(logs, decays, powers, rate, level)
        for lane in range(LANES):
            amplitude[lane] = fast_exp(min(max(level[lane], -340.0), 340.0))
        fill_decays(rate, x, f, decays)
        describe_fit(y, decays, powers, x_first, result[block])


@kernel
def _regress(logs: Rows, decays: Rows, powers: Rows, rate: Rows, level: Rows) -> None:
    """Straight line through the logarithms, weights e²: rate is minus its slope, level its height at x = 0.

    x runs from the first echo, where a decay has its weight, so the differences below lose no digits.
    """
    sums = np.zeros((5, LANES))  # of the weights times 1, x, x², ln y, x·ln y
    for echo in range(0, logs.shape[0], 4):
        log_0, log_1, log_2, log_3 = four_rows(logs, echo)
        e_0, e_1, e_2, e_3 = four_rows(decays, echo)
        for lane in range(LANES):
            a, b, c, d = e_0[lane], e_1[lane], e_2[lane], e_3[lane]
            a, b, c, d = a * a, b * b, c * c, d * d
            sums[0, lane] = add_four(sums[0, lane], a, b, c, d, powers, 0, echo)
            sums[1, lane] = add_four(sums[1, lane], a, b, c, d, powers, 1, echo)
            sums[2, lane] = add_four(sums[2, lane], a, b, c, d, powers, 2, echo)
            a, b, c, d = a * log_0[lane], b * log_1[lane], c * log_2[lane], d * log_3[lane]
            sums[3, lane] = add_four(sums[3, lane], a, b, c, d, powers, 0, echo)
            sums[4, lane] = add_four(sums[4, lane], a, b, c, d, powers, 1, echo)
    w, w_x, w_xx, w_log, w_x_log = sums[0], sums[1], sums[2], sums[3], sums[4]
    for lane in range(LANES):
        inverse = 1.0 / (w[lane] * w_xx[lane] - w_x[lane] * w_x[lane])
        rate[lane] = (w_x[lane] * w_log[lane] - w[lane] * w_x_log[lane]) * inverse
        level[lane] = (w_xx[lane] * w_log[lane] - w_x[lane] * w_x_log[lane]) * inverse
