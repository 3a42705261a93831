"""The one place that calls ANTs: images from verified arrays in, transform files out. May import ants (late).

World coordinates here are RAS+ mm (nibabel's); ITK's are LPS+. Only `to_ants` and `transforms` know both.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from r2star.errors import EnvironmentFault, Notice, ProcessingError
from r2star.images import Grid, Image

#: World RAS+ to LPS+ and back.
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

_THREADS = "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"


def limit_threads(n_threads: int) -> Notice | None:
    """Let ITK use ``n_threads`` threads in this process and its children.

    ITK reads the number once, with its first filter. Call this before anything registers, best before the
    workers of a process pool start; where ANTs was loaded earlier with another number the notice says so.
    """
    wanted = str(max(1, int(n_threads)))
    earlier = os.environ.get(_THREADS)
    os.environ[_THREADS] = wanted
    if "ants" in sys.modules and earlier not in (None, wanted):
        return Notice(
            "W440", f"ANTs was started with {earlier} threads and keeps them; {wanted} were asked for"
        )
    return None


def load_ants(seed: int | None = None) -> Any:
    """The ants module with ``seed`` set the one way that it honours.

    ``ants.registration(random_seed=...)`` is ignored; the module's own configuration is read on each call.
    """
    try:
        import ants
    except ImportError as problem:  # a missing or broken wheel
        raise EnvironmentFault(
            "E401",
            f"ANTs (antspyx) can't be loaded: {problem}",
            "antspyx 0.6.3 or later",
            "pip install antspyx",
        ) from problem
    if seed is not None:
        ants.config._random_seed = int(seed)
    return ants


def to_ants(image: Image) -> Any:
    """An ANTs image (float32) with the same values at the same world coordinates."""
    ants = load_ants()
    affine = LPS @ image.grid.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    data = np.ascontiguousarray(np.nan_to_num(image.data, nan=0.0, posinf=0.0, neginf=0.0), dtype=np.float32)
    return ants.from_numpy(
        data,
        origin=[float(value) for value in affine[:3, 3]],
        spacing=[float(value) for value in spacing],
        direction=affine[:3, :3] / spacing,
    )


def from_ants(image: Any, grid: Grid, what: str) -> NDArray[np.float32]:
    """The values of an ANTs image, which must lie on ``grid`` and be finite.

    Raises
    ------
    ProcessingError
        E403 where ANTs returned another grid, be it of the same shape, or values that are not finite.
    """
    data = np.asarray(image.numpy(), dtype=np.float32)
    if data.shape != tuple(grid.shape):
        raise ProcessingError(
            "E403", f"ANTs gave {what} of shape {data.shape}", f"{tuple(grid.shape)} was asked for"
        )
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(image.direction) * np.asarray(image.spacing)
    affine[:3, 3] = image.origin
    if not Grid(grid.shape, LPS @ affine).same_as(grid):
        raise ProcessingError("E403", f"ANTs gave {what} in another place", "the grid that was asked for")
    if not np.isfinite(data).all():
        raise ProcessingError("E403", f"ANTs gave {what} with values that are not finite", "finite values")
    return data


def to_ants_mask(mask: Image) -> Any:
    """An ANTs mask: registration reads any other pixel type but this one as an empty mask."""
    return to_ants(mask).clone("unsigned char")


def run_registration(arguments: Sequence[str], seed: int, outputs: Sequence[Path]) -> tuple[Path, ...]:
    """Run antsRegistration with its own words and return ``outputs``, which it must have written anew.

    Raises
    ------
    ProcessingError
        E402 where ANTs fails or claims success without an output.
    """
    ants = load_ants(seed)
    for path in outputs:
        path.unlink(missing_ok=True)
    words = ["--dimensionality", "3", *arguments, "--float", "1", "--random-seed", str(seed)]
    try:
        ants.registration(words, None)
    except RuntimeError as problem:
        raise ProcessingError(
            "E402",
            f"ANTs registration failed: {problem}",
            "a registration",
            "look at the images in the report",
        ) from problem
    missing = [path for path in outputs if not path.is_file() or path.stat().st_size == 0]
    if missing:
        names = ", ".join(path.name for path in missing)
        raise ProcessingError(
            "E402",
            f"ANTs said that it succeeded but wrote no {names}, or an empty one",
            "its transforms",
            "reinstall antspyx and check that no program replaces it",
            path=missing[0],
        )
    return tuple(outputs)


def pointer(image: Any) -> str:
    """The word by which an image in memory is named on an ANTs command line."""
    from ants.internal import get_pointer_string

    return str(get_pointer_string(image))


def apply_transforms(
    moving: Image,
    grid: Grid,
    transforms: Sequence[Path],
    interpolation: Literal["linear", "genericLabel", "nearestNeighbor", "lanczosWindowedSinc", "bSpline"],
    what: str,
) -> NDArray[np.float32]:
    """Resample ``moving`` on ``grid`` through ``transforms`` (the last is applied to grid points first).

    Raises
    ------
    ProcessingError
        E402 where ANTs fails, E403 where its output can't be used.
    """
    ants = load_ants()
    reference = to_ants(Image(np.zeros(grid.shape, np.float32), grid))
    try:
        moved = ants.apply_transforms(
            fixed=reference,
            moving=to_ants(moving),
            transformlist=[str(path) for path in transforms],
            interpolator=interpolation,
            singleprecision=True,
        )
    except Exception as problem:  # antspyx raises plain Exception for a transform that is absent
        raise ProcessingError(
            "E402", f"ANTs could not resample {what}: {problem}", "a resampled image"
        ) from problem
    return from_ants(moved, grid, what)
