"""Rotations as NIfTI stores them, by three parts of a unit quaternion. Imports numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: The square of the part that is not stored is known to this only, once the others are rounded to float32.
ROUNDING = 3 * float(np.finfo(np.float32).eps)


def rotation_of(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) of a unit quaternion (a, b, c, d).

    >>> rotation_of(np.array([0.0, 0.0, 0.0, 1.0])).diagonal().tolist()
    [-1.0, -1.0, 1.0]
    """
    a, b, c, d = quaternion
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


def quaternion_of(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit quaternion (a, b, c, d) with a ≥ 0 of a proper rotation matrix (3, 3).

    It is the eigenvector of the largest eigenvalue of Bar-Itzhack's symmetric matrix (doi:10.2514/2.4654).
    """
    r = rotation
    k = np.array(  # symmetric: `eigh` reads the lower triangle alone
        [
            [r[0, 0] + r[1, 1] + r[2, 2], 0, 0, 0],
            [r[2, 1] - r[1, 2], r[0, 0] - r[1, 1] - r[2, 2], 0, 0],
            [r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], 0],
            [r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1]],
        ]
    )
    vector = np.linalg.eigh(k)[1][:, -1]
    return np.asarray(vector if vector[0] >= 0 else -vector)


def nearest_right_angled(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine with perpendicular axes and the same voxel sizes whose rotation is nearest (polar)."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / sizes)
    result = affine.copy()
    result[:3, :3] = (left @ right) * sizes
    return result


def complete(stored: NDArray[np.float64], nearest: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """The unit quaternion (a, b, c, d) with a = √(1 − b² − c² − d²) of the stored (b, c, d).

    Near a half turn that difference drowns in the rounding of (b, c, d): an a of 6e-4, a third of a
    millimetre at the edge of a head, can't be told from 0. Then a is 0, as nibabel takes it; or, where
    another rotation (3, 3) says ``nearest``, the value closest to its own of those that the rounding
    allows.

    >>> complete(np.array([0.0, 0.0, 0.9999999])).tolist()
    [0.0, 0.0, 0.0, 1.0]
    """
    square = 1.0 - float(stored @ stored)
    if nearest is None:
        a = np.sqrt(square) if square > ROUNDING else 0.0
    else:
        least, most = np.sqrt(max(square - ROUNDING, 0.0)), np.sqrt(max(square + ROUNDING, 0.0))
        other = quaternion_of(nearest)
        wanted = other[0] if other[1:] @ stored >= 0 else -other[0]
        a = np.clip(wanted, least if least > 0 else -most, most)
    quaternion = np.array([a, *stored])
    return np.asarray(quaternion / np.linalg.norm(quaternion))
