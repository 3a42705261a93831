"""Gradient of the B0 map: a plane fitted to the mask's voxels in a small neighbourhood of each.

Inside, where the neighbourhood is complete, the plane's slope is a sum of shared row sums; at the rim of the mask
each voxel gets its own normal equations. Arrays only; imports numpy, and numba when called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.field.voxels import DEPTH, Voxels, in_parts

#: Gyromagnetic ratio of the proton over 2π, CODATA 2022: 42.577478461 MHz/T, here Hz/µT.
GAMMA_HZ_PER_UT = 42.577478461
#: Half the width of the neighbourhood, at least one voxel.
NEIGHBOURHOOD_RADIUS_MM = 1.5


@dataclass(frozen=True)
class FieldGradient:
    """Gradient along the voxel axes and its standard error, µT/m, of the N voxels with B0; NaN where there is none."""

    voxels: Voxels
    packed_ut_per_m: NDArray[np.float32]
    packed_se_ut_per_m: NDArray[np.float32]

    @property
    def ut_per_m(self) -> NDArray[np.float32]:
        """(X, Y, Z, 3), made anew at every call."""
        return self.voxels.unpack(self.packed_ut_per_m).T

    @property
    def se_ut_per_m(self) -> NDArray[np.float32]:
        """(X, Y, Z, 3), made anew at every call; NaN where the standard error of B0 is not known."""
        return self.voxels.unpack(self.packed_se_ut_per_m).T


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
    has the voxel's ``b0_se_hz``; without it, NaN. Any number of threads gives the same bits.

    >>> ramp = np.arange(5.0)[:, None, None] * np.ones((1, 5, 5)) * 42.577478461
    >>> fit_gradient(ramp, (2.0, 2.0, 2.0)).ut_per_m[2, 2, 2].round(3).tolist()
    [500.0, 0.0, 0.0]
    """
    values = np.ascontiguousarray(b0_hz.T, np.float32)
    voxels = Voxels.of(np.isfinite(values))
    errors = None if b0_se_hz is None else voxels.pack(np.ascontiguousarray(b0_se_hz.T, np.float32))
    return fit_packed_gradient(voxels, voxels.pack(values), voxel_size_mm, errors, radius_mm, n_threads)


def fit_packed_gradient(
    voxels: Voxels,
    b0_hz: NDArray[np.float32],
    voxel_size_mm: Sequence[float],
    b0_se_hz: NDArray[np.float32] | None = None,
    radius_mm: float = NEIGHBOURHOOD_RADIUS_MM,
    n_threads: int = 1,
) -> FieldGradient:
    """`fit_gradient` of the values (N,) at the voxels, as `B0Map` holds them."""
    from r2star.field.plane_kernels import fit_planes

    if b0_hz.size == 0:
        nothing = np.empty((3, 0), np.float32)
        return FieldGradient(voxels, nothing, nothing)
    box = voxels.in_box()
    # offsets from their mean keep the float32 sums small
    values = box.unpack(b0_hz - b0_hz.mean(), outside=0)
    errors = np.full(b0_hz.shape, np.nan, np.float32) if b0_se_hz is None else b0_se_hz
    radii = np.array([max(1, int(radius_mm / size)) for size in voxel_size_mm], np.int64)
    scales = (1e3 / GAMMA_HZ_PER_UT / np.asarray(voxel_size_mm)).astype(np.float32)
    before = np.searchsorted(box.index, np.arange(len(values)) * values[0].size)
    slope, spread = np.empty((3, b0_hz.size), np.float32), np.empty((3, b0_hz.size), np.float32)
    n_singular = in_parts(
        lambda start, stop: fit_planes(
            values, box.mask.view(np.uint8), errors, radii, scales, before, slope, spread, start, stop
        ),
        len(values), n_threads, DEPTH,
    )  # fmt: skip
    if sum(n_singular):
        padded = np.pad(
            np.where(box.mask, values, np.nan),
            [(radius, radius) for radius in radii[::-1]],
            constant_values=np.nan,
        )
        for voxel in np.flatnonzero(np.isnan(slope[0])):
            place = np.unravel_index(box.index[voxel], values.shape)
            steepness, unit = _fit_singular(padded, place, radii)
            slope[:, voxel] = steepness * scales
            spread[:, voxel] = unit * scales * errors[voxel]
    return FieldGradient(voxels, slope, spread)


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
