"""Voxels into blocks, and results out of blocks into maps. Imports numba.

Here, and only here, an echo is judged: what a fault is, which run of echoes can be used, what is written.
"""

from __future__ import annotations

import math

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
)  # fmt: skip
from r2star.fit.compiling import kernel
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

SMALLEST = 1e-290  # below it 1/x and x² leave the range of normal numbers
FLAT = 1e-9  # a fall of the signal by less, over all echoes, is rounding


@kernel
def pack_signal(
    signal: NDArray, order: NDArray[np.int64], voxels: NDArray[np.int64], packed: NDArray[np.float64]
) -> None:
    """Copy the echoes ``order`` of the listed voxels of a (N, E) signal into blocks; pad with the last voxel."""
    n_blocks, n_echoes, _ = packed.shape
    index = np.empty(LANES, np.int64)
    for block in range(n_blocks):
        for lane in range(LANES):
            index[lane] = voxels[min(block * LANES + lane, voxels.size - 1)]
        for echo in range(n_echoes):
            column = order[echo]
            row = packed[block, echo]
            for lane in range(LANES):
                row[lane] = signal[index[lane], column]


@kernel
def judge_signal(
    signal: NDArray[np.float64],
    sigma: NDArray[np.float64],
    thresholds: tuple[float, float, float, float],
    largest: NDArray[np.float64],
    variation: NDArray[np.float64],
    run: NDArray[np.int32],
    status: NDArray[np.uint8],
) -> None:
    """Find faults and the run of echoes that can be used, then divide each voxel by its largest echo.

    ``thresholds`` are: an echo must be above ``zero`` and above ``drop_sigmas``·σ, else it and later ones are
    dropped; one at or above ``saturation``, and earlier ones, are dropped; the largest must reach ``floor_sigmas``·σ.
    ``run`` becomes first·1000 + end.
    """
    zero, drop_sigmas, saturation, floor_sigmas = thresholds
    n_blocks, n_echoes, _ = signal.shape
    smallest = np.empty(LANES)
    trouble = np.empty(LANES)
    total = np.empty(LANES)
    n_positive = np.empty(LANES)
    alive = np.empty(LANES)
    first = np.empty(LANES)
    end = np.empty(LANES)
    for block in range(n_blocks):
        top = largest[block]
        spread = variation[block]
        noise = sigma[block]
        for lane in range(LANES):
            top[lane] = 0.0
            smallest[lane] = 0.0
            trouble[lane] = 0.0
            total[lane] = 0.0
            n_positive[lane] = 0.0
            alive[lane] = 1.0
            first[lane] = 0.0
            end[lane] = 0.0
        for echo in range(n_echoes):
            row = signal[block, echo]
            for lane in range(LANES):
                value = row[lane]
                trouble[lane] += value - value  # 0 while all are finite, else NaN
                top[lane] = value if value > top[lane] else top[lane]
                smallest[lane] = value if value < smallest[lane] else smallest[lane]
            for lane in range(LANES):
                n_positive[lane] += 1.0 if row[lane] > SMALLEST else 0.0
                alive[lane] = alive[lane] if row[lane] > max(zero, drop_sigmas * noise[lane]) else 0.0
                end[lane] += alive[lane]
            for lane in range(LANES):
                first[lane] = echo + 1.0 if row[lane] >= saturation else first[lane]
        for lane in range(LANES):
            code = OK
            if top[lane] < floor_sigmas * noise[lane]:
                code = BELOW_NOISE_FLOOR
            if min(n_positive[lane], end[lane] - first[lane]) < 2:
                code = TOO_FEW_ECHOES
            if top[lane] <= SMALLEST:
                code = NO_SIGNAL
            if smallest[lane] < 0:
                code = NEGATIVE
            if not (trouble[lane] == 0 and noise[lane] < math.inf):
                code = NOT_FINITE
            status[block, lane] = code
            run[block, lane] = int(first[lane]) * 1000 + int(end[lane])
            if code != OK:
                top[lane] = 0.0
        for echo in range(n_echoes):
            row = signal[block, echo]
            for lane in range(LANES):
                scaled = row[lane] / top[lane] if top[lane] > 0 else 1.0
                row[lane] = scaled
                total[lane] += scaled
        for lane in range(LANES):
            spread[lane] = 0.0
            noise[lane] = noise[lane] / top[lane] if top[lane] > 0 else 0.0
        for echo in range(n_echoes):
            row = signal[block, echo]
            for lane in range(LANES):
                deviation = row[lane] - total[lane] / n_echoes
                spread[lane] += deviation * deviation


@kernel
def write_maps(
    result: NDArray[np.float64],
    status: NDArray[np.uint8],
    largest: NDArray[np.float64],
    variation: NDArray[np.float64],
    sigma: NDArray[np.float64],
    span_s: float,
    limit: float,
    voxels: NDArray[np.int64],
    maps: tuple[NDArray, NDArray, NDArray, NDArray, NDArray, NDArray],
    status_map: NDArray[np.uint8],
    doubt: int,
) -> None:
    """Bring results into units and write them to the maps at the listed voxels.

    ``maps`` are R2*, its standard error, S0, its standard error, residual, R². ``doubt`` is the status of a
    voxel whose fit went well.
    """
    rate_map, rate_error_map, s0_map, s0_error_map, residual_map, goodness_map = maps
    for position in range(voxels.size):
        block, lane = position // LANES, position % LANES
        voxel = voxels[position]
        scale = largest[block, lane]
        row = result[block, :, lane]
        freedom = row[FREEDOM]
        variance = max(row[SQUARED_ERROR], 0.0) / freedom if freedom > 0.5 else math.nan
        noise = sigma[block, lane] if sigma[block, lane] > 0 else math.sqrt(variance)
        code = status[block, lane]
        s0 = row[AMPLITUDE] * scale
        if code == OK:
            if not (abs(row[RATE] / span_s) <= limit and abs(s0) <= limit):
                code = NOT_FINITE
            elif row[RATE] <= FLAT:
                code = RISING
            else:
                code = doubt
            status_map[voxel] = code
        else:
            status_map[voxel] = code
        if code in (OK, doubt, RISING):
            rate_map[voxel] = row[RATE] / span_s
            rate_error_map[voxel] = noise * math.sqrt(row[RATE_VARIANCE]) / span_s
            s0_map[voxel] = s0
            s0_error_map[voxel] = noise * math.sqrt(row[AMPLITUDE_VARIANCE]) * scale
            residual_map[voxel] = math.sqrt(variance) * scale
            goodness_map[voxel] = (
                1.0 - row[SQUARED_ERROR] / variation[block, lane] if variation[block, lane] > 0 else math.nan
            )
        else:
            for each in maps:
                each[voxel] = math.nan
