"""Grids around what matters, and images pulled onto them through a chain. Numpy and scipy.

A chain leads from the fixed image's world to the moving image's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from r2star.images import Grid, Image
from r2star.register.align import sample_at, world_points
from r2star.register.transforms import Link, map_points


def box_grid(grid: Grid, inside: NDArray[np.bool_], margin_mm: float, step_mm: float | None = None) -> Grid:
    """The sub-grid around the ``inside`` voxels with a margin, optionally of another voxel size."""
    where = np.argwhere(inside)
    margin = margin_mm / np.array(grid.voxel_size_mm)
    low = np.maximum(np.floor(where.min(axis=0) - margin), 0)
    high = np.minimum(np.ceil(where.max(axis=0) + margin), np.array(grid.shape) - 1)
    factor = 1.0 if step_mm is None else step_mm / np.array(grid.voxel_size_mm)
    shape = np.floor((high - low) / factor).astype(int) + 1
    affine = grid.affine.copy()
    affine[:3, :3] = affine[:3, :3] * factor
    affine[:3, 3] = world_points(grid, low)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def pull(moving: Image, chain: Sequence[Link], grid: Grid) -> Image:
    """The moving image on a grid of the fixed world, through the chain; 0 where it has no values."""
    slabs = []
    axes = [np.arange(n, dtype=np.float64) for n in grid.shape]
    for index in np.array_split(axes[0], max(1, grid.shape[0] // 16)):
        voxels = np.stack(np.meshgrid(index, axes[1], axes[2], indexing="ij"), -1)
        slabs.append(sample_at(moving, map_points(chain, world_points(grid, voxels))))
    return Image(np.nan_to_num(np.concatenate(slabs)).astype(np.float32), grid)
