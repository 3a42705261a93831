"""Voxel grids in world space, images on them, the order closest to RAS+. Imports numpy and errors."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.errors import Notice

_AXIS_NAMES = ("LR", "PA", "IS")


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid: shape (X, Y, Z) and the 4 × 4 affine from voxel indices to world millimetres (RAS+).

    World x grows to the right, y to the front, z to the top of the head; index (0, 0, 0) is the centre of
    the first voxel. The affine is kept as a read-only float64 copy.

    >>> grid = Grid((10, 20, 30), np.diag([-1.0, 1.0, 2.0, 1.0]))
    >>> grid.orientation, grid.voxel_volume_mm3
    ('LAS', 2.0)
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or len(self.shape) != 3:
            raise ValueError(f"a grid has 3 axes and a 4 × 4 affine, not {self.shape} and {affine.shape}")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))

    @property
    def voxel_size_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel along the storage axes, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of a voxel, mm³: the absolute determinant of the affine."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def corners(self) -> NDArray[np.float64]:
        """World positions (8, 3) of the centres of the eight corner voxels, mm."""
        return corners_of(self.shape, self.affine)

    @property
    def orientation(self) -> str:
        """Where the storage axes point, by the nearest world axis, as in ``"RAS"`` or ``"LPS"``."""
        axes, flips = closest_axes(self.affine)
        return "".join(_AXIS_NAMES[axis][0 if flip else 1] for axis, flip in zip(axes, flips, strict=True))

    def same_as(self, other: Grid, tol_mm: float = 1e-3) -> bool:
        """Whether the shapes agree and no corner lies more than ``tol_mm`` from the other grid's."""
        if self.shape != other.shape:
            return False
        return bool(np.linalg.norm(self.corners - other.corners, axis=1).max() <= tol_mm)

    def canonical(self) -> Grid:
        """The same voxels in the storage order closest to RAS+."""
        axes, flips = closest_axes(self.affine)
        order = np.argsort(axes)
        affine = self.affine.copy()
        for axis in range(3):
            if flips[axis]:
                affine[:3, 3] += affine[:3, axis] * (self.shape[axis] - 1)
                affine[:3, axis] *= -1
        affine[:, :3] = affine[:, order]
        x, y, z = (self.shape[axis] for axis in order)
        return Grid((x, y, z), affine)


@dataclass(frozen=True, eq=False)
class Image:
    """Voxel values on a grid, with what reading found out.

    ``data`` is (X, Y, Z) or (X, Y, Z, T) in storage order, NaN and infinities as they were stored;
    ``notices`` holds the warnings of reading; ``sha256`` is the hash of the file's bytes as they are on the
    disk (of the compressed bytes for .nii.gz), empty where the image was not read from a file. ``description`` is
    the header's free text: to be compared, never to be passed on.
    """

    data: NDArray[Any]
    grid: Grid
    notices: tuple[Notice, ...] = ()
    sha256: str = ""
    description: bytes = b""


def corners_of(shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """World positions (8, 3) of the corner voxels' centres under an affine, mm."""
    indices = np.array(list(product(*((0, n - 1) for n in shape[:3]))), dtype=np.float64)
    return np.asarray(indices @ affine[:3, :3].T + affine[:3, 3])


def closest_axes(affine: NDArray[np.float64]) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """For each storage axis the nearest world axis, no world axis twice, and whether it runs against it.

    The assignment has the greatest sum of absolute direction cosines; of equal ones the first in
    lexicographic order is taken, so that the answer never depends on rounding in a library.
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    best = max(
        permutations(range(3)),
        key=lambda axes: round(float(sum(abs(cosines[world, i]) for i, world in enumerate(axes))), 6),
    )
    return best, tuple(bool(cosines[world, i] < 0) for i, world in enumerate(best))


def to_canonical(data: NDArray[Any], grid: Grid) -> tuple[NDArray[Any], Grid]:
    """Flip and permute (X, Y, Z, ...) to the storage order closest to RAS+: no value and no position changes.

    Returns a view of ``data`` and the grid that belongs to it.

    >>> values = np.arange(6).reshape(3, 2, 1)
    >>> turned, grid = to_canonical(values, Grid((3, 2, 1), np.diag([-1.0, 1.0, 1.0, 1.0])))
    >>> turned[:, 0, 0].tolist(), grid.affine[0].tolist()
    ([4, 2, 0], [1.0, 0.0, 0.0, -2.0])
    """
    _check_shape(data, grid)
    axes, flips = closest_axes(grid.affine)
    flipped = data[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    order = tuple(int(axis) for axis in np.argsort(axes))
    return flipped.transpose(*order, *range(3, data.ndim)), grid.canonical()


def from_canonical(data: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """Undo `to_canonical`: bring values in canonical order back to the storage order of ``grid`` (a view)."""
    _check_shape(data, grid.canonical())
    axes, flips = closest_axes(grid.affine)
    turned = data.transpose(*axes, *range(3, data.ndim))
    return turned[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def _check_shape(data: NDArray[Any], grid: Grid) -> None:
    if data.shape[:3] != grid.shape:
        raise ValueError(f"values of shape {data.shape} do not lie on a grid of shape {grid.shape}")
