"""The macroscopic field of a head: air, sinuses and ears disturb B0 as magnetic dipoles. Arrays only.

May import numpy and scipy. The field in units of B0 is D·χ in k-space, D = 1/3 − (k·b)²/k²
(Marques & Bowtell 2005, doi:10.1002/cmr.b.20034, recalled).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.simulate.anatomy import Template

Array = NDArray[Any]

GAMMA_HZ_PER_TESLA = 42.577e6

#: Susceptibility of tissue relative to air, ppm (water −9.05, air +0.36).
TISSUE_RELATIVE_TO_AIR_PPM = -9.4

SPACING_MM = 3.0
_NECK_MM = 120.0  # the template ends at the neck, the body does not
_AIR_T1W, _BONE_T1W = 10.0, 15.0
_SMOOTHING_VOXELS = 0.7
_SINUSES_BELOW_MM, _SINUSES_BEFORE_MM = -8.0, -50.0  # elsewhere, what is dark inside the head is bone


@dataclass(frozen=True)
class FieldMap:
    """Field relative to B0 in ppm on a coarse grid in the template's world; ``affine`` voxel to world, mm."""

    ppm: Array
    affine: Array


def macroscopic_field(template: Template, b0_direction: Sequence[float] = (0.0, 0.0, 1.0)) -> FieldMap:
    """Field that a head makes in a homogeneous magnet, after a second-order shim over the brain, ppm.

    Parameters
    ----------
    template
        Its dark parts are read as air: outside the head, and in the sinuses, nose and ears.
    b0_direction
        Of the main field in the template's world; turned with the head.
    """
    step = round(SPACING_MM / float(abs(template.affine[0, 0])))
    tissue = 1 - _block_mean(air_fraction(template), step)
    brain = _block_mean(template.brain_mask.astype(np.float32), step) > 0.5
    affine = template.affine.copy()
    affine[:3, :3] *= step
    affine[:3, 3] += template.affine[:3, :3] @ np.full(3, (step - 1) / 2)
    neck = int(_NECK_MM / SPACING_MM)
    body = np.pad(tissue * TISSUE_RELATIVE_TO_AIR_PPM, ((0, 0), (0, 0), (neck, 0)), mode="edge")
    ppm = dipole_field(body, b0_direction)[:, :, neck:]
    return FieldMap((ppm - _shim(ppm, brain)).astype(np.float32), affine)


def air_fraction(template: Template) -> Array:
    """Share of air in each voxel, float32: dark in the template and outside the head, or low enough for a sinus."""
    from scipy import ndimage

    t1w = template.t1w.astype(np.float32)
    dark = np.clip((_BONE_T1W - t1w) / (_BONE_T1W - _AIR_T1W), 0, 1)
    y_mm, z_mm = (template.affine[k, k] * np.arange(t1w.shape[k]) + template.affine[k, 3] for k in (1, 2))
    regions, _ = ndimage.label(t1w < _AIR_T1W)
    outside = regions == regions[0, 0, -1]
    may_be_air = outside | ((y_mm > _SINUSES_BEFORE_MM)[:, None] & (z_mm < _SINUSES_BELOW_MM))
    return np.asarray(dark * (may_be_air & ~template.brain_mask), np.float32)


def _block_mean(values: Array, step: int) -> Array:
    """Mean over blocks of ``step`` voxels; the rest at the upper ends is dropped."""
    x, y, z = (n // step for n in values.shape)
    blocks = values[: x * step, : y * step, : z * step].reshape(x, step, y, step, z, step)
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float64))


def dipole_field(chi_ppm: Array, b0_direction: Sequence[float] = (0.0, 0.0, 1.0)) -> Array:
    """Field in ppm of B0 that a susceptibility (ppm, relative to its surroundings) makes; cubic voxels.

    Padded to twice the size, so that the images of a periodic transform stay away, and smoothed by a Gaussian of
    0.7 voxels, which leaves the field outside a body as it is.

    >>> ball = np.zeros((24, 24, 24))
    >>> ball[12, 12, 12] = 1.0
    >>> field = dipole_field(ball)
    >>> bool(field[12, 12, 15] > 0), bool(field[15, 12, 12] < 0)
    (True, True)
    """
    from scipy import fft

    shape = [fft.next_fast_len(2 * n, real=True) for n in chi_ppm.shape]
    frequencies = [np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2])]
    k = np.meshgrid(*frequencies, indexing="ij", sparse=True)
    square = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
    along = k[0] * b0_direction[0] + k[1] * b0_direction[1] + k[2] * b0_direction[2]
    # the kernel of a tilted field jumps at the highest frequencies, which would ring from voxel to voxel
    window = np.exp(-2 * (np.pi * _SMOOTHING_VOXELS) ** 2 * square)
    square[0, 0, 0] = 1.0
    kernel = (1 / 3 - along**2 / square) * window
    kernel[0, 0, 0] = 0.0
    field = fft.irfftn(fft.rfftn(chi_ppm, shape) * kernel, shape)
    return np.asarray(field[tuple(slice(n) for n in chi_ppm.shape)])


def _shim(field: Array, brain: Array) -> Array:
    """Second-order polynomial that fits the field in the brain best, everywhere."""
    axes = [np.linspace(-1, 1, n) for n in field.shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    terms = [np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z]
    design = np.stack([term[brain] for term in terms], axis=1)
    weights = np.linalg.lstsq(design, field[brain], rcond=None)[0]
    return np.asarray(sum(weight * term for weight, term in zip(weights, terms, strict=True)))
