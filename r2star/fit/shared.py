"""Kernels that several estimators share: the decay at a rate, and the uncertainty of a fit. Imports numba.

Every loop over lanes is short and touches few arrays, which is what lets the compiler use vector instructions.
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
)
from r2star.fit.compiling import helper, kernel
from r2star.fit.elementary import fast_exp, fast_log, fused

Rows = NDArray[np.float64]

TINY = 1e-150  # what a logarithm is taken of, at least: its square is still a number
EVEN = 1e-14  # of the span: a departure of rounding, which no result can show


@kernel
def fill_logs(y: Rows, f: Rows, logs: Rows) -> None:
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
def fill_decays(rate: Rows, x: Rows, dephasing: Rows, decays: Rows) -> None:
    """Model of unit amplitude, e = |F|·exp(−ρ·x), for every echo and lane.

    Evenly spaced echoes are powers of one exponential.
    """
    even = True
    for echo in range(x.size):
        even = even and abs(x[echo] - echo * x[1]) < EVEN
    for echo in range(x.size):
        row, x_echo = decays[echo], x[echo]
        if x_echo == 0.0:
            row[:] = 1.0
        elif even and echo > 1:
            step, before = decays[1], decays[echo - 1]
            for lane in range(LANES):
                row[lane] = before[lane] * step[lane]
        else:
            for lane in range(LANES):
                row[lane] = fast_exp(max(-rate[lane] * x_echo, -700.0))
    if dephasing.shape[0] > 0:
        for echo in range(x.size):
            row, factor = decays[echo], dephasing[echo]
            for lane in range(LANES):
                row[lane] *= factor[lane]


@helper
def four_rows(rows: Rows, echo: int) -> tuple[Rows, Rows, Rows, Rows]:
    """The echo and the three after it: sums that take four at a time are fetched and stored a quarter as often.

    After the last echo it comes again, for weights of zero: the columns that pad `Design.powers`.
    """
    last = rows.shape[0] - 1
    return rows[echo], rows[min(echo + 1, last)], rows[min(echo + 2, last)], rows[min(echo + 3, last)]


@helper
def add_four(total: float, a: float, b: float, c: float, d: float, weights: Rows, k: int, echo: int) -> float:
    """The total and a, b, c and d times the weights k of the echo and the three after it."""
    total = fused(d, weights[k, echo + 3], total)
    total = fused(c, weights[k, echo + 2], total)
    total = fused(b, weights[k, echo + 1], total)
    return fused(a, weights[k, echo], total)


@kernel
def project_amplitude(y: Rows, decays: Rows, powers: Rows, amplitude: Rows) -> None:
    """Least-squares amplitude at the first echo, a = Σ y·e / Σ e²."""
    sums = np.zeros((2, LANES))
    for echo in range(0, y.shape[0], 4):
        y_0, y_1, y_2, y_3 = four_rows(y, echo)
        e_0, e_1, e_2, e_3 = four_rows(decays, echo)
        for lane in range(LANES):
            a, b, c, d = e_0[lane], e_1[lane], e_2[lane], e_3[lane]
            sums[0, lane] = add_four(
                sums[0, lane], a * y_0[lane], b * y_1[lane], c * y_2[lane], d * y_3[lane], powers, 0, echo
            )
            sums[1, lane] = add_four(sums[1, lane], a * a, b * b, c * c, d * d, powers, 0, echo)
    for lane in range(LANES):
        amplitude[lane] = sums[0, lane] / sums[1, lane]


@kernel
def describe_fit(y: Rows, decays: Rows, powers: Rows, x_first: float, result: Rows) -> None:
    """Squared error, (JᵀJ)⁻¹ for J = (e, −S0·t·e), and the amplitude brought from the first echo to t = 0.

    ``result`` comes with RATE and, at the first echo, AMPLITUDE. The variances are those of an efficient
    estimator under noise of σ = 1.
    """
    amplitude = result[AMPLITUDE]
    sums = np.zeros((4, LANES))  # Σ (y − a·e)², Σ e²·xᵏ
    for echo in range(0, y.shape[0], 4):
        y_0, y_1, y_2, y_3 = four_rows(y, echo)
        e_0, e_1, e_2, e_3 = four_rows(decays, echo)
        for lane in range(LANES):
            a, b, c, d = e_0[lane], e_1[lane], e_2[lane], e_3[lane]
            p, q = y_0[lane] - amplitude[lane] * a, y_1[lane] - amplitude[lane] * b
            r, s = y_2[lane] - amplitude[lane] * c, y_3[lane] - amplitude[lane] * d
            sums[0, lane] = add_four(sums[0, lane], p * p, q * q, r * r, s * s, powers, 0, echo)
            a, b, c, d = a * a, b * b, c * c, d * d
            sums[1, lane] = add_four(sums[1, lane], a, b, c, d, powers, 0, echo)
            sums[2, lane] = add_four(sums[2, lane], a, b, c, d, powers, 1, echo)
            sums[3, lane] = add_four(sums[3, lane], a, b, c, d, powers, 2, echo)
    result[SQUARED_ERROR, :] = sums[0]
    _invert_information(sums[1:], x_first, result)
    result[FREEDOM, :] = y.shape[0] - 2.0


@kernel
def _invert_information(moments: Rows, x_first: float, result: Rows) -> None:
    rate, amplitude = result[RATE], result[AMPLITUDE]
    rate_variance, amplitude_variance = result[RATE_VARIANCE], result[AMPLITUDE_VARIANCE]
    m0, m1, m2 = moments[0], moments[1], moments[2]
    for lane in range(LANES):
        determinant = m0[lane] * m2[lane] - m1[lane] * m1[lane]
        a = amplitude[lane]
        rate_variance[lane] = m0[lane] / (a * a * determinant)
        amplitude_variance[lane] = (m2[lane] + x_first * (2.0 * m1[lane] + x_first * m0[lane])) / determinant
    for lane in range(LANES):
        to_zero = fast_exp(min(max(rate[lane] * x_first, -350.0), 350.0))
        amplitude[lane] *= to_zero
        amplitude_variance[lane] *= to_zero * to_zero
