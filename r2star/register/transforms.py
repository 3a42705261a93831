"""Composite transforms: chains of affines and displacement fields, kept as ITK ``.h5``. Imports h5py (late), no ants.

A chain maps points of the fixed image's world to the moving image's world; resampling pulls values along it.
Points and displacements are RAS+ mm here, LPS+ in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.errors import Notice, ProcessingError
from r2star.files import write_bytes_atomically
from r2star.images import Grid

_FLIP = np.array([-1.0, -1.0, 1.0])
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_AFFINES, _FIELD = ("AffineTransform", "MatrixOffsetTransformBase"), "DisplacementFieldTransform"

#: Displacements are stored to 1/512 mm: they compress twice as well, and no image knows the difference.
STORED_STEP_MM = 1 / 512


@dataclass(frozen=True)
class Affine:
    """A 4 × 4 matrix from fixed to moving world, RAS+ mm."""

    matrix: NDArray[np.float64]

    def map_points(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (..., 3) points."""
        return points @ self.matrix[:3, :3].T + self.matrix[:3, 3]


@dataclass(frozen=True)
class Field:
    """Displacements (X, Y, Z, 3) in mm on a grid: x → x + u(x), interpolated linearly; 0 outside."""

    displacement_mm: NDArray[np.float32]
    grid: Grid

    def map_points(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (..., 3) points."""
        from r2star.register.kernels import displace

        inverse = np.linalg.inv(self.grid.affine)
        moved = np.array(points, dtype=np.float64, order="C").reshape(-1, 3)
        field = np.ascontiguousarray(self.displacement_mm, dtype=np.float32)
        displace(field, moved @ inverse[:3, :3].T + inverse[:3, 3], moved)
        return moved.reshape(np.shape(points))


Link = Affine | Field


@dataclass(frozen=True)
class Warp:
    """A registration: points of the fixed world to the moving world, and back."""

    fixed_to_moving: list[Link]
    moving_to_fixed: list[Link]
    notices: tuple[Notice, ...] = ()


def map_points(chain: Sequence[Link], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map (..., 3) world points of the fixed image through the links, first to last.

    >>> shift = Affine(np.array([[1, 0, 0, 5.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    >>> map_points([shift, shift], np.zeros(3)).tolist()
    [10.0, 0.0, 0.0]
    """
    for link in chain:
        points = link.map_points(points)
    return points


def write_composite(path: Path, chain: Sequence[Link]) -> Path:
    """Write a chain as one compressed ITK composite transform, atomically.

    The file is made in memory: on a full disk HDF5 complains in tracebacks of its own, and may crash as it closes.

    Raises
    ------
    ProcessingError
        E404 where a link holds values that are not finite: such a transform would move tissue anywhere.
    EnvironmentFault
        E601 disk or quota full, E602 no right to write there.
    """
    values: NDArray[np.floating]
    for link in chain:
        values = link.matrix if isinstance(link, Affine) else link.displacement_mm
        if not np.isfinite(values).all():
            raise ProcessingError(
                "E404", "a transform holds values that are not finite", "a finite transform"
            )
    return write_bytes_atomically(path, _composite(chain))


def _composite(chain: Sequence[Link]) -> bytes:
    """The bytes of a composite file."""
    import h5py

    with h5py.File("composite.h5", "w", driver="core", backing_store=False) as file:
        text = h5py.string_dtype("ascii")
        for name, value in (("ITKVersion", "5.4"), ("HDFVersion", "1.12"), ("OSName", ""), ("OSVersion", "")):
            file.create_dataset(name, data=[value], dtype=text)
        group = file.create_group("TransformGroup")
        first = group.create_group("0")
        first.create_dataset("TransformType", data=["CompositeTransform_float_3_3"], dtype=text)
        # ITK applies the last transform of the queue to a point first
        for number, link in enumerate(reversed(chain), start=1):
            kind, values, fixed = _to_itk(link)
            item = group.create_group(str(number))
            item.create_dataset("TransformType", data=[f"{kind}_float_3_3"], dtype=text)
            packed = (
                {"compression": "gzip", "compression_opts": 4, "shuffle": True} if values.size > 12 else {}
            )
            item.create_dataset("TransformParameters", data=values, **packed)
            item.create_dataset("TransformFixedParameters", data=fixed)
        file.flush()
        return bytes(file.id.get_file_image())


def read_composite(path: Path) -> list[Link]:
    """Read the chain of a composite ``.h5``, ours or ANTs' own.

    Raises
    ------
    ProcessingError
        E404 where the file is no composite of affines and displacement fields, or holds values not finite.
    """
    import h5py

    chain: list[Link] = []
    try:
        with h5py.File(path, "r") as file:
            group = file["TransformGroup"]
            for number in sorted(group, key=int, reverse=True):
                kind = bytes(group[number]["TransformType"][0]).decode().split("_")[0]
                if kind != "CompositeTransform":
                    chain.append(_from_itk(kind, group[number], path))
    except (OSError, KeyError, ValueError) as problem:
        raise ProcessingError(
            "E404", f"the transform can't be read: {problem}", "a composite transform (.h5)", path=path
        ) from problem
    return chain


def _to_itk(link: Link) -> tuple[str, NDArray[np.floating], NDArray[np.float64]]:
    if isinstance(link, Affine):
        matrix = _LPS @ link.matrix @ _LPS
        values = np.concatenate([matrix[:3, :3].ravel(), matrix[:3, 3]])
        return "AffineTransform", values, np.zeros(3)
    affine = _LPS @ link.grid.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    fixed = np.concatenate([link.grid.shape, affine[:3, 3], spacing, (affine[:3, :3] / spacing).ravel()])
    stored = np.round(link.displacement_mm / STORED_STEP_MM) * STORED_STEP_MM
    values = (stored * _FLIP).astype(np.float32).transpose(2, 1, 0, 3).ravel() + np.float32(0)
    return "DisplacementFieldTransform", values, fixed.astype(np.float64)


def _from_itk(kind: str, item: Any, path: Path) -> Link:
    names = {name: np.asarray(item[name], np.float64) for name in item if name.endswith("Parameters")}
    values = names.get("TransformParameters", names.get("TranformParameters"))  # older ITK misspelt it
    fixed = names.get("TransformFixedParameters", names.get("TranformFixedParameters"))
    if values is None or fixed is None or not np.isfinite(values).all() or not np.isfinite(fixed).all():
        raise ProcessingError(
            "E404",
            "the transform holds values that are absent or not finite",
            "a finite transform",
            path=path,
        )
    if kind not in (*_AFFINES, _FIELD):
        raise ProcessingError(
            "E404", f"the transform holds a {kind}", "affines and displacement fields", path=path
        )
    _check_sizes(kind, values, fixed, path)
    if kind in _AFFINES:
        matrix = np.eye(4)
        matrix[:3, :3] = values[:9].reshape(3, 3)
        matrix[:3, 3] = values[9:12] + fixed - matrix[:3, :3] @ fixed
        return Affine(_LPS @ matrix @ _LPS)
    shape = tuple(int(value) for value in fixed[:3])
    affine = np.eye(4)
    affine[:3, :3] = fixed[9:18].reshape(3, 3) * fixed[6:9]
    affine[:3, 3] = fixed[3:6]
    field = values.reshape(*shape[::-1], 3).transpose(2, 1, 0, 3) * _FLIP
    return Field(field.astype(np.float32), Grid((shape[0], shape[1], shape[2]), _LPS @ affine))


def _check_sizes(kind: str, values: NDArray[np.float64], fixed: NDArray[np.float64], path: Path) -> None:
    """Refuse a transform with other numbers than its kind has: numpy would repeat or leave out some in silence."""
    sizes = (12, 3) if kind in _AFFINES else (3 * int(np.prod(fixed[:3])), 18)
    if (values.size, fixed.size) != sizes:
        found = f"a {kind} of {values.size} and {fixed.size} numbers"
        raise ProcessingError("E404", found, f"{sizes[0]} and {sizes[1]} for its kind and grid", path=path)


def read_affine(path: Path) -> NDArray[np.float64]:
    """The 4 × 4 matrix of a file that must hold affines alone.

    Raises
    ------
    ProcessingError
        E404 where it can't be read, is empty, or holds a displacement field: that would be left out in silence.
    """
    chain = read_composite(path)
    if not chain or not all(isinstance(link, Affine) for link in chain):
        found = "the transform of a linear registration holds " + (
            "a displacement field" if chain else "nothing"
        )
        raise ProcessingError("E404", found, "affine transforms alone", path=path)
    return affine_part(chain)


def affine_part(chain: Sequence[Link]) -> NDArray[np.float64]:
    """The product of the affine links, 4 × 4."""
    matrix = np.eye(4)
    for link in chain:
        if isinstance(link, Affine):
            matrix = link.matrix @ matrix
    return matrix


def jacobian_determinant(chain: Sequence[Link], grid: Grid) -> NDArray[np.float64]:
    """Volume change det(∂y/∂x) of a chain at the voxels of ``grid``, by central differences, shape of the grid."""
    axes = [np.arange(size, dtype=np.float64) for size in grid.shape]
    voxels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    points = map_points(chain, voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3])
    columns = [np.gradient(points, axis=axis) for axis in range(3)]
    per_voxel = np.linalg.det(np.stack(columns, axis=-1))
    return np.asarray(per_voxel / np.linalg.det(grid.affine[:3, :3]))
