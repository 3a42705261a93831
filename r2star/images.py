"""The one module that reads and writes NIfTI images. May import nibabel, never ants or nipype.

(first form: signatures are the contract; the checks follow)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import DTypeLike, NDArray

from r2star.errors import Notice


@dataclass(frozen=True)
class Grid:
    """A voxel grid in world space: shape (X, Y, Z) and the 4 × 4 voxel-to-world affine in mm (RAS+)."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def voxel_size_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of a voxel, mm³, from the affine."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))


@dataclass(frozen=True)
class Image:
    """Voxel values on a grid, with the warnings that reading raised. ``data`` is (X, Y, Z) or (X, Y, Z, T)."""

    data: NDArray[np.generic]
    grid: Grid
    notices: tuple[Notice, ...] = ()


def read_image(path: Path, *, dtype: DTypeLike = np.float32) -> Image:
    """Read an image to the last byte, scaled, in its storage order."""
    image = nib.load(path)
    data = np.asanyarray(image.dataobj).astype(dtype)
    return Image(data, Grid(tuple(data.shape[:3]), np.asarray(image.affine, np.float64)))


def read_grid(path: Path) -> Grid:
    """The grid of an image, from its header alone."""
    image = nib.load(path)
    return Grid(tuple(image.shape[:3]), np.asarray(image.affine, np.float64))


def write_image(path: Path, data: NDArray[np.generic], grid: Grid, *, dtype: DTypeLike = np.float32) -> Path:
    """Write an image atomically: temporary file in the same folder, fsync, re-read, rename."""
    image = nib.Nifti1Image(np.asarray(data, dtype=dtype), grid.affine)
    image.set_qform(grid.affine, 1)
    image.set_sform(grid.affine, 1)
    nib.save(image, path)
    return path


def to_canonical(data: NDArray[np.generic], grid: Grid) -> tuple[NDArray[np.generic], Grid]:
    """Flip and permute to the storage order closest to RAS+, losslessly."""
    raise NotImplementedError


def from_canonical(data: NDArray[np.generic], grid: Grid) -> NDArray[np.generic]:
    """Undo `to_canonical`: bring canonical-order values back to the storage order of ``grid``."""
    raise NotImplementedError
