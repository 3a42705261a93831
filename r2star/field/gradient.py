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
    se_ut_per_m: NDArray[np.float32]


def fit_gradient(
    b0_hz: NDArray[np.floating[Any]],
    voxel_size_mm: Sequence[float],
    b0_se_hz: NDArray[np.floating[Any]] | None = None,
    radius_mm: float = NEIGHBOURHOOD_RADIUS_MM,
) -> FieldGradient:
    """G = slope of the plane B0 ≈ c + g·r, least squares over the neighbourhood, µT/m along the voxel axes.

    ``b0_hz`` (X, Y, Z) is NaN outside the mask. A voxel whose neighbourhood has no extent along an axis (a
    single slice) has NaN along it. The standard error is that of the plane's slope from ``b0_se_hz``, NaN
    without it.

    >>> ramp = np.arange(5.0)[:, None, None] * np.ones((1, 5, 5)) * 42.577478461
    >>> fit_gradient(ramp, (2.0, 2.0, 2.0)).ut_per_m[2, 2, 2].round(3).tolist()
    [500.0, 0.0, 0.0]
    """
    out = np.full((2, *b0_hz.shape, 3), np.nan, np.float32)
    mask = np.isfinite(b0_hz)
    if mask.any():
        box = bounding_box(mask)
        radii = tuple(max(1, int(radius_mm / size)) for size in voxel_size_mm)
        variance = None if b0_se_hz is None else np.square(b0_se_hz[box], dtype=np.float32)
        scale = np.float32(1e3 / GAMMA_HZ_PER_UT) / np.asarray(voxel_size_mm, np.float32)
        for target, per_voxel in zip(out, _slopes(b0_hz[box].astype(np.float32), mask[box], radii, variance)):
            target[box] = per_voxel * scale
    return FieldGradient(out[0], out[1])


def _slopes(
    values: NDArray[np.float32],
    mask: NDArray[np.bool_],
    radii: tuple[int, ...],
    variance: NDArray[np.float32] | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Slope per voxel along each axis and its standard error, (X, Y, Z, 3)."""
    slope = np.full((*values.shape, 3), np.nan, np.float32)
    error = np.full((*values.shape, 3), np.nan, np.float32)
    complete = _complete(mask, radii)
    # offsets from one value keep the float32 sums small
    filled = np.where(mask, values - np.float32(np.nanmean(values)), 0).astype(np.float32)
    noise = np.zeros_like(filled) if variance is None else np.where(mask, np.nan_to_num(variance), 0)
    for axis in range(3):
        slope[..., axis][complete] = _separable(filled, radii, axis, power=1)[complete]
        if variance is not None:
            error[..., axis][complete] = np.sqrt(_separable(noise, radii, axis, power=2)[complete])
    rim = np.argwhere(mask & ~complete)
    padded = [np.pad(one, [(radius, radius) for radius in radii]) for one in (filled, mask, noise)]
    for start in range(0, len(rim), _CHUNK):
        where = rim[start : start + _CHUNK]
        index = tuple(where.T)
        slope[index], own_error = _rim_slopes(padded, where, radii)
        if variance is not None:
            error[index] = own_error
    return slope, error


def _complete(mask: NDArray[np.bool_], radii: tuple[int, ...]) -> NDArray[np.bool_]:
    """Voxels whose whole neighbourhood lies in the mask."""
    from scipy.ndimage import minimum_filter1d

    whole = mask.astype(np.uint8)
    for axis, radius in enumerate(radii):
        whole = minimum_filter1d(whole, 2 * radius + 1, axis=axis, mode="constant")
    return whole.astype(bool)


def _separable(
    values: NDArray[np.float32], radii: tuple[int, ...], axis: int, power: int
) -> NDArray[np.float32]:
    """Σ w^power·v, w = x/Σx² the weights of a plane's slope along ``axis``; ``power`` 2 for its variance."""
    from scipy.ndimage import correlate1d

    out = values
    for other, radius in enumerate(radii):
        offset = np.arange(-radius, radius + 1, dtype=np.float64)
        kernel = offset / (offset @ offset) if other == axis else np.full(offset.size, 1 / offset.size)
        out = correlate1d(out, kernel**power, axis=other, mode="constant")
    return out


def _rim_slopes(
    padded: list[NDArray[Any]], where: NDArray[np.int64], radii: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Planes through the masked neighbours of the voxels ``where`` (M, 3): slopes and errors, (M, 3)."""
    offsets = np.indices([2 * radius + 1 for radius in radii]).reshape(3, -1).T
    shape = padded[0].shape
    index = np.ravel_multi_index(tuple(where.T), shape)[:, None] + np.ravel_multi_index(
        tuple(offsets.T), shape
    )
    value, inside, noise = (one.ravel()[index].astype(np.float64) for one in padded)
    position = offsets.astype(np.float64)
    count = inside.sum(axis=1)
    mean = (inside @ position) / count[:, None]
    products = (position[:, :, None] * position[:, None, :]).reshape(-1, 9)
    normal = (inside @ products).reshape(-1, 3, 3) - count[:, None, None] * mean[:, :, None] * mean[
        :, None, :
    ]
    inverse = _inverse(normal)
    # Σ (r − r̄)·v = Σ r·v − r̄·Σ v, over the mask, where v is 0 elsewhere
    moment = value @ position - mean * value.sum(axis=1)[:, None]
    slope = (inverse @ moment[:, :, None])[:, :, 0]
    spread = noise.sum(axis=1) / count
    error = np.sqrt(spread[:, None] * np.diagonal(inverse, axis1=1, axis2=2))
    return slope.astype(np.float32), error.astype(np.float32)


def _inverse(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverses of normal matrices (M, 3, 3); NaN in the rows of directions that they don't determine."""
    a, b, c = normal[:, 0], normal[:, 1], normal[:, 2]
    adjugate = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=-1)
    determinant = np.einsum("mi,mi->m", a, adjugate[:, :, 0])
    singular = determinant < 1e-3
    determinant[singular] = 1.0
    inverse = adjugate / determinant[:, None, None]
    if singular.any():
        inverse[singular] = _partial_inverse(normal[singular])
    return inverse


def _partial_inverse(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pseudo-inverses (M, 3, 3), NaN in the rows of undetermined directions."""
    inverse: NDArray[Any] = np.linalg.pinv(normal, rcond=1e-6, hermitian=True)
    undetermined = np.abs(np.diagonal(normal @ inverse, axis1=1, axis2=2) - 1) > 1e-6
    inverse[undetermined] = np.nan
    return inverse
