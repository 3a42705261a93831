"""Grids around what matters, and images pulled onto them through a chain. Numpy and scipy.

A chain leads from the fixed image's world to the moving image's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from r2star.images import Grid, Image
from r2star.register.align import sample_at, world_points
from r2star.register.transforms import Link, map_points

#: A plane with this share of what others hold is where the view was cut; the first plane of a head holds less.
_CUT_SHARE = 0.5


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


def in_view(image: Image) -> Image:
    """An image without the planes of zeros next to a plane full of signal, as around a slab on a larger grid.

    To a registration they are air, and a whole head would be squeezed into the slab. Zeros around a brain or a head
    stay, as these end in small planes.
    """
    shown = np.nan_to_num(np.asarray(image.data)) != 0
    kept = []
    for axis in range(3):
        counts = shown.sum(axis=tuple({0, 1, 2} - {axis}))
        filled = np.flatnonzero(counts)
        if not filled.size:
            return image
        full = _CUT_SHARE * np.median(counts[filled])
        first, last = filled[0], filled[-1] + 1
        kept.append(
            slice(first if counts[first] > full else 0, last if counts[last - 1] > full else len(counts))
        )
    return cut_out(image, kept)


def cut_out(image: Image, place: Sequence[slice]) -> Image:
    """The voxels of an image in a ``place`` of three slices, where they lie."""
    return replace(image, data=np.asarray(image.data)[tuple(place)], grid=part_of(image.grid, place))


def part_of(grid: Grid, place: Sequence[slice]) -> Grid:
    """The voxels of a grid in a ``place`` of three slices with a beginning and an end."""
    affine = grid.affine.copy()
    affine[:3, 3] = world_points(grid, np.array([float(along.start) for along in place]))
    x, y, z = (int(along.stop - along.start) for along in place)
    return Grid((x, y, z), affine)
