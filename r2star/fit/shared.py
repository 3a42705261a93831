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
from r2star.fit.compiling import kernel
from r2star.fit.elementary import fast_exp

Rows = NDArray[np.float64]

EVEN = 1e-14  # of the span: a departure of rounding, which no result can show


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


@kernel
def project_amplitude(y: Rows, decays: Rows, amplitude: Rows) -> None:
    """Least-squares amplitude at the first echo, a = Σ y·e / Σ e²."""
    norm = np.zeros(LANES)
    amplitude[:] = 0.0
    for echo in range(y.shape[0]):
        row, e = y[echo], decays[echo]
        for lane in range(LANES):
            amplitude[lane] += row[lane] * e[lane]
            norm[lane] += e[lane] * e[lane]
    for lane in range(LANES):
        amplitude[lane] /= norm[lane]


@kernel
def describe_fit(y: Rows, decays: Rows, x: Rows, x_first: float, result: Rows) -> None:
    """Squared error, (JᵀJ)⁻¹ for J = (e, −S0·t·e), and the amplitude brought from the first echo to t = 0.

    ``result`` comes with RATE and, at the first echo, AMPLITUDE. The variances are those of an efficient
    estimator under noise of σ = 1.
    """
    amplitude, squared_error = result[AMPLITUDE], result[SQUARED_ERROR]
    moments = np.zeros((3, LANES))  # Σ e²·xᵏ
    squared_error[:] = 0.0
    for echo in range(y.shape[0]):
        row, e, x_echo = y[echo], decays[echo], x[echo]
        for lane in range(LANES):
            difference = row[lane] - amplitude[lane] * e[lane]
            squared_error[lane] += difference * difference
        m0, m1, m2 = moments[0], moments[1], moments[2]
        for lane in range(LANES):
            weight = e[lane] * e[lane]
            m0[lane] += weight
            m1[lane] += weight * x_echo
            m2[lane] += weight * x_echo * x_echo
    _invert_information(moments, x_first, result)
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
