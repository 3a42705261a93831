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
    slope: Floats,
    spread: Floats,
    start: int,
    stop: int,
) -> int:
    """Slope of the plane through the mask's voxels around each, times ``scales``, and its standard error.

    ``values`` are 0 outside the mask; ``errors`` are their standard errors;
    ``radii``, ``scales`` are of x, y, z; ``slope`` and ``spread`` (3, Z, Y, X) are along x, y, z, NaN outside the mask
    and where normal equations are singular. Returns how many such voxels the mask has.
    """
    ny, nx = values.shape[1:]
    rx, ry, rz = radii[0], radii[1], radii[2]
    whole = np.float32((2 * rx + 1) * (2 * ry + 1) * (2 * rz + 1))
    power = np.empty(3, np.float32)
    for axis in range(3):
        power[axis] = ONE / (whole * np.float32(radii[axis] * (radii[axis] + 1)) / np.float32(3))
    sums, unit = np.empty((4, nx), np.float32), np.empty(3, np.float32)
    n_singular = 0
    for z in range(start, stop):
        for y in range(ny):
            slope[:, z, y] = np.float32(math.nan)
            spread[:, z, y] = np.float32(math.nan)
            if not inside[z, y].any():
                continue
            _add_rows(values, inside, z, y, ry, rz, sums)
            for x in np.flatnonzero(inside[z, y]):
                along_x = along_y = along_z = count = ONE * 0
                for k in range(max(x - rx, 0), min(x + rx + 1, nx)):
                    along_x += np.float32(k - x) * sums[0, k]
                    along_y += sums[1, k]
                    along_z += sums[2, k]
                    count += sums[3, k]
                if count == whole:
                    slope[0, z, y, x] = along_x * power[0]
                    slope[1, z, y, x] = along_y * power[1]
                    slope[2, z, y, x] = along_z * power[2]
                    unit[:] = power
                else:
                    n_singular += _fit_at_rim(values, inside, x, y, z, radii, slope, unit)
                for axis in range(3):
                    slope[axis, z, y, x] *= scales[axis]
                    spread[axis, z, y, x] = math.sqrt(unit[axis]) * scales[axis] * errors[z, y, x]
    return n_singular


@kernel
def _add_rows(
    values: Floats, inside: NDArray[np.uint8], z: int, y: int, ry: int, rz: int, sums: Floats
) -> None:
    """Over the rows around row (z, y): Σ v, Σ dy·v, Σ dz·v and the number of voxels, for every x."""
    nz, ny, nx = values.shape
    sums[:] = ONE * 0
    plain, by_y, by_z, count = sums[0], sums[1], sums[2], sums[3]
    for k in range(max(z - rz, 0), min(z + rz + 1, nz)):
        dz = np.float32(k - z)
        for j in range(max(y - ry, 0), min(y + ry + 1, ny)):
            dy = np.float32(j - y)
            row, mask = values[k, j], inside[k, j]
            for x in range(nx):
                plain[x] += row[x]
                by_y[x] += dy * row[x]
                by_z[x] += dz * row[x]
                count[x] += np.float32(mask[x])


@kernel
def _fit_at_rim(
    values: Floats,
    inside: NDArray[np.uint8],
    x: int,
    y: int,
    z: int,
    radii: NDArray[np.int64],
    slope: Floats,
    variance: Floats,
) -> int:
    """The voxel's own normal equations; 1 where they are singular, and NaN stands for its slope and variance."""
    nz, ny, nx = values.shape
    rx, ry, rz = radii[0], radii[1], radii[2]
    n = sx = sy = sz = xx = yy = zz = xy = xz = yz = v = xv = yv = zv = 0.0
    for k in range(max(z - rz, 0), min(z + rz + 1, nz)):
        for j in range(max(y - ry, 0), min(y + ry + 1, ny)):
            row, mask = values[k, j], inside[k, j]
            dy, dz = float(j - y), float(k - z)
            m0 = m1 = m2 = v0 = v1 = 0.0
            for i in range(max(x - rx, 0), min(x + rx + 1, nx)):
                one, dx, value = float(mask[i]), float(i - x), float(row[i])
                m0 += one
                m1 += one * dx
                m2 += one * dx * dx
                v0 += value
                v1 += dx * value
            n += m0
            sx += m1
            xx += m2
            sy += dy * m0
            sz += dz * m0
            yy += dy * dy * m0
            zz += dz * dz * m0
            yz += dy * dz * m0
            xy += dy * m1
            xz += dz * m1
            v += v0
            xv += v1
            yv += dy * v0
            zv += dz * v0
    xx, yy, zz = xx - sx * sx / n, yy - sy * sy / n, zz - sz * sz / n
    xy, xz, yz = xy - sx * sy / n, xz - sx * sz / n, yz - sy * sz / n
    xv, yv, zv = xv - sx * v / n, yv - sy * v / n, zv - sz * v / n
    ixx, iyy, izz = yy * zz - yz * yz, xx * zz - xz * xz, xx * yy - xy * xy
    ixy, ixz, iyz = xz * yz - xy * zz, xy * yz - xz * yy, xy * xz - xx * yz
    determinant = xx * ixx + xy * ixy + xz * ixz
    if determinant < SINGULAR:
        for axis in range(3):
            slope[axis, z, y, x] = math.nan
            variance[axis] = math.nan
        return 1
    slope[0, z, y, x] = (ixx * xv + ixy * yv + ixz * zv) / determinant
    slope[1, z, y, x] = (ixy * xv + iyy * yv + iyz * zv) / determinant
    slope[2, z, y, x] = (ixz * xv + iyz * yv + izz * zv) / determinant
    variance[0] = ixx / determinant
    variance[1] = iyy / determinant
    variance[2] = izz / determinant
    return 0
