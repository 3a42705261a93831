"""Gradient of the B0 map: a plane fitted to the mask's voxels in a small neighbourhood of each.

Inside, where the neighbourhood is complete, the plane's slope is a sum of shared row sums; at the rim of the mask
each voxel gets its own normal equations. Arrays only; imports numpy, and numba when called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.field.voxels import DEPTH, in_parts

#: Gyromagnetic ratio of the proton over 2π, CODATA 2022: 42.577478461 MHz/T, here Hz/µT.
GAMMA_HZ_PER_UT = 42.577478461
#: Half the width of the neighbourhood, at least one voxel.
NEIGHBOURHOOD_RADIUS_MM = 1.5


class FieldGradient(NamedTuple):
    """Gradient along the voxel axes and its standard error, (X, Y, Z, 3), µT/m; NaN where there is none."""

    ut_per_m: NDArray[np.float32]
    se_ut_per_m: NDArray[np.float32] | None


def fit_gradient(
    b0_hz: NDArray[np.floating[Any]],
    voxel_size_mm: Sequence[float],
    b0_se_hz: NDArray[np.floating[Any]] | None = None,
    radius_mm: float = NEIGHBOURHOOD_RADIUS_MM,
    n_threads: int = 1,
) -> FieldGradient:
    """G = slope of the plane B0 ≈ c + g·r, least squares over the neighbourhood, µT/m along the voxel axes.

    ``b0_hz`` (X, Y, Z) is NaN outside the mask. A voxel whose neighbourhood has no extent along an axis (a
    single slice) has NaN along it. The standard error is that of the plane's slope if all of the neighbourhood
    has the voxel's ``b0_se_hz``; without it there is none. Any number of threads gives the same bits.

    >>> ramp = np.arange(5.0)[:, None, None] * np.ones((1, 5, 5)) * 42.577478461
    >>> fit_gradient(ramp, (2.0, 2.0, 2.0)).ut_per_m[2, 2, 2].round(3).tolist()
    [500.0, 0.0, 0.0]
    """
    from r2star.field.plane_kernels import fit_planes

    values = np.ascontiguousarray(b0_hz.T, np.float32)
    mask = np.isfinite(values)
    # offsets from their mean keep the float32 sums small
    mean = values[mask].mean() if mask.any() else np.float32(0)
    values = np.where(mask, values - mean, np.float32(0))
    errors = np.broadcast_to(np.float32(np.nan), mask.shape) if b0_se_hz is None else b0_se_hz.T
    errors = np.ascontiguousarray(errors, np.float32)
    radii = np.array([max(1, int(radius_mm / size)) for size in voxel_size_mm], np.int64)
    scales = (1e3 / GAMMA_HZ_PER_UT / np.asarray(voxel_size_mm)).astype(np.float32)
    slope, spread = np.empty((2, 3, *mask.shape), np.float32)
    n_singular = in_parts(
        lambda start, stop: fit_planes(
            values, mask.view(np.uint8), errors, radii, scales, slope, spread, start, stop
        ),
        len(mask), n_threads, DEPTH,
    )  # fmt: skip
    if sum(n_singular):
        padded = np.pad(
            np.where(mask, values, np.nan),
            [(radius, radius) for radius in radii[::-1]],
            constant_values=np.nan,
        )
        for voxel in zip(*np.nonzero(mask & np.isnan(slope[0]))):
            steepness, unit = _fit_singular(padded, voxel, radii)
            slope[:, *voxel] = steepness * scales
            spread[:, *voxel] = unit * scales * errors[voxel]
    return FieldGradient(slope.T, None if b0_se_hz is None else spread.T)


def _fit_singular(
    padded: NDArray[np.float32], voxel: tuple[Any, ...], radii: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The plane through neighbours that do not span all directions; NaN along those that they leave open."""
    cut = tuple(slice(i, i + 2 * radius + 1) for i, radius in zip(voxel, radii[::-1]))
    around = padded[cut].astype(np.float64)
    known = np.isfinite(around)
    position = np.stack(np.nonzero(known)[::-1], axis=-1).astype(np.float64)
    position -= position.mean(axis=0)
    normal = position.T @ position
    inverse = np.linalg.pinv(normal, rcond=1e-6, hermitian=True)
    inverse[np.abs(np.diagonal(normal @ inverse) - 1) > 1e-6] = np.nan
    value = around[known]
    return inverse @ (position.T @ (value - value.mean())), np.sqrt(np.diagonal(inverse))
