"""Voxels into blocks, and results out of blocks into maps. Imports numba.

Here, and only here, a signal is judged: what a fault is, which run of echoes can be used, what is written.
"""

from __future__ import annotations

import math
from typing import Any

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
    Rules,
)
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
AT_BOUND = int(Status.AT_BOUND)
NOT_CONVERGED = int(Status.NOT_CONVERGED)
RISING = int(Status.RISING)
ECHOES_DROPPED = int(Status.ECHOES_DROPPED)
SATURATED = int(Status.SATURATED)

SMALLEST = 1e-290  # below it 1/x and products leave the range of normal numbers
FLAT = 1e-9  # a smaller fall of ln M over all echoes is rounding
LEAST_VARIATION = 1e-24  # of a signal of largest echo 1: a smaller one is rounding
LEAST_FREEDOM = 0.05  # below it there is no residual to speak of


@kernel
def pack_signal(
    signal: NDArray[Any], order: NDArray[np.int64], voxels: NDArray[np.int64], packed: NDArray[np.float64]
) -> None:
    """Copy the echoes ``order`` of the listed voxels of a (N, E) signal into blocks; pad with the last voxel."""
    index = np.empty(LANES, np.int64)
    for block in range(packed.shape[0]):
        for lane in range(LANES):
            index[lane] = voxels[min(block * LANES + lane, voxels.size - 1)]
        first = index[0]
        is_full = (block + 1) * LANES <= voxels.size
        neighbours = is_full and index[LANES - 1] - first == LANES - 1  # for voxels come in rising order
        for echo in range(packed.shape[1]):
            row, column = packed[block, echo], order[echo]
            if neighbours:
                near = signal.T[column][first : first + LANES]  # contiguous where echoes come first in memory
                for lane in range(LANES):
                    row[lane] = near[lane]
            else:
                for lane in range(LANES):
                    row[lane] = signal[index[lane], column]


@kernel
def judge_signal(
    signal: NDArray[np.float64],
    sigma: NDArray[np.float64],
    rules: Rules,
    largest: NDArray[np.float64],
    variation: NDArray[np.float64],
    run: NDArray[np.int32],
    status: NDArray[np.uint8],
) -> None:
    """Find faults and the run of usable echoes, then divide each voxel, and its σ, by its largest echo.

    ``run`` becomes first·(E + 1) + end, so E where every echo can be used or none; ``variation`` Σ(y − mean y)².
    """
    n_echoes = signal.shape[1]
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
        _normalise(signal[block], noise, top, total, status[block], variation[block])


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
    """Mark voxels whose factors are no numbers of 0 to 1 (with rounding), and replace those by ones."""
    for block in range(dephasing.shape[0]):
        for lane in range(LANES):
            for echo in range(dephasing.shape[1]):
                if not 0.0 <= dephasing[block, echo, lane] <= 1.0 + 1e-6:
                    dephasing[block, echo, lane] = 1.0
                    status[block, lane] = NOT_FINITE if status[block, lane] == OK else status[block, lane]


@kernel
def write_maps(
    result: NDArray[np.float64],
    status: NDArray[np.uint8],
    largest: NDArray[np.float64],
    variation: NDArray[np.float64],
    sigma: NDArray[np.float64],
    span_s: float,
    rate_range: tuple[float, float],
    limit: float,
    voxels: NDArray[np.int64],
    maps: tuple[Any, ...],
    status_map: NDArray[np.uint8],
    doubt: int,
) -> None:
    """Bring results into units and write them to the maps at the listed voxels.

    ``maps`` are R2*, its standard error, S0, its standard error, residual and R², in the order of `_convert`; one
    without room is not wanted. ``limit`` is the largest number that they hold, ``doubt`` the status of a voxel
    whose fit went well.
    """
    values = np.empty((len(maps), LANES))
    for block in range(result.shape[0]):
        _decide(result[block], rate_range, largest[block], span_s, limit, doubt, status[block])
        _convert(
            result[block],
            sigma[block],
            largest[block],
            variation[block],
            span_s,
            limit,
            status[block],
            values,
        )
        _scatter(status[block], voxels[block * LANES :], status_map)
        for k in range(len(maps)):
            if maps[k].size > 0:
                _scatter(values[k], voxels[block * LANES :], maps[k])


@kernel
def _scatter(row: NDArray[Any], voxels: NDArray[np.int64], image: NDArray[Any]) -> None:
    """Write the lanes of a block to the listed voxels, fewer in the last block."""
    n_lanes = min(LANES, voxels.size)
    if voxels[n_lanes - 1] - voxels[0] == n_lanes - 1:  # neighbours, for voxels come in rising order
        near = image[voxels[0] : voxels[0] + n_lanes]
        for lane in range(n_lanes):
            near[lane] = row[lane]
    else:
        for lane in range(n_lanes):
            image[voxels[lane]] = row[lane]


@kernel
def _decide(
    result: Rows,
    rate_range: tuple[float, float],
    largest: Rows,
    span_s: float,
    limit: float,
    doubt: int,
    status: NDArray[np.uint8],
) -> None:
    """Final status of the voxels that the estimator left OK."""
    low, high = rate_range
    for lane in range(LANES):
        rate, s0 = result[RATE, lane], result[AMPLITUDE, lane] * largest[lane]
        code = doubt if rate > FLAT else RISING
        if not (abs(rate) <= limit * span_s and abs(s0) <= limit):
            code = NOT_FINITE
        if not low < rate < high:
            code = AT_BOUND
        if math.isnan(rate + s0):
            code = NOT_CONVERGED
        status[lane] = code if status[lane] == OK else status[lane]


@kernel
def _convert(
    result: Rows,
    sigma: Rows,
    largest: Rows,
    variation: Rows,
    span_s: float,
    limit: float,
    status: NDArray[np.uint8],
    values: Rows,
) -> None:
    """The six numbers of every lane in their units; NaN for all of a voxel without a value, or for one too large."""
    per_span = 1.0 / span_s
    for lane in range(LANES):
        freedom = result[FREEDOM, lane]
        variance = max(result[SQUARED_ERROR, lane], 0.0) / freedom if freedom > LEAST_FREEDOM else math.nan
        residual = math.sqrt(variance)
        noise = sigma[lane] if sigma[lane] > 0 else residual
        values[0, lane] = result[RATE, lane] * per_span
        values[1, lane] = noise * math.sqrt(result[RATE_VARIANCE, lane]) * per_span
        values[2, lane] = result[AMPLITUDE, lane] * largest[lane]
        values[3, lane] = noise * math.sqrt(result[AMPLITUDE_VARIANCE, lane]) * largest[lane]
        values[4, lane] = residual * largest[lane]
        values[5, lane] = (
            1.0 - result[SQUARED_ERROR, lane] / variation[lane] if variation[lane] > 0 else math.nan
        )
    largest_value = np.empty(LANES)
    for lane in range(LANES):
        code = status[lane]
        has_value = (code == OK) | (code == RISING) | (code == ECHOES_DROPPED) | (code == SATURATED)
        largest_value[lane] = limit if has_value else -1.0
    for k in range(values.shape[0]):
        row = values[k]
        for lane in range(LANES):
            row[lane] = row[lane] if abs(row[lane]) <= largest_value[lane] else math.nan
