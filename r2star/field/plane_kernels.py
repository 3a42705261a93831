"""Inner loops over voxels: means of neighbours, and planes through them. Imports numba, no files.

Volumes are (Z, Y, X), x fastest, as image files hold them. Each kernel does the slices start ≤ z < stop of its output
and only reads its inputs, so that any number of threads gives the same bits.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from r2star.fit.compiling import kernel

Floats = NDArray[np.float32]

ONE, HALF = np.float32(1), np.float32(0.5)
SINGULAR = 1e-3  # the determinant of whole numbers below which a plane has no slope along some direction


@kernel
def average_neighbours(values: Floats, inside: NDArray[np.uint8], out: Floats, start: int, stop: int) -> None:
    """Mean of the up to 26 neighbours inside the mask, the own value where there is none; slices start to stop."""
    nz, ny, nx = values.shape
    total, count = np.empty(nx, np.float32), np.empty(nx, np.float32)
    for z in range(start, stop):
        for y in range(ny):
            own, mask, row = values[z, y], inside[z, y], out[z, y]
            total[:], count[:] = ONE * 0, ONE * 0
            for k in range(max(z - 1, 0), min(z + 2, nz)):
                for j in range(max(y - 1, 0), min(y + 2, ny)):
                    other, other_mask = values[k, j], inside[k, j]
                    for x in range(nx):
                        total[x] += other[x] if other_mask[x] else ONE * 0
                        count[x] += np.float32(other_mask[x])
            for x in range(nx):
                if mask[x]:
                    s, c = total[x] - own[x], count[x] - ONE
                    if x > 0:
                        s += total[x - 1]
                        c += count[x - 1]
                    if x + 1 < nx:
                        s += total[x + 1]
                        c += count[x + 1]
                    row[x] = s / c if c > HALF else own[x]


@kernel
def fit_planes(
    values: Floats,
    inside: NDArray[np.uint8],
    errors: Floats,
    radii: NDArray[np.int64],
    scales: Floats,
    before: NDArray[np.int64],
    slope: Floats,
    spread: Floats,
    start: int,
    stop: int,
) -> int:
    """Slope of the plane through the mask's voxels around each, times ``scales``, and its standard error.

    ``values`` (Z, Y, X) are 0 outside the mask; ``errors`` (N,) are the standard errors of the mask's voxels, of which
    ``before[z]`` come before slice z; ``radii``, ``scales`` are of x, y, z; ``slope`` and ``spread`` (3, N) are along
    x, y, z, NaN where normal equations are singular. Returns how many such voxels there are.
    """
    ny, nx = values.shape[1:]
    rx, ry, rz = radii[0], radii[1], radii[2]
    whole = np.float32((2 * rx + 1) * (2 * ry + 1) * (2 * rz + 1))
    gain, error = np.empty(3, np.float32), np.empty(3, np.float32)
    for axis in range(3):
        power = 1 / (whole * radii[axis] * (radii[axis] + 1) / 3)
        gain[axis], error[axis] = power * scales[axis], math.sqrt(power) * scales[axis]
    columns, sums = np.zeros((9, nx + 2 * rx), np.float32), np.empty((4, nx), np.float32)
    steepness, variance = np.empty(3), np.empty(3)
    n_singular = 0
    for z in range(start, stop):
        voxel = before[z]
        for y in range(ny):
            row = inside[z, y]
            if not row.any():
                continue
            _add_columns(values, inside, z, y, radii, columns)
            _add_windows(columns, rx, sums)
            for x in range(nx):
                if not row[x]:
                    continue
                if sums[3, x] == whole:
                    for axis in range(3):
                        slope[axis, voxel] = sums[axis, x] * gain[axis]
                        spread[axis, voxel] = errors[voxel] * error[axis]
                else:
                    n_singular += _fit_at_rim(columns[:, x : x + 2 * rx + 1], steepness, variance)
                    for axis in range(3):
                        slope[axis, voxel] = steepness[axis] * scales[axis]
                        spread[axis, voxel] = math.sqrt(variance[axis]) * scales[axis] * errors[voxel]
                voxel += 1
    return n_singular


@kernel
def _add_columns(
    values: Floats, inside: NDArray[np.uint8], z: int, y: int, radii: NDArray[np.int64], columns: Floats
) -> None:
    """Of the rows around row (z, y), for every x: Σ v, Σ dy·v, Σ dz·v; over the mask Σ 1, dy, dz, dy², dz², dy·dz.

    ``columns`` have as many columns of 0 before the first x and after the last as the neighbourhood reaches.
    """
    nz, ny, nx = values.shape
    rx, ry, rz = radii[0], radii[1], radii[2]
    columns[:] = ONE * 0
    v, yv, zv = columns[0, rx:], columns[1, rx:], columns[2, rx:]
    n, sy, sz = columns[3, rx:], columns[4, rx:], columns[5, rx:]
    yy, zz, yz = columns[6, rx:], columns[7, rx:], columns[8, rx:]
    for k in range(max(z - rz, 0), min(z + rz + 1, nz)):
        dz = np.float32(k - z)
        for j in range(max(y - ry, 0), min(y + ry + 1, ny)):
            dy = np.float32(j - y)
            row, mask = values[k, j], inside[k, j]
            for x in range(nx):
                v[x] += row[x]
                yv[x] += dy * row[x]
                zv[x] += dz * row[x]
            for x in range(nx):
                one = np.float32(mask[x])
                n[x] += one
                sy[x] += dy * one
                sz[x] += dz * one
                yy[x] += dy * dy * one
                zz[x] += dz * dz * one
                yz[x] += dy * dz * one


@kernel
def _add_windows(columns: Floats, rx: int, sums: Floats) -> None:
    """Over the columns around each x: Σ dx·v, Σ dy·v, Σ dz·v and the number of voxels."""
    nx = sums.shape[1]
    sums[:] = ONE * 0
    along_x, along_y, along_z, count = sums[0], sums[1], sums[2], sums[3]
    for shift in range(2 * rx + 1):
        dx = np.float32(shift - rx)
        v, yv, zv, n = columns[0, shift:], columns[1, shift:], columns[2, shift:], columns[3, shift:]
        for x in range(nx):
            along_x[x] += dx * v[x]
            along_y[x] += yv[x]
            along_z[x] += zv[x]
            count[x] += n[x]


@kernel
def _fit_at_rim(columns: Floats, slope: NDArray[np.float64], variance: NDArray[np.float64]) -> int:
    """The voxel's own normal equations; 1 where they are singular, and NaN stands for its slope and variance.

    ``columns`` are the rows of `_add_columns` around the voxel.
    """
    n = sx = sy = sz = xx = yy = zz = xy = xz = yz = v = xv = yv = zv = 0.0
    for i in range(columns.shape[1]):
        dx = float(i - columns.shape[1] // 2)
        v += columns[0, i]
        xv += dx * columns[0, i]
        yv += columns[1, i]
        zv += columns[2, i]
        n += columns[3, i]
        sx += dx * columns[3, i]
        xx += dx * dx * columns[3, i]
        sy += columns[4, i]
        xy += dx * columns[4, i]
        sz += columns[5, i]
        xz += dx * columns[5, i]
        yy += columns[6, i]
        zz += columns[7, i]
        yz += columns[8, i]
    xx, yy, zz = xx - sx * sx / n, yy - sy * sy / n, zz - sz * sz / n
    xy, xz, yz = xy - sx * sy / n, xz - sx * sz / n, yz - sy * sz / n
    xv, yv, zv = xv - sx * v / n, yv - sy * v / n, zv - sz * v / n
    ixx, iyy, izz = yy * zz - yz * yz, xx * zz - xz * xz, xx * yy - xy * xy
    ixy, ixz, iyz = xz * yz - xy * zz, xy * yz - xz * yy, xy * xz - xx * yz
    determinant = xx * ixx + xy * ixy + xz * ixz
    if determinant < SINGULAR:
        slope[:] = math.nan
        variance[:] = math.nan
        return 1
    slope[0] = (ixx * xv + ixy * yv + ixz * zv) / determinant
    slope[1] = (ixy * xv + iyy * yv + iyz * zv) / determinant
    slope[2] = (ixz * xv + iyz * yv + izz * zv) / determinant
    variance[0], variance[1], variance[2] = ixx / determinant, iyy / determinant, izz / determinant
    return 0
