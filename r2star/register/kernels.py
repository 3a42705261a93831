"""Inner loops of the warp: sampling and separable smoothing of float32 volumes. Imports numba, no files, no ants.

Each kernel does the slab x0 ≤ x < x1 of its output and reads its inputs only, so that slabs may run in threads and
any number of threads gives the same bits. Everything is in voxels of the grid at hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.fit.compiling import helper, kernel

Volume = NDArray[np.float32]


@kernel
def smooth_slab(values: Volume, taps: Volume, out: Volume, x0: int, x1: int) -> None:
    """Convolve (X, Y, Z) along its three axes with symmetric ``taps`` (odd length); edges repeat."""
    nx, ny, nz = values.shape
    reach = taps.size // 2
    one = np.empty((ny, nz), np.float32)
    two = np.empty((ny, nz), np.float32)
    padded = np.empty(nz + 2 * reach, np.float32)
    for x in range(x0, x1):
        one[:] = 0
        for k in range(-reach, reach + 1):
            source = min(max(x + k, 0), nx - 1)
            weight = taps[k + reach]
            for y in range(ny):
                for z in range(nz):
                    one[y, z] += weight * values[source, y, z]
        two[:] = 0
        for y in range(ny):
            for k in range(-reach, reach + 1):
                source = min(max(y + k, 0), ny - 1)
                weight = taps[k + reach]
                for z in range(nz):
                    two[y, z] += weight * one[source, z]
        for y in range(ny):
            for z in range(nz + 2 * reach):
                padded[z] = two[y, min(max(z - reach, 0), nz - 1)]
            for z in range(nz):
                out[x, y, z] = 0
            for k in range(2 * reach + 1):
                weight = taps[k]
                for z in range(nz):
                    out[x, y, z] += weight * padded[z + k]


@helper
def _clamped(value: Any, size: int) -> Any:
    """Lower neighbour and fraction of a coordinate moved into the grid."""
    inside = min(max(value, np.float32(0)), np.float32(size - 1))
    lower = min(int(inside), size - 2)
    return lower, np.float32(inside - lower)


@kernel
def sample_slab(values: Volume, moved: Volume, out: Volume, x0: int, x1: int) -> None:
    """Trilinear ``out[x] = values(x + moved[:, x])``; beyond the edge the edge repeats."""
    nx, ny, nz = values.shape
    for x in range(x0, x1):
        for y in range(out.shape[1]):
            for z in range(out.shape[2]):
                i, a = _clamped(np.float32(x) + moved[0, x, y, z], nx)
                j, b = _clamped(np.float32(y) + moved[1, x, y, z], ny)
                k, c = _clamped(np.float32(z) + moved[2, x, y, z], nz)
                low = (values[i, j, k] * (1 - c) + values[i, j, k + 1] * c) * (1 - b) + (
                    values[i, j + 1, k] * (1 - c) + values[i, j + 1, k + 1] * c
                ) * b
                high = (values[i + 1, j, k] * (1 - c) + values[i + 1, j, k + 1] * c) * (1 - b) + (
                    values[i + 1, j + 1, k] * (1 - c) + values[i + 1, j + 1, k + 1] * c
                ) * b
                out[x, y, z] = low * (1 - a) + high * a


@kernel
def displace(displacement_mm: Volume, voxels: NDArray[np.float64], points: NDArray[np.float64]) -> None:
    """Add displacements (X, Y, Z, 3), trilinear at ``voxels`` (N, 3), to ``points`` (N, 3).

    Within half a voxel beyond the edge the edge repeats, farther out nothing moves.
    """
    nx, ny, nz, _ = displacement_mm.shape
    for n in range(voxels.shape[0]):
        x, y, z = voxels[n, 0], voxels[n, 1], voxels[n, 2]
        if -0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5 and -0.5 <= z <= nz - 0.5:
            x, y, z = min(max(x, 0.0), nx - 1.0), min(max(y, 0.0), ny - 1.0), min(max(z, 0.0), nz - 1.0)
            i, j, k = min(int(x), nx - 2), min(int(y), ny - 2), min(int(z), nz - 2)
            a, b, c = x - i, y - j, z - k
            for axis in range(3):
                low = (displacement_mm[i, j, k, axis] * (1 - c) + displacement_mm[i, j, k + 1, axis] * c) * (
                    1 - b
                ) + (
                    displacement_mm[i, j + 1, k, axis] * (1 - c) + displacement_mm[i, j + 1, k + 1, axis] * c
                ) * b
                high = (
                    displacement_mm[i + 1, j, k, axis] * (1 - c) + displacement_mm[i + 1, j, k + 1, axis] * c
                ) * (1 - b) + (
                    displacement_mm[i + 1, j + 1, k, axis] * (1 - c)
                    + displacement_mm[i + 1, j + 1, k + 1, axis] * c
                ) * b
                points[n, axis] += low * (1 - a) + high * a


@kernel
def products_slab(moving: Volume, fixed: Volume, squares: Volume, mixed: Volume, x0: int, x1: int) -> None:
    """Squares of the moving image and products with the fixed one."""
    for x in range(x0, x1):
        for y in range(moving.shape[1]):
            for z in range(moving.shape[2]):
                squares[x, y, z] = moving[x, y, z] * moving[x, y, z]
                mixed[x, y, z] = moving[x, y, z] * fixed[x, y, z]


@kernel
def correlation_slab(
    means: Volume, fixed_mean: Volume, fixed_variance: Volume, weight: Volume, floor: float, terms: Volume,
    score: Volume, x0: int, x1: int,
) -> None:  # fmt: skip
    """Squared local correlation A²/(B·C) of each window, and what each window adds to the gradient of its voxels.

    ``means`` (3, X, Y, Z) are window means of m, m² and f·m; ``terms`` (4, X, Y, Z) become a, a·f̄, b, b·m̄ with
    a = 2A/(BC) and b = 2A²/(BC²); ``floor`` is added to both variances, so that noise is no texture.
    """
    for x in range(x0, x1):
        for y in range(weight.shape[1]):
            for z in range(weight.shape[2]):
                mean = means[0, x, y, z]
                variance = max(means[1, x, y, z] - mean * mean, np.float32(0)) + floor
                covariance = means[2, x, y, z] - mean * fixed_mean[x, y, z]
                spread = fixed_variance[x, y, z] + floor
                if weight[x, y, z] > 0:
                    a = weight[x, y, z] * 2 * covariance / (spread * variance)
                    b = a * covariance / variance
                    terms[0, x, y, z] = a
                    terms[1, x, y, z] = a * fixed_mean[x, y, z]
                    terms[2, x, y, z] = b
                    terms[3, x, y, z] = b * mean
                    score[x, y, z] = 0.5 * a * covariance
                else:
                    terms[0, x, y, z] = terms[1, x, y, z] = terms[2, x, y, z] = terms[3, x, y, z] = 0
                    score[x, y, z] = 0


@kernel
def force_slab(
    moving: Volume, fixed: Volume, sums: Volume, share: float, force: Volume, x0: int, x1: int
) -> None:
    """Add ``share`` · dL/dm · ∇m to ``force`` (3, X, Y, Z): uphill. ``sums`` are the window means of the terms."""
    nx, ny, nz = moving.shape
    for x in range(max(x0, 1), min(x1, nx - 1)):
        for y in range(1, ny - 1):
            for z in range(1, nz - 1):
                slope = np.float32(share) * (
                    fixed[x, y, z] * sums[0, x, y, z]
                    - sums[1, x, y, z]
                    - moving[x, y, z] * sums[2, x, y, z]
                    + sums[3, x, y, z]
                )
                force[0, x, y, z] += slope * (moving[x + 1, y, z] - moving[x - 1, y, z])
                force[1, x, y, z] += slope * (moving[x, y + 1, z] - moving[x, y - 1, z])
                force[2, x, y, z] += slope * (moving[x, y, z + 1] - moving[x, y, z - 1])
