"""Voxels into blocks: which ones, and their echoes. Imports numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.fit.blocks import LANES
from r2star.fit.compiling import kernel


@kernel
def list_voxels(mask: NDArray[np.bool_] | None, start: int, stop: int, voxels: NDArray[np.int64]) -> int:
    """List the voxels of the mask from start to stop, all where there is no mask, in rising order; their number."""
    if mask is None:
        for voxel in range(start, stop):
            voxels[voxel - start] = voxel
        return stop - start
    n = 0
    for voxel in range(start, stop):
        voxels[n] = voxel
        n += 1 if mask[voxel] else 0
    return n


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
