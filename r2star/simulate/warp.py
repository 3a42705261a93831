"""Making one head unlike another: smooth random diffeomorphisms, head sizes and poses. Arrays only.

Positions are (3, N) in millimetres, RAS+. May import numpy and scipy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SPACING_MM = 4.0
#: Root mean square displacement and its smoothness (standard deviation of the smoothing), mm: broad and local.
SCALES_MM = ((2.6, 26.0), (0.8, 12.0))
_N_SQUARINGS = 6
_LEAST_JACOBIAN = 0.3


@dataclass(frozen=True)
class Warp:
    """A diffeomorphism x → x + u(x), sampled on a grid; outside the grid u is that of its border.

    ``displacement_mm`` is (3, X, Y, Z); ``jacobian_min`` and ``jacobian_max`` are the extremes of
    det(I + ∇u) over the grid, positive where the mapping keeps its orientation.
    """

    displacement_mm: Array
    origin_mm: Array
    spacing_mm: float
    jacobian_min: float
    jacobian_max: float

    def __call__(self, positions_mm: Array) -> Array:
        """Where positions (3, N) go, (3, N)."""
        index = (positions_mm - self.origin_mm[:, None].astype(positions_mm.dtype)) / np.float32(
            self.spacing_mm
        )
        return positions_mm + sample(self.displacement_mm, index)

    def gradient(self, positions_mm: Array) -> Array:
        """∂u_i/∂x_j at positions (3, N), (3, 3, N); that of the nearest grid point, as u is smooth."""
        index = np.rint((positions_mm - self.origin_mm[:, None]) / self.spacing_mm).astype(np.int32)
        limits = np.array(self.displacement_mm.shape[1:], np.int32)[:, None] - 1
        x, y, z = np.clip(index, 0, limits)
        return np.asarray(self._gradient[:, :, x, y, z])

    @cached_property
    def _gradient(self) -> Array:
        return displacement_gradient(self.displacement_mm, self.spacing_mm)


def draw_warp(
    rng: np.random.Generator,
    lower_mm: Sequence[float],
    upper_mm: Sequence[float],
    *,
    scales_mm: Sequence[tuple[float, float]] = SCALES_MM,
    spacing_mm: float = SPACING_MM,
) -> Warp:
    """Draw a smooth random diffeomorphism of a box: exp(v) of a stationary velocity v by scaling and squaring.

    Parameters
    ----------
    rng
        Equal generators give equal warps.
    lower_mm, upper_mm
        Corners of the box.
    scales_mm
        Pairs of root mean square displacement and smoothness, mm; the velocity is their sum.
    spacing_mm
        Of the grid on which it is computed.

    The velocity is halved until the Jacobian determinant is above 0.3 everywhere, so that the mapping is
    one-to-one. Method: Arsigny 2006, doi:10.1007/11866565_113 (recalled).
    """
    shape = [int(np.ceil((b - a) / spacing_mm)) + 1 for a, b in zip(lower_mm, upper_mm, strict=True)]
    velocity = np.sum([_smooth_field(rng, shape, r, s / spacing_mm) for r, s in scales_mm], axis=0)
    while True:
        displacement = _exponential(velocity, spacing_mm)
        jacobian = jacobian_determinant(displacement, spacing_mm)
        if jacobian.min() > _LEAST_JACOBIAN:
            break
        velocity = velocity / 2
    return Warp(
        displacement.astype(np.float32),
        np.asarray(lower_mm, np.float64),
        spacing_mm,
        float(jacobian.min()),
        float(jacobian.max()),
    )


def jacobian_determinant(displacement_mm: Array, spacing_mm: float) -> Array:
    """det(I + ∇u) at each point of a grid, by central differences; (3, X, Y, Z) → (X, Y, Z).

    >>> stretch = np.zeros((3, 4, 4, 4))
    >>> stretch[0] = 0.5 * np.arange(4)[:, None, None]
    >>> float(jacobian_determinant(stretch, 1.0).mean())
    1.5
    """
    gradient = displacement_gradient(displacement_mm, spacing_mm)
    matrix = np.moveaxis(gradient, (0, 1), (-2, -1)) + np.eye(3)
    return np.asarray(np.linalg.det(matrix))


def displacement_gradient(displacement_mm: Array, spacing_mm: float) -> Array:
    """∂u_i/∂x_j on the grid by central differences; (3, X, Y, Z) → (3, 3, X, Y, Z)."""
    return np.array([np.gradient(component, spacing_mm) for component in displacement_mm])


def _smooth_field(rng: np.random.Generator, shape: Sequence[int], rms_mm: float, sigma: float) -> Array:
    """White noise smoothed with ``sigma`` grid steps and scaled to ``rms_mm``, (3, X, Y, Z)."""
    from scipy import ndimage

    margin = int(np.ceil(3 * sigma))
    noise = rng.standard_normal((3, *(n + 2 * margin for n in shape)))
    smooth = ndimage.gaussian_filter(noise, (0, sigma, sigma, sigma), mode="wrap")
    inner = smooth[(slice(None), *(slice(margin, margin + n) for n in shape))]
    return np.asarray(inner * (rms_mm / np.sqrt((inner**2).mean())))


def _exponential(velocity_mm: Array, spacing_mm: float) -> Array:
    """exp(v): u ← u∘(x + u) + u, repeated from v/2ⁿ."""
    grid = np.indices(velocity_mm.shape[1:], dtype=np.float64)
    displacement = velocity_mm / 2**_N_SQUARINGS
    for _ in range(_N_SQUARINGS):
        there = (grid + displacement / spacing_mm).reshape(3, -1)
        displacement = displacement + sample(displacement, there).reshape(velocity_mm.shape)
    return np.asarray(displacement)


def sample(field: Array, index: Array) -> Array:
    """Trilinear values of a field (C, X, Y, Z) at grid indices (3, N), its border continued; (C, N)."""
    from scipy import ndimage

    return np.stack([ndimage.map_coordinates(one, index, order=1, mode="nearest") for one in field])


def rigid(rotation_deg: Sequence[float], translation_mm: Sequence[float]) -> Array:
    """4 × 4 matrix: rotations about x, then y, then z through the origin, then a translation.

    >>> rigid((0, 0, 90), (0, 0, 5)).round(12) @ [1, 0, 0, 1]
    array([0., 1., 5., 1.])
    """
    matrix = np.eye(4)
    for axis, angle in enumerate(np.deg2rad(np.asarray(rotation_deg, float))):
        turn = np.eye(4)
        one, other = (axis + 1) % 3, (axis + 2) % 3
        turn[[one, other], [one, other]] = np.cos(angle)
        turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    matrix[:3, 3] = translation_mm
    return np.asarray(matrix)


def draw_pose(rng: np.random.Generator, rotation_sd_deg: float, translation_sd_mm: float) -> Array:
    """A random rigid 4 × 4 matrix; each angle and shift is normal, cut at two standard deviations."""
    angles, shifts = np.clip(rng.standard_normal((2, 3)), -2, 2)
    return rigid(rotation_sd_deg * angles, translation_sd_mm * shifts)


def draw_size(rng: np.random.Generator, scale_sd: float = 0.035, shear_sd: float = 0.015) -> Array:
    """A random 4 × 4 matrix of scales and small shears: heads differ in length, breadth and height."""
    matrix = np.eye(4)
    matrix[:3, :3] += np.triu(rng.standard_normal((3, 3)), 1) * shear_sd
    matrix[[0, 1, 2], [0, 1, 2]] *= np.exp(np.clip(rng.standard_normal(3), -2, 2) * scale_sd)
    return matrix
