"""Maps gathered at the labelled voxels alone, sorted by label. Arrays only; may import errors.

The label image is gone through once, whatever the number of regions; a region is then some stretches of the
sorted voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from r2star.errors import InputError

#: A label may be this far from a whole number: scaled storage does so.
LABEL_TOLERANCE = 1e-3


class RegionLike(Protocol):
    """A region of one hemisphere (``L``, ``R``, or ``LR`` for what has no sides) and its label numbers."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def hemisphere(self) -> str: ...  # noqa: D102
    @property
    def indices(self) -> tuple[int, ...]: ...  # noqa: D102


@dataclass(frozen=True)
class VoxelMaps:
    """Maps of one shape (X, Y, Z); only R2* is needed. NaN means no value.

    ``residual`` is √(RSS/(E − 2)) of the fit; ``noise_sigma`` is the scale of the noise, a number or a map,
    which the residuals stand for where there is none; both in the images' unit. ``first_echo`` and
    ``last_echo`` are the magnitudes of the echoes; ``lesions`` is true inside a lesion. ``weight`` is how surely
    a voxel belongs to its label (0 to 1; all alike without it), and ``others`` are further maps by name.
    """

    r2star_per_s: NDArray[np.floating]
    stderr_per_s: NDArray[np.floating] | None = None
    status: NDArray[np.integer] | None = None
    s0: NDArray[np.floating] | None = None
    residual: NDArray[np.floating] | None = None
    first_echo: NDArray[np.floating] | None = None
    last_echo: NDArray[np.floating] | None = None
    noise_sigma: float | NDArray[np.floating] | None = None
    gradient_bias_per_s: NDArray[np.floating] | None = None
    lesions: NDArray[np.bool_] | None = None
    weight: NDArray[np.floating] | None = None
    others: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelledVoxels:
    """All voxels of the labels asked for, sorted by label: arrays (V,), and where each label begins and ends."""

    stretches: Mapping[int, slice]
    coordinates: tuple[NDArray[np.intp], ...]
    at_edge: NDArray[np.bool_]
    values: Mapping[str, NDArray[np.floating]]

    def of(self, indices: Sequence[int]) -> NDArray[np.intp]:
        """Positions of the voxels of these labels in the sorted arrays."""
        found = [self.stretches[index] for index in indices if index in self.stretches]
        return np.concatenate([np.arange(part.start, part.stop) for part in found] or [np.zeros(0, np.intp)])


def whole_labels(labels: NDArray[np.generic]) -> NDArray[np.integer]:
    """Label numbers as integers; a value may be off by less than 1e-3, as scaled storage leaves it.

    >>> whole_labels(np.array([3.0000458, 5.9999999]))
    array([3, 6], dtype=int32)
    """
    if np.issubdtype(labels.dtype, np.integer):
        return labels.astype(np.int64, copy=False)
    values = labels.astype(np.float64)
    usable = np.abs(values) < 2**31  # neither NaN nor infinite
    nearest = np.rint(np.where(usable, values, 0))
    usable &= np.abs(np.where(usable, values, 0) - nearest) < LABEL_TOLERANCE
    if not usable.all():
        found = f"the label {values[~usable][0]:g}"
        fix = "resample labels by nearest neighbour"
        raise InputError("E461", f"{found} is no whole number", "labels are, within 1e-3", fix)
    whole: NDArray[np.integer] = nearest.astype(np.int32)
    return whole


def volumes_by_region(
    labels: NDArray[np.generic], regions: Sequence[RegionLike], voxel_volume_mm3: float
) -> dict[tuple[str, str], float]:
    """(region, hemisphere) → mm³ of its labels in a label image of whole numbers ≥ 0; 0 where there are none.

    >>> from types import SimpleNamespace as Region
    >>> left = Region(name="putamen", hemisphere="L", indices=(1, 2))
    >>> right = Region(name="putamen", hemisphere="R", indices=(9,))
    >>> volumes_by_region(np.array([0, 1, 1, 4]), [left, right], 2.0)
    {('putamen', 'L'): 4.0, ('putamen', 'R'): 0.0}
    """
    counts = np.bincount(labels.astype(np.int64, copy=False).ravel(order="K"))
    return {
        (one.name, one.hemisphere): float(sum(counts[index] for index in one.indices if index < counts.size))
        * voxel_volume_mm3
        for one in regions
    }


def gather(maps: VoxelMaps, labels: NDArray[np.generic], wanted: Sequence[int]) -> LabelledVoxels:
    """Gather every map at the voxels whose label is wanted.

    Raises
    ------
    InputError
        E461 where labels are no whole numbers, E462 where the shapes differ.
    """
    coordinates = np.nonzero(labels)
    numbers = whole_labels(labels[coordinates])
    picked = np.flatnonzero(np.isin(numbers, sorted(set(wanted) - {0})))
    order = picked[np.argsort(numbers[picked], kind="stable")]
    coordinates = tuple(axis[order] for axis in coordinates)
    found, starts = np.unique(numbers[order], return_index=True)
    stretches = {
        int(label): slice(int(start), int(end))
        for label, start, end in zip(found, starts, np.append(starts, order.size)[1:], strict=True)
    }
    faces = [(axis == 0) | (axis == n - 1) for axis, n in zip(coordinates, labels.shape, strict=True)]
    return LabelledVoxels(
        stretches, coordinates, np.any(faces, axis=0), _values(maps, labels.shape, coordinates)
    )


def _values(
    maps: VoxelMaps, shape: tuple[int, ...], coordinates: tuple[NDArray[np.intp], ...]
) -> dict[str, NDArray[np.floating]]:
    """The maps that are there, at these voxels; a single number stands for a map of it."""
    values: dict[str, NDArray[np.floating]] = {}
    own = {name: getattr(maps, name) for name in maps.__dataclass_fields__ if name != "others"}
    for name, array in {**own, **{f"map {name}": array for name, array in maps.others.items()}}.items():
        if isinstance(array, np.ndarray):
            if array.shape != shape:
                raise InputError(
                    "E462", f"{name} has shape {array.shape}", f"that of the labels, {shape}, is needed"
                )
            values[name] = array[coordinates]
        elif array is not None:
            values[name] = np.full(coordinates[0].size, array, np.float64)
    return values
