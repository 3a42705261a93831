"""Gradient of the B0 map: a plane fitted to the mask's voxels in a small neighbourhood of each.

Inside, where the neighbourhood is complete, the plane's slope is a separable filter; at the rim of the mask
each voxel gets its own normal equations. Arrays only; imports numpy, and scipy.ndimage when called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.field.unwrap import bounding_box

#: Gyromagnetic ratio of the proton over 2π, CODATA 2022: 42.577478461 MHz/T, here Hz/µT.
GAMMA_HZ_PER_UT = 42.577478461
#: Half the width of the neighbourhood, at least one voxel.
NEIGHBOURHOOD_RADIUS_MM = 1.5
_CHUNK = 8192


class FieldGradient(NamedTuple):
    """Gradient along the voxel axes and its standard error, (X, Y, Z, 3), µT/m; NaN where there is none."""

    ut_per_m: NDArray[np.float32]
    se_ut_per_m: NDArray[np.float32] | None


def fit_gradient(
    b0_hz: NDArray[np.floating[Any]],
    voxel_size_mm: Sequence[float],
    b0_se_hz: NDArray[np.floating[Any]] | None = None,
    radius_mm: float = NEIGHBOURHOOD_RADIUS_MM,
) -> FieldGradient:
    """G = slope of the plane B0 ≈ c + g·r, least squares over the neighbourhood, µT/m along the voxel axes.

    ``b0_hz`` (X, Y, Z) is NaN outside the mask. A voxel whose neighbourhood has no extent along an axis (a
    single slice) has NaN along it. The standard error is that of the plane's slope if all of the neighbourhood
    has the voxel's ``b0_se_hz``; without it there is none.

    >>> ramp = np.arange(5.0)[:, None, None] * np.ones((1, 5, 5)) * 42.577478461
    >>> fit_gradient(ramp, (2.0, 2.0, 2.0)).ut_per_m[2, 2, 2].round(3).tolist()
    [500.0, 0.0, 0.0]
    """
    mask = np.isfinite(b0_hz)
    gradient = np.full((3, *b0_hz.shape), np.nan, np.float32)
    error = None if b0_se_hz is None else np.full((3, *b0_hz.shape), np.nan, np.float32)
    if mask.any():
        box = bounding_box(mask)
        radii = tuple(max(1, int(radius_mm / size)) for size in voxel_size_mm)
        fit = _fit_planes(b0_hz[box].astype(np.float32), mask[box], radii)
        for axis, size_mm in enumerate(voxel_size_mm):
            scale = np.float32(1e3 / GAMMA_HZ_PER_UT / size_mm)
            gradient[axis][box] = fit.slope[axis] * scale
            if error is not None and b0_se_hz is not None:
                error[axis][box] = b0_se_hz[box] * fit.spread(axis) * scale
    return FieldGradient(np.moveaxis(gradient, 0, -1), None if error is None else np.moveaxis(error, 0, -1))


class _Planes(NamedTuple):
    """Slopes per voxel (3, X, Y, Z), and their standard errors for values of standard error 1."""

    slope: NDArray[np.float32]
    inner_spread: tuple[float, ...]
    rim: tuple[NDArray[np.intp], ...]
    rim_spread: NDArray[np.float32]

    def spread(self, axis: int) -> NDArray[np.float32]:
        """Standard error of the slope along ``axis``, (X, Y, Z), where there is a slope."""
        spread = np.full(self.slope.shape[1:], self.inner_spread[axis], np.float32)
        spread[self.rim] = self.rim_spread[:, axis]
        return spread


def _fit_planes(values: NDArray[np.float32], mask: NDArray[np.bool_], radii: tuple[int, ...]) -> _Planes:
    # offsets from their mean keep the float32 sums small
    values = values - np.float32(np.nanmean(values))
    complete = _complete(mask, radii)
    slope = _separable(np.where(mask, values, np.float32(0)), radii)
    slope[:, ~complete] = np.nan
    rim = np.nonzero(mask & ~complete)
    padded = np.pad(values, [(radius, radius) for radius in radii], constant_values=np.nan)
    spread = np.empty((rim[0].size, 3), np.float32)
    for start in range(0, rim[0].size, _CHUNK):
        some = tuple(index[start : start + _CHUNK] for index in rim)
        at_rim, spread[start : start + _CHUNK] = _rim_slopes(padded, some, radii)
        slope[:, some[0], some[1], some[2]] = at_rim.T
    n_voxels = float(np.prod([2 * radius + 1 for radius in radii]))
    inner = tuple((n_voxels * radius * (radius + 1) / 3) ** -0.5 for radius in radii)
    return _Planes(slope, inner, rim, spread)


def _complete(mask: NDArray[np.bool_], radii: tuple[int, ...]) -> NDArray[np.bool_]:
    """Voxels whose whole neighbourhood lies in the mask."""
    from scipy.ndimage import minimum_filter1d

    whole = mask.astype(np.uint8)
    for axis, radius in enumerate(radii):
        whole = minimum_filter1d(whole, 2 * radius + 1, axis=axis, mode="constant")
    return whole.astype(bool)


def _separable(values: NDArray[np.float32], radii: tuple[int, ...]) -> NDArray[np.float32]:
    """Σ x·v / Σ x² over complete neighbourhoods, for each axis (3, X, Y, Z): a slope along it, means across."""
    from scipy.ndimage import correlate1d

    offsets = [np.arange(-radius, radius + 1, dtype=np.float64) for radius in radii]
    means = [np.full(offset.size, 1 / offset.size) for offset in offsets]
    slopes = [offset / (offset @ offset) for offset in offsets]
    out = np.empty((3, *values.shape), np.float32)
    room = np.empty_like(values)
    # the filters commute: means across first, shared where they can be, in and out of one spare volume
    mean_x = correlate1d(values, means[0], axis=0, mode="constant")
    correlate1d(mean_x, means[1], axis=1, mode="constant", output=room)
    correlate1d(room, slopes[2], axis=2, mode="constant", output=out[2])
    correlate1d(mean_x, means[2], axis=2, mode="constant", output=room)
    correlate1d(room, slopes[1], axis=1, mode="constant", output=out[1])
    correlate1d(values, means[1], axis=1, mode="constant", output=room)
    correlate1d(room, means[2], axis=2, mode="constant", output=mean_x)
    correlate1d(mean_x, slopes[0], axis=0, mode="constant", output=out[0])
    return out


def _rim_slopes(
    padded: NDArray[np.float32], where: tuple[NDArray[np.intp], ...], radii: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Planes through the neighbours of the M voxels ``where``: slopes and their unit errors, (M, 3)."""
    offsets = np.indices([2 * radius + 1 for radius in radii]).reshape(3, -1)
    first, further = (np.ravel_multi_index(tuple(one), padded.shape) for one in (where, offsets))
    value = padded.ravel().take(first[:, None] + further).astype(np.float64)
    outside = np.isnan(value)
    value[outside] = 0
    inside = (~outside).astype(np.float64)
    position = offsets.T.astype(np.float64)
    count = inside.sum(axis=1)
    mean = (inside @ position) / count[:, None]
    products = (position[:, :, None] * position[:, None, :]).reshape(-1, 9)
    normal = (inside @ products).reshape(-1, 3, 3)
    normal -= count[:, None, None] * mean[:, :, None] * mean[:, None, :]
    inverse = _inverse(normal)
    # Σ (r − r̄)·v = Σ r·v − r̄·Σ v, over the mask, where v is 0 elsewhere
    moment = value @ position - mean * value.sum(axis=1)[:, None]
    slope = (inverse @ moment[:, :, None])[:, :, 0]
    spread = np.sqrt(np.diagonal(inverse, axis1=1, axis2=2))
    return slope.astype(np.float32), spread.astype(np.float32)


def _inverse(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverses of normal matrices (M, 3, 3); NaN in the rows of directions that they don't determine."""
    xx, xy, xz = normal[:, 0].T
    yy, yz, zz = normal[:, 1, 1], normal[:, 1, 2], normal[:, 2, 2]
    inverse = np.empty_like(normal)
    inverse[:, 0, 0] = yy * zz - yz * yz
    inverse[:, 1, 1] = xx * zz - xz * xz
    inverse[:, 2, 2] = xx * yy - xy * xy
    inverse[:, 0, 1] = inverse[:, 1, 0] = xz * yz - xy * zz
    inverse[:, 0, 2] = inverse[:, 2, 0] = xy * yz - xz * yy
    inverse[:, 1, 2] = inverse[:, 2, 1] = xy * xz - xx * yz
    determinant = xx * inverse[:, 0, 0] + xy * inverse[:, 0, 1] + xz * inverse[:, 0, 2]
    singular = determinant < 1e-3
    determinant[singular] = 1.0
    inverse /= determinant[:, None, None]
    if singular.any():
        inverse[singular] = _partial_inverse(normal[singular])
    return inverse


def _partial_inverse(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pseudo-inverses (M, 3, 3), NaN in the rows of undetermined directions."""
    inverse: NDArray[Any] = np.linalg.pinv(normal, rcond=1e-6, hermitian=True)
    undetermined = np.abs(np.diagonal(normal @ inverse, axis1=1, axis2=2) - 1) > 1e-6
    inverse[undetermined] = np.nan
    return inverse
