"""Labels, masks and maps through transforms in one interpolation, on any grid and in its own storage order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2star.errors import ProcessingError
from r2star.images import Grid, Image, from_canonical
from r2star.register import engine
from r2star.register.align import world_points
from r2star.register.grids import cut_out, part_of

#: Voxels larger than this many label voxels are sampled at several points, and the label of most of them wins.
_OVERSAMPLE_ABOVE = 1.25
#: Where labels come to lie is looked for at points so far apart, around their box with a margin.
_LOOK_EVERY_MM, _LOOK_AROUND_MM = 4.0, 12.0


def resample_labels_array(labels: Image, transforms: Sequence[Path], grid: Grid) -> NDArray[np.uint16]:
    """Labels on ``grid``: at each point the label of greatest linear weight, over large voxels the commonest.

    Each point is interpolated once, through all transforms together; values stay exact whole numbers.

    Raises
    ------
    ProcessingError
        E406 where a value comes out that went not in.
    """
    canonical = grid.canonical()
    place, part = _where_it_lies(labels, transforms, canonical)
    factor = _oversampling(canonical, labels.grid)
    fine = _finer(part, factor)
    moved = engine.apply_transforms(_held(labels, 2.0), fine, transforms, "genericLabel", "the labels")
    whole = np.rint(moved).astype(np.uint16)
    unknown = np.setdiff1d(np.unique(whole), np.unique(np.asarray(labels.data)))
    if np.abs(moved - whole).max(initial=0) > 1e-3 or (unknown != 0).any():
        raise ProcessingError(
            "E406", f"labels {unknown.tolist()[:5]} appeared in resampling", "the atlas' own labels"
        )
    result = np.zeros(canonical.shape, np.uint16)
    result[place] = _commonest(whole, factor)
    return np.ascontiguousarray(from_canonical(result, grid), dtype=np.uint16)


def resample_mask(mask: Image, transforms: Sequence[Path], grid: Grid) -> NDArray[np.bool_]:
    """A mask on ``grid``: where its linear interpolation is above one half."""
    canonical = grid.canonical()
    place, part = _where_it_lies(mask, transforms, canonical)
    result = np.zeros(canonical.shape, bool)
    result[place] = engine.apply_transforms(mask, part, transforms, "linear", "a mask") > 0.5
    return np.ascontiguousarray(from_canonical(result, grid))


def resample_values(
    moving: Image, transforms: Sequence[Path], grid: Grid, *, fill: float = np.nan
) -> NDArray[np.float32]:
    """A map on ``grid``, linear, NaN-aware: Σ w·v / Σ w over the finite neighbours; ``fill`` where Σ w < 0.5."""
    canonical = grid.canonical()
    finite = np.isfinite(np.asarray(moving.data, np.float32))
    # one sample beyond the edge counts as absent too, so pad: ITK repeats the border within half a voxel
    weight = engine.apply_transforms(
        Image(finite.astype(np.float32), moving.grid), canonical, transforms, "linear", "a mask of values"
    )
    clean = Image(np.where(finite, moving.data, 0).astype(np.float32), moving.grid)
    total = engine.apply_transforms(clean, canonical, transforms, "linear", "a map")
    known = weight >= 0.5
    values = np.where(known, total / np.where(known, weight, 1), np.float32(fill)).astype(np.float32)
    return np.ascontiguousarray(from_canonical(values, grid), dtype=np.float32)


def nearest_by_world(image: Image, grid: Grid) -> NDArray[np.float32]:
    """Values of the voxel whose centre is nearest to each voxel of ``grid`` in world space; 0 outside."""
    to_voxels = np.linalg.inv(image.grid.affine) @ grid.affine
    axes = [np.arange(n, dtype=np.float64) for n in grid.shape]
    voxels = np.stack(np.meshgrid(*axes, indexing="ij"), -1) @ to_voxels[:3, :3].T + to_voxels[:3, 3]
    # a voxel reaches half its size beyond its centre; the small number keeps ties on one side
    nearest = np.floor(voxels + 0.5 + 1e-6).astype(int)
    inside = ((nearest >= 0) & (nearest < image.grid.shape)).all(axis=-1)
    nearest[~inside] = 0
    values = np.asarray(image.data, np.float32)[tuple(np.moveaxis(nearest, -1, 0))]
    return np.where(inside, np.nan_to_num(values), np.float32(0)).astype(np.float32)


def _where_it_lies(image: Image, transforms: Sequence[Path], grid: Grid) -> tuple[tuple[slice, ...], Grid]:
    """The part of a canonical grid in which all that is not 0 in an image comes to lie, and some around it.

    Most of a head holds no label, and ANTs takes its time for each voxel.
    """
    near = _held(image, _LOOK_AROUND_MM / min(image.grid.voxel_size_mm))
    every = np.maximum(np.rint(_LOOK_EVERY_MM / np.array(grid.voxel_size_mm)).astype(int), 1)
    box = Image(np.ones(near.grid.shape, np.float32), near.grid)
    looked = engine.apply_transforms(box, _at_every(grid, every), transforms, "nearestNeighbor", "a box")
    seen = np.argwhere(looked > 0.5)
    if not seen.size:
        return tuple(slice(0, n) for n in grid.shape), grid
    first = np.maximum((seen.min(axis=0) - 2) * every, 0)
    last = np.minimum((seen.max(axis=0) + 2) * every + 1, grid.shape)
    place = tuple(slice(int(a), int(b)) for a, b in zip(first, last))
    return place, part_of(grid, place)


def _held(image: Image, margin_voxels: float) -> Image:
    """What of an image is not 0, with a margin; the whole image where all is 0."""
    held = np.argwhere(np.asarray(image.data) != 0)
    if not held.size:
        return image
    margin = int(np.ceil(margin_voxels))
    low, high = np.maximum(held.min(axis=0) - margin, 0), held.max(axis=0) + margin + 1
    high = np.minimum(high, image.grid.shape)
    return cut_out(image, [slice(a, b) for a, b in zip(low, high)])


def _at_every(grid: Grid, every: NDArray[np.int_]) -> Grid:
    """The grid of every nth voxel along each axis, n by ``every``."""
    affine = grid.affine.copy()
    affine[:3, :3] = affine[:3, :3] * every
    x, y, z = (int(n) for n in np.ceil(np.array(grid.shape) / every))
    return Grid((x, y, z), affine)


def _oversampling(grid: Grid, labels: Grid) -> tuple[int, int, int]:
    smallest = min(labels.voxel_size_mm)
    x, y, z = (
        1 if size <= _OVERSAMPLE_ABOVE * smallest else int(np.ceil(size / smallest))
        for size in grid.voxel_size_mm
    )
    return x, y, z


def _finer(grid: Grid, factor: tuple[int, int, int]) -> Grid:
    """Each voxel cut into ``factor`` parts along its axes."""
    cut = np.array(factor)
    affine = grid.affine.copy()
    affine[:3, :3] = affine[:3, :3] / cut
    affine[:3, 3] = world_points(grid, (1 / cut - 1) / 2)
    x, y, z = (int(n) for n in np.array(grid.shape) * cut)
    return Grid((x, y, z), affine)


def _commonest(labels: NDArray[np.uint16], factor: tuple[int, int, int]) -> NDArray[np.uint16]:
    """The commonest label of each block; of equally common ones the smallest number."""
    if factor == (1, 1, 1):
        return labels
    x, y, z = (n // f for n, f in zip(labels.shape, factor))
    blocks = labels.reshape(x, factor[0], y, factor[1], z, factor[2])
    best, most = np.zeros((x, y, z), np.uint16), (blocks == 0).sum(axis=(1, 3, 5))
    for label in np.unique(labels)[1:]:
        count = (blocks == label).sum(axis=(1, 3, 5))
        best[count > most] = label
        most = np.maximum(most, count)
    return best
