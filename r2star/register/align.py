"""Where to start a registration: the best of a few rigid guesses at 8 mm. Imports numpy, scipy and images.

An optimiser walks downhill from where it is put. A scan whose origin is half a metre off, whose field of
view ends in the neck, or whose head is tilted is met here, before ANTs begins.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.errors import Notice, ProcessingError
from r2star.images import Grid, Image
from r2star.register.transforms import Affine

#: Centres further apart than this under the headers' own coordinates earn a notice.
FAR_MM = 120.0
_STEP_MM = 8.0
_BINS = 24
_TILTS_DEG = (-30.0, -15.0, 0.0, 15.0, 30.0)
_LIFTS_MM = (-40.0, -20.0, 0.0, 20.0, 40.0)


def world_points(grid: Grid, voxels: NDArray[np.float64]) -> NDArray[np.float64]:
    """World coordinates (..., 3) of voxel indices (..., 3)."""
    return np.asarray(voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3])


def sample_at(image: Image, points: NDArray[np.float64], *, order: int = 1) -> NDArray[np.float64]:
    """Values of an image at world points (..., 3); NaN outside of it."""
    from scipy.ndimage import map_coordinates

    inverse = np.linalg.inv(image.grid.affine)
    voxels = np.moveaxis(points @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)
    data = np.asarray(image.data, dtype=np.float32)
    values = map_coordinates(data, voxels, order=order, mode="constant", cval=np.nan, output=np.float64)
    return np.asarray(values)


def coarse_copy(image: Image, step_mm: float = _STEP_MM) -> Image:
    """A smoothed copy of an image on its own axes with voxels of about ``step_mm``.

    Smoothed by a Gaussian of 0.35 of the new voxels where they are larger, and interpolated linearly.
    """
    size = np.array(image.grid.voxel_size_mm)
    factor = np.maximum(step_mm / size, 1.0)
    values = np.nan_to_num(np.asarray(image.data, np.float32))
    old = np.array(values.shape)
    shape = np.maximum(np.ceil(old / factor).astype(int), 2)
    first = (old - 1 - (shape - 1) * factor) / 2
    # one sparse matrix an axis: what is left out is never smoothed
    for axis, (start, n, step) in enumerate(zip(first, shape, factor)):
        weights = _weights(int(old[axis]), start + np.arange(n) * step, 0.35 * step if step > 1 else 0.0)
        moved = np.moveaxis(values, axis, 0)
        taken = weights @ np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
        values = np.moveaxis(taken.reshape(n, *moved.shape[1:]), 0, axis)
    affine = image.grid.affine.copy()
    affine[:3, :3] = affine[:3, :3] * factor
    affine[:3, 3] = image.grid.affine[:3, :3] @ first + image.grid.affine[:3, 3]
    return Image(np.ascontiguousarray(values), Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine))


def _weights(n: int, places: NDArray[np.float64], sigma: float) -> Any:
    """Sparse matrix (places, n): a Gaussian out to 4σ of n values in a row, then linear between them; edges repeat."""
    from scipy.sparse import csr_array

    lower = np.clip(np.floor(places).astype(int), 0, n - 1)
    fraction = np.clip(places - lower, 0.0, 1.0)
    reach = int(4 * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    taps /= taps.sum()
    rows, columns, values = [], [], []
    for offset, weight in ((0, 1 - fraction), (1, fraction)):
        for shift, tap in zip(range(-reach, reach + 1), taps):
            rows.append(np.arange(len(places)))
            columns.append(np.clip(np.clip(lower + offset, 0, n - 1) + shift, 0, n - 1))
            values.append(weight * tap)
    at = np.concatenate(rows), np.concatenate(columns)
    return csr_array((np.concatenate(values).astype(np.float32), at), shape=(len(places), n))


def mutual_information(one: NDArray[np.float64], other: NDArray[np.float64], bins: int = _BINS) -> float:
    """Mutual information of two lists of values in nats; 0 where fewer than 100 pairs are finite.

    >>> values = np.arange(4096.0)
    >>> mutual_information(values, values % 2) < 0.01 < mutual_information(values, -values)
    True
    """
    kept = np.isfinite(one) & np.isfinite(other)
    if kept.sum() < 100:
        return 0.0
    counts, _, _ = np.histogram2d(_ranked(one[kept], bins), _ranked(other[kept], bins), bins=bins)
    joint = counts / counts.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / independent[filled])).sum())


def _ranked(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Values scaled to 0 … bins between their 1st and 99th percentile."""
    low, high = np.percentile(values, [1, 99])
    return np.asarray(np.clip((values - low) / max(high - low, 1e-12), 0, 1) * bins)


def find_start(fixed: Image, moving: Image, what: str) -> tuple[Affine, tuple[Notice, ...]]:
    """The best rigid start from the fixed to the moving world, and a notice where the headers were of no use.

    Raises
    ------
    ProcessingError
        E405 where one of the images holds nothing to align.
    """
    fixed_low, moving_low = coarse_copy(fixed), coarse_copy(moving)
    axes = [np.arange(n, dtype=np.float64) for n in fixed_low.grid.shape]
    points = world_points(fixed_low.grid, np.stack(np.meshgrid(*axes, indexing="ij"), -1)).reshape(-1, 3)
    values = np.asarray(fixed_low.data, np.float64).ravel()
    fixed_centre, fixed_middle = _centres(fixed_low, what)
    moving_centre, moving_middle = _centres(moving_low, what)
    shifts = [moving_centre - fixed_centre, moving_middle - fixed_middle, np.zeros(3)]
    best, best_score = np.eye(4), -1.0
    for shift, tilt, lift in product(shifts, _TILTS_DEG, _LIFTS_MM):
        guess = _rigid(fixed_centre, shift + np.array([0.0, 0.0, lift]), tilt)
        moved = sample_at(moving_low, points @ guess[:3, :3].T + guess[:3, 3])
        # outside the moving image is air: a guess that pushes the head out of view must not win
        score = mutual_information(values, np.nan_to_num(moved))
        if score > best_score:
            best, best_score = guess, score
    distance = float(np.linalg.norm(moving_middle - fixed_middle))
    if distance <= FAR_MM:
        return Affine(best), ()
    message = f"{what}: the images' centres lie {distance:.0f} mm apart; they were aligned by their contents"
    return Affine(best), (Notice("W441", message, "check the origin in the header"),)


def _centres(image: Image, what: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """World coordinates of the centre of intensity and of the middle of the grid."""
    data = np.asarray(image.data, np.float64)
    weight = np.clip(data - np.percentile(data, 5), 0, np.percentile(data, 98))
    if not np.isfinite(weight).all() or weight.sum() <= 0:
        raise ProcessingError("E405", f"{what}: an image is empty or constant", "an image of a head")
    axes = np.meshgrid(*[np.arange(n) for n in data.shape], indexing="ij")
    centre = np.array([float((axis * weight).sum() / weight.sum()) for axis in axes])
    middle = (np.array(data.shape) - 1) / 2
    return world_points(image.grid, centre), world_points(image.grid, middle)


def _rigid(centre: NDArray[np.float64], shift: NDArray[np.float64], tilt_deg: float) -> NDArray[np.float64]:
    """Rotation about the left–right axis through ``centre``, then a shift."""
    angle = np.deg2rad(tilt_deg)
    rotation = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = centre + shift - rotation @ centre
    return matrix
