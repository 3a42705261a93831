"""Is a signal one: its faults, and the run of echoes that can be used. Imports numba."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from r2star.fit.blocks import LANES, Rules
from r2star.fit.compiling import helper, kernel
from r2star.fit.elementary import fused
from r2star.fit.shared import Rows, four_rows
from r2star.fit.status import Status

OK = int(Status.OK)
NO_SIGNAL = int(Status.NO_SIGNAL)
NOT_FINITE = int(Status.NOT_FINITE)
NEGATIVE = int(Status.NEGATIVE)
TOO_FEW_ECHOES = int(Status.TOO_FEW_ECHOES)
BELOW_NOISE_FLOOR = int(Status.BELOW_NOISE_FLOOR)

LARGEST_FACTOR = 1.0 + 1e-6  # |F| with rounding
SMALLEST = 1e-290  # below it 1/x and products leave the range of normal numbers


@kernel
def judge_signal(
    signal: NDArray[np.float64],
    sigma: NDArray[np.float64],
    rules: Rules,
    largest: NDArray[np.float64],
    variation: NDArray[np.float64],
    run: NDArray[np.int32],
    status: NDArray[np.uint8],
) -> bool:
    """Find faults and the run of usable echoes, then divide each voxel, and its σ, by its largest echo.

    ``run`` becomes first·(E + 1) + end, so E where every echo can be used or none; ``variation`` Σ(y − mean y)².
    Returns whether some voxels can use some echoes only.
    """
    n_echoes = signal.shape[1]
    some_lack_echoes = False
    facts = np.empty((5, LANES))
    for block in range(signal.shape[0]):
        noise, top = sigma[block], largest[block]
        for lane in range(LANES):
            noise[lane] = noise[lane] if 0.0 < noise[lane] < math.inf else 0.0
        _scan(signal[block], noise, rules, top, facts)
        smallest, total, first, end = facts[0], facts[1], facts[2], facts[3]
        for lane in range(LANES):
            code = OK
            if top[lane] < rules.floor_sigmas * noise[lane]:
                code = BELOW_NOISE_FLOOR
            if (
                end[lane] - first[lane] < 2 or total[lane] <= top[lane]
            ):  # then no second echo shows in the sum
                code = TOO_FEW_ECHOES
            if top[lane] <= SMALLEST:
                code = NO_SIGNAL
            if smallest[lane] < 0:
                code = NEGATIVE
            if not abs(total[lane]) < math.inf:
                code = NOT_FINITE
            status[block, lane] = code
            run[block, lane] = int(first[lane]) * (n_echoes + 1) + int(end[lane]) if code == OK else n_echoes
            some_lack_echoes |= run[block, lane] != n_echoes
        _normalise(signal[block], noise, top, total, status[block], variation[block])
    return some_lack_echoes


@helper
def larger(a: float, b: float) -> float:
    """The larger one, by one comparison; NaN is seen in the sum."""
    return a if a > b else b


@helper
def smaller(a: float, b: float) -> float:
    """The smaller one, by one comparison."""
    return a if a < b else b


@kernel
def _scan(signal: Rows, noise: Rows, rules: Rules, top: Rows, facts: Rows) -> None:
    """Per lane: smallest and largest echo, the sum, which is finite if all echoes are, and the usable run."""
    smallest, total, first, end, alive = facts[0], facts[1], facts[2], facts[3], facts[4]
    facts[:] = 0.0
    top[:] = 0.0
    smallest[:] = math.inf
    alive[:] = 1.0
    in_fours = signal.shape[0] - signal.shape[0] % 4
    for echo in range(0, in_fours, 4):
        row_0, row_1, row_2, row_3 = four_rows(signal, echo)
        for lane in range(LANES):
            a, b, c, d = row_0[lane], row_1[lane], row_2[lane], row_3[lane]
            top[lane] = larger(larger(larger(a, b), larger(c, d)), top[lane])
            smallest[lane] = smaller(smaller(smaller(a, b), smaller(c, d)), smallest[lane])
            total[lane] += (a + b) + (c + d)
    for echo in range(in_fours, signal.shape[0]):
        row = signal[echo]
        for lane in range(LANES):
            top[lane] = larger(row[lane], top[lane])
            smallest[lane] = smaller(row[lane], smallest[lane])
            total[lane] += row[lane]
    n_quiet = 0
    for lane in range(LANES):
        loud = smallest[lane] > rules.lowest_echo and smallest[lane] >= rules.drop_sigmas * noise[lane]
        n_quiet += 0 if loud else 1
    if n_quiet == 0:
        end[:] = signal.shape[0]
    for echo in range(signal.shape[0]):
        row = signal[echo]
        if n_quiet > 0:
            for lane in range(LANES):
                loud = row[lane] > rules.lowest_echo and row[lane] >= rules.drop_sigmas * noise[lane]
                alive[lane] = alive[lane] if loud else 0.0
                end[lane] += alive[lane]
        if rules.saturation < math.inf:
            for lane in range(LANES):
                first[lane] = echo + 1.0 if row[lane] >= rules.saturation else first[lane]


@kernel
def _normalise(
    signal: Rows, noise: Rows, top: Rows, total: Rows, status: NDArray[np.uint8], variation: Rows
) -> None:
    """Divide by the largest echo; a voxel with a fault becomes a row of ones, which every estimator survives."""
    inverse = np.empty(LANES)
    variation[:] = 0.0
    for lane in range(LANES):
        top[lane] = top[lane] if status[lane] == OK else 0.0
        inverse[lane] = 1.0 / top[lane] if top[lane] > 0 else 0.0
        noise[lane] *= inverse[lane]
        total[lane] *= inverse[lane] / signal.shape[0]
    for echo in range(signal.shape[0]):
        row = signal[echo]
        for lane in range(LANES):
            row[lane] = row[lane] * inverse[lane] if inverse[lane] > 0 else 1.0
    in_fours = signal.shape[0] - signal.shape[0] % 4
    for echo in range(0, in_fours, 4):
        row_0, row_1, row_2, row_3 = four_rows(signal, echo)
        for lane in range(LANES):
            mean = total[lane]
            a, b, c, d = row_0[lane] - mean, row_1[lane] - mean, row_2[lane] - mean, row_3[lane] - mean
            variation[lane] += fused(a, a, b * b) + fused(c, c, d * d)
    for echo in range(in_fours, signal.shape[0]):
        row = signal[echo]
        for lane in range(LANES):
            variation[lane] += (row[lane] - total[lane]) * (row[lane] - total[lane])


@kernel
def judge_dephasing(dephasing: NDArray[np.float64], status: NDArray[np.uint8]) -> None:
    """Mark voxels whose factors are no numbers of 0 to 1, and replace those by ones, as what rounding put above 1."""
    for block in range(dephasing.shape[0]):
        n_odd = 0
        for echo in range(dephasing.shape[1]):
            row = dephasing[block, echo]
            for lane in range(LANES):
                n_odd += not 0.0 <= row[lane] <= 1.0
        if n_odd == 0:
            continue
        for lane in range(LANES):
            for echo in range(dephasing.shape[1]):
                factor = dephasing[block, echo, lane]
                if not 0.0 <= factor <= 1.0:
                    dephasing[block, echo, lane] = 1.0
                    if not 0.0 <= factor <= LARGEST_FACTOR and status[block, lane] == OK:
                        status[block, lane] = NOT_FINITE
