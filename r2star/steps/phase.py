"""Phase and magnitude of a unit's echoes from their files, packed to a mask's voxels. Reads through `r2star.images`.

Each file is read once, an echo at a time; the unit of the phase is decided from all echoes together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.errors import InputError
from r2star.field import PhaseRange, PhaseUnit, Voxels, measure_phase_range, recognise_phase_unit
from r2star.images import Grid, open_image

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
    n_threads: int = 1,
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
    stored, size = np.empty_like(mean), np.empty_like(mean)  # each echo takes the place of the one before
    read = partial(_read_into, grid=grid)
    ranges = []
    with ThreadPoolExecutor(max(1, min(n_threads, 2))) as pool:
        for echo, paths in enumerate(pairs):
            list(pool.map(read, paths, (stored, size)))
            ranges.append(measure_range(stored, paths[0]))
            voxels.pack(stored, out=phase[echo])
            voxels.pack(size, out=magnitude[echo])
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


def _read_into(path: Path, room: NDArray[np.float32], *, grid: Grid) -> None:
    """Values of an image (X, Y, Z) on the grid, into (Z, Y, X)."""
    with open_image(path) as reader:
        if reader.shape == grid.shape and reader.grid.same_as(grid, tol_mm=GRID_TOLERANCE_MM):
            reader.read_slices(reader.n_slices, out=room.T)
            return
        reader.verify()  # damage, where there is any, explains it
    own, masks = ("×".join(map(str, one)) for one in (reader.shape, grid.shape))
    if own != masks:
        found = f"the image has shape {own}, the brain mask {masks}"
        raise InputError("E365", found, "one shape", "export the series again", path=path)
    found = "the image lies elsewhere in space than the brain mask"
    raise InputError("E367", found, "one grid", "make the mask from these images", path=path)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name to an error of a kernel, which knows none."""
    try:
        yield
    except InputError as error:
        error.path = error.path or str(path)
        raise
