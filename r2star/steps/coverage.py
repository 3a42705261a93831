"""How much of each label of an atlas or a segmentation lies inside a field of view: its voxels, carried as points.

May import images and register. No image is resampled, so this takes a second, most of it for reading
the transforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.images import Grid, Image


class LabelVolumes(NamedTuple):
    """Label number → mm³ in the label image: of the whole label, and of its part inside the field of view."""

    expected_mm3: dict[int, float]
    inside_mm3: dict[int, float]


def volumes_in_view(image: Image, transforms: Sequence[Path], grid: Grid) -> LabelVolumes:
    """Carry the centre of each voxel of a label image to the head, and see whether ``grid`` holds it.

    ``transforms`` are those that bring an image on ``grid`` to the labels, the one next to the labels first; none
    where both lie in one world.
    """
    from r2star.register.transforms import map_points, read_composite

    voxels = np.nonzero(image.data)
    points = np.stack(voxels, axis=-1) @ image.grid.affine[:3, :3].T + image.grid.affine[:3, 3]
    chain = [link for path in transforms for link in read_composite(path)]
    seen = holds(grid, map_points(chain, points))
    labels = np.asarray(image.data)[voxels].astype(np.intp)
    volume = image.grid.voxel_volume_mm3
    whole, inside = np.bincount(labels), np.bincount(labels, weights=seen)
    present = np.flatnonzero(whole)
    return LabelVolumes(
        {int(label): float(whole[label]) * volume for label in present},
        {int(label): float(inside[label]) * volume for label in present},
    )


def holds(grid: Grid, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each world point (..., 3), mm, lies in a voxel of the grid.

    >>> holds(Grid((2, 2, 2), np.eye(4)), np.array([[1.4, 0, 0], [1.6, 0, 0]])).tolist()
    [True, False]
    """
    inverse = np.linalg.inv(grid.affine)
    voxels = points @ inverse[:3, :3].T + inverse[:3, 3]
    inside: NDArray[np.bool_] = np.all((voxels >= -0.5) & (voxels < np.array(grid.shape) - 0.5), axis=-1)
    return inside
