"""Scanning a painted head: voxels of any grid and pose, with partial volume. Arrays only; numpy and scipy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.simulate.anatomy import Template, Tissue
from r2star.simulate.warp import Warp

Array = NDArray[Any]

_LARGEST_STEP_MM = 0.75  # between the points at which a voxel's signal is summed
_LARGEST_STEP_IN_LARGE_MM = 1.0
_LARGE_VOXEL_MM3 = 8.0
_SLAB_VOXELS = 300_000
_N_INVERSION_STEPS = 8  # y = t − u(y), a contraction while the Jacobian stays positive


@dataclass(frozen=True)
class Head:
    """One person: tissue, nuclei included, on the template's grid, and the warp from the person to it."""

    template: Template
    tissue: Tissue
    warp: Warp


@dataclass(frozen=True)
class Scan:
    """A head on a voxel grid, without noise: signal (E, X, Y, Z), and at the voxel centres what is true there.

    ``labels`` whole numbers; ``r2star_per_s`` (1/s) NaN outside the brain.
    """

    signal: Array
    labels: Array
    r2star_per_s: Array
    brain_mask: Array


def scan_echoes(
    head: Head, shape: Sequence[int], affine: Array, world_to_template: Array, echo_times_s: Sequence[float]
) -> Scan:
    """Magnitude of each echo: the mean over points within a voxel of S0·exp(−R2*·t).

    Points lie at most 0.75 mm apart along each axis (1 mm in voxels from 8 mm³), and each has the tissue of the
    template's voxel that it falls into, so that a voxel on a border decays as the mixture that it is. The field
    within a voxel is left out here: see `r2star.simulate.decay.dephasing`.

    Parameters
    ----------
    head
        The person.
    shape, affine
        Voxel grid in the scanner, voxel to world.
    world_to_template
        4 × 4, from the scanner's world to the template's, before the warp.
    echo_times_s
        (E,) seconds.
    """
    shape, n_echoes = tuple(shape), len(echo_times_s)
    decays = _decay_by_voxel(head.tissue, echo_times_s)
    labels_by_voxel = head.template.labels.reshape(-1)
    signal = np.zeros((int(np.prod(shape)), n_echoes), np.float32)
    labels = np.zeros(signal.shape[0], labels_by_voxel.dtype)
    r2star = np.full(labels.shape, np.nan, np.float32)
    brain = np.zeros(labels.shape, bool)
    offsets = _points_in_voxel(affine)
    to_index = np.linalg.inv(head.template.affine)
    steps_mm = (world_to_template[:3, :3] @ affine[:3, :3] @ offsets).astype(np.float32)
    for flat, position in _centres(head, shape, affine, world_to_template):
        index = _apply(to_index, head.warp(position))
        stretch = head.warp.gradient(position)
        centre = _voxel_of(index, head.template.labels.shape)
        labels[flat] = labels_by_voxel[centre]
        brain[flat] = head.template.brain_mask.reshape(-1)[centre]
        r2star[flat] = head.tissue.r2star_per_s.reshape(-1)[centre]
        total = np.zeros((flat.size, n_echoes), np.float32)
        for step in steps_mm.T:
            moved = step[:, None] + sum(stretch[:, axis] * step[axis] for axis in range(3))
            total += decays[_voxel_of(index + _turn(to_index, moved), head.template.labels.shape)]
        signal[flat] = total / np.float32(offsets.shape[1])
    r2star[~brain] = np.nan
    return Scan(
        signal=np.ascontiguousarray(signal.T).reshape(n_echoes, *shape),
        labels=labels.reshape(shape),
        r2star_per_s=r2star.reshape(shape),
        brain_mask=brain.reshape(shape),
    )


def label_volumes(head: Head, world_to_template: Array) -> Array:
    """Volume (mm³) of each label in the person, by label number: Σ 1 / det of the mapping to the template.

    Summed over the template's voxels of the label, so that it does not depend on any voxel grid of the scanner.
    """
    labels = head.template.labels
    where = np.argwhere(labels > 0)
    target = _apply(head.template.affine, where.T)
    before = target
    for _ in range(_N_INVERSION_STEPS):
        before = target - (head.warp(before) - before)
    gradient = np.moveaxis(head.warp.gradient(before), -1, 0)
    jacobian = np.linalg.det(np.eye(3) + gradient) * np.linalg.det(world_to_template[:3, :3])
    voxel_mm3 = abs(np.linalg.det(head.template.affine[:3, :3]))
    return np.bincount(labels[tuple(where.T)], voxel_mm3 / np.abs(jacobian))


def scan_t1w(head: Head, shape: Sequence[int], affine: Array, world_to_template: Array) -> Array:
    """T1-weighted intensity at the voxel centres, on the template's scale (0–99), (X, Y, Z) float32."""
    image = np.zeros(tuple(shape), np.float32)
    to_index = np.linalg.inv(head.template.affine)
    for flat, position in _centres(head, image.shape, affine, world_to_template):
        image.reshape(-1)[flat] = _linear(head.template.t1w, _apply(to_index, head.warp(position)))
    return image


def template_positions(
    head: Head, shape: Sequence[int], affine: Array, world_to_template: Array
) -> Iterator[tuple[slice, Array]]:
    """Positions in the template (3, N) of all voxels, slab by slab along the first axis."""
    per_slice = int(np.prod(shape[1:]))
    n_slices = max(1, _SLAB_VOXELS // per_slice)
    matrix = (world_to_template @ affine).astype(np.float64)
    for start in range(0, shape[0], n_slices):
        slab = slice(start, min(start + n_slices, shape[0]))
        ijk = np.mgrid[slab, : shape[1], : shape[2]].reshape(3, -1)
        yield slab, head.warp(_apply(matrix, ijk))


def _centres(
    head: Head, shape: Sequence[int], affine: Array, world_to_template: Array
) -> Iterator[tuple[Array, Array]]:
    """Flat numbers of the voxels near the head and where they are before the warp (3, N), slab by slab."""
    near = head.template.near_head.reshape(-1)
    to_index = np.linalg.inv(head.template.affine)
    matrix = world_to_template @ affine
    per_slice = int(np.prod(shape[1:]))
    n_slices = max(1, _SLAB_VOXELS // per_slice)
    for start in range(0, shape[0], n_slices):
        stop = min(start + n_slices, shape[0])
        ijk = np.mgrid[start:stop, : shape[1], : shape[2]].reshape(3, -1)
        position = _apply(matrix, ijk)
        kept = np.flatnonzero(near[_voxel_of(_apply(to_index, position), head.template.labels.shape)])
        if kept.size:
            yield kept + start * per_slice, position[:, kept]


def _turn(matrix: Array, vectors: Array) -> Array:
    """Linear part of an affine map, of vectors (3, N)."""
    x, y, z = vectors
    return np.stack([row[0] * x + row[1] * y + row[2] * z for row in matrix[:3].astype(np.float32)])


def _decay_by_voxel(tissue: Tissue, echo_times_s: Sequence[float]) -> Array:
    """Signal of each template voxel, flat, at each echo time, (V, E) float32; the last voxel stands for air."""
    decays = np.empty((tissue.s0.size, len(echo_times_s)), np.float32)
    for echo, time in enumerate(echo_times_s):
        decays[:, echo] = (tissue.s0 * np.exp(tissue.r2star_per_s * np.float32(-time))).reshape(-1)
    decays[-1] = 0
    return decays


def _voxel_of(index: Array, shape: Sequence[int]) -> Array:
    """Flat number of the voxel that holds template indices (3, N); the last voxel for points outside."""
    flat = np.zeros(index.shape[1], np.int32)
    outside = np.zeros(index.shape[1], bool)
    for along, n in zip(np.rint(index).astype(np.int32), shape, strict=True):
        outside |= along.view(np.uint32) >= n
        flat = flat * n + along
    flat[outside] = int(np.prod(shape)) - 1
    return flat


def _points_in_voxel(affine: Array) -> Array:
    """Offsets from the voxel's centre, in voxels, (3, P): the centres of equal boxes."""
    size = np.linalg.norm(affine[:3, :3], axis=0)
    largest = _LARGEST_STEP_MM if np.prod(size) < _LARGE_VOXEL_MM3 else _LARGEST_STEP_IN_LARGE_MM
    counts = np.ceil(size / largest - 1e-6).astype(int)
    axes = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    return np.array([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")])


def _apply(matrix: Array, points: Array) -> Array:
    """Affine map of points (3, N); term by term, so that no library's order of summing shows in the bytes."""
    x, y, z = points
    return np.stack([row[0] * x + row[1] * y + row[2] * z + row[3] for row in matrix[:3]]).astype(np.float32)


def _linear(values: Array, index: Array) -> Array:
    """Trilinear values, float32; 0 outside the grid."""
    from scipy import ndimage

    return np.asarray(ndimage.map_coordinates(values, index, np.float32, order=1, mode="constant"))
