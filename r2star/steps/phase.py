"""Phase and magnitude of a unit's echoes from their files, packed to a mask's voxels. Reads through `r2star.images`.

Each file is read once, an echo at a time; the unit of the phase is decided from all echoes together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.errors import InputError
from r2star.field import PhaseRange, PhaseUnit, Voxels, measure_phase_range, recognise_phase_unit
from r2star.images import Grid, read_images

#: Echoes and mask lie on one grid to within this distance at the corners, mm.
GRID_TOLERANCE_MM = 0.1


class PackedEchoes(NamedTuple):
    """(E, N) of the mask's voxels, x fastest, and the mean magnitude of the whole image, (Z, Y, X)."""

    phase_rad: NDArray[np.float32]
    magnitude: NDArray[np.float32]
    mean_magnitude: NDArray[np.float32]
    unit: PhaseUnit


def read_echoes(
    pairs: Sequence[tuple[Path, Path]],
    voxels: Voxels,
    grid: Grid,
    declared: object,
    **how: Any,
) -> PackedEchoes:
    """Read phase and magnitude of each echo; ``declared`` is the sidecar's ``Units``.

    Raises
    ------
    InputError
        E1 for an image; E360 to E363 where the unit is in doubt; E365, E367 for another shape or place.
    """
    shape = (len(pairs), voxels.index.size)
    phase, magnitude = np.empty(shape, np.float32), np.empty(shape, np.float32)
    mean = np.zeros(voxels.mask.shape, np.float32)
    ranges = []
    for echo, paths in enumerate(pairs):
        stored, size = (image.T for image in _read_pair(paths, grid, **how))
        ranges.append(measure_range(stored, paths[0]))
        phase[echo], magnitude[echo] = voxels.pack(stored), voxels.pack(size)
        mean += size
    mean /= np.float32(len(pairs))
    if not np.isfinite(mean.sum()):
        np.nan_to_num(mean, copy=False, posinf=0, neginf=0)
    unit = decide_phase_unit(ranges, declared, pairs[0][0])
    return PackedEchoes(unit.to_radians(phase), magnitude, mean, unit)


def measure_range(stored: NDArray[Any], path: Path) -> PhaseRange:
    """`measure_phase_range` of the values of a file, which an error names."""
    with naming(path):
        return measure_phase_range(stored)


def decide_phase_unit(ranges: Sequence[PhaseRange], declared: object, path: Path) -> PhaseUnit:
    """`recognise_phase_unit` of all echoes; ``path`` is the first, which an error names."""
    with naming(path):
        return recognise_phase_unit(ranges, declared if isinstance(declared, str) else None)


def _read_pair(
    paths: tuple[Path, Path], grid: Grid, **how: Any
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Phase and magnitude of one echo."""
    images = read_images(paths, **how)
    for path, image in zip(paths, images):
        own, masks = ("×".join(map(str, one)) for one in (image.data.shape, grid.shape))
        if own != masks:
            found = f"the image has shape {own}, the brain mask {masks}"
            raise InputError("E365", found, "one shape", "export the series again", path=path)
        if not image.grid.same_as(grid, tol_mm=GRID_TOLERANCE_MM):
            found = "the image lies elsewhere in space than the brain mask"
            raise InputError("E367", found, "one grid", "make the mask from these images", path=path)
    phase, magnitude = (image.data.astype(np.float32, copy=False) for image in images)
    return phase, magnitude


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name to an error of a kernel, which knows none."""
    try:
        yield
    except InputError as error:
        error.path = error.path or str(path)
        raise
