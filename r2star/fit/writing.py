"""Results out of blocks into maps: units, final status, and what stays without a value. Imports numba."""

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
)
from r2star.fit.compiling import kernel
from r2star.fit.shared import Rows
from r2star.fit.status import Status

OK = int(Status.OK)
OUTSIDE_MASK = int(Status.OUTSIDE_MASK)
NOT_FINITE = int(Status.NOT_FINITE)
AT_BOUND = int(Status.AT_BOUND)
NOT_CONVERGED = int(Status.NOT_CONVERGED)
RISING = int(Status.RISING)
ECHOES_DROPPED = int(Status.ECHOES_DROPPED)
SATURATED = int(Status.SATURATED)

FLAT = 1e-9  # a smaller fall of ln M over all echoes is rounding
LEAST_FREEDOM = 0.05  # below it there is no residual to speak of


@kernel
def clear_maps(maps: tuple[Any, ...], status_map: NDArray[np.uint8], start: int, stop: int) -> None:
    """No value, OUTSIDE_MASK: what voxels from start to stop are that nobody fits."""
    for k in range(len(maps)):
        if maps[k].size > 0:
            maps[k][start:stop] = math.nan
    status_map[start:stop] = OUTSIDE_MASK


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
