"""Step: verify everything that a unit reads, to the last byte, before any work. Reads through `r2star.images`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.errors import InputError, Notice
from r2star.files import sha256_of, write_text_atomically
from r2star.images import Grid, Image, read_image, write_image

#: Echoes of one unit lie on one grid to within this distance at the corners, mm.
ECHO_GRID_TOLERANCE_MM = 0.01


class CheckedInputs(NamedTuple):
    """What the other steps read, in order of echo time."""

    magnitude: tuple[Path, ...]
    phase: tuple[Path, ...]
    t1w: Path | None
    hashes: Path  # JSON: file → SHA-256 of its content
    notices: tuple[Notice, ...]


def check_inputs(
    magnitude: tuple[Path, ...],
    out_dir: Path,
    phase: tuple[Path, ...] = (),
    real: tuple[Path, ...] = (),
    imaginary: tuple[Path, ...] = (),
    t1w: Path | None = None,
    sidecars: tuple[Path, ...] = (),
    assume_orientation: bool = False,
    found_notices: str = "[]",
) -> CheckedInputs:
    """Read every file to its end and check shapes, grids and values of the echoes.

    Real and imaginary parts become magnitude and phase (radians) in ``out_dir``. ``found_notices`` is a JSON list
    of the warnings that finding the unit raised. Raises `InputError` (E1 for a file, E30 for its values).
    """
    notices = [Notice(**one) for one in json.loads(found_notices)]
    hashes = {str(path): sha256_of(path) for path in sidecars}
    for kind, paths in (("magnitude", magnitude), ("phase", phase), ("real", real), ("imaginary", imaginary)):
        notices += _check_echoes(kind, paths, hashes, assume_orientation=assume_orientation)
    if real and not magnitude:
        magnitude, phase = _magnitude_and_phase(real, imaginary, out_dir)
    if t1w is not None:
        image = read_image(t1w, assume_orientation=assume_orientation)
        hashes[str(t1w)] = image.sha256
        notices += [*image.notices, *_check_t1w(t1w, image)]
    out = out_dir / "hashes.json"
    write_text_atomically(out, json.dumps(hashes, indent=1, sort_keys=True) + "\n")
    return CheckedInputs(tuple(magnitude), tuple(phase), t1w, out, tuple(dict.fromkeys(notices)))


def _check_echoes(
    kind: str, paths: Sequence[Path], hashes: dict[str, str], *, assume_orientation: bool
) -> list[Notice]:
    """Read the echoes of one kind; they must share shape and grid, and hold signal."""
    notices: list[Notice] = []
    grids: list[Grid] = []
    for path in paths:
        image = read_image(path, assume_orientation=assume_orientation)
        hashes[str(path)] = image.sha256
        if image.data.ndim != 3:
            raise InputError(
                "E305",
                f"the image has shape {image.data.shape}",
                "one 3D image an echo is needed",
                "split the file into one file an echo, each with its EchoTime",
                path=path,
            )
        grids.append(image.grid)
        notices += image.notices
        if kind == "magnitude":
            notices += _check_magnitude(path, image.data)
    _check_one_grid(paths, grids)
    return notices


def _check_one_grid(paths: Sequence[Path], grids: Sequence[Grid]) -> None:
    shapes = {grid.shape for grid in grids}
    if len(shapes) > 1:
        listed = ", ".join(
            f"{path.name} {'×'.join(map(str, grid.shape))}" for path, grid in zip(paths, grids)
        )
        raise InputError(
            "E306",
            f"the echoes have different shapes: {listed}",
            "one shape is needed",
            "export the series again",
            path=paths[0],
        )
    for path, grid in zip(paths, grids):
        if not grid.same_as(grids[0], tol_mm=ECHO_GRID_TOLERANCE_MM):
            raise InputError(
                "E307",
                f"the echo lies elsewhere in space than {paths[0].name}",
                f"corners within {ECHO_GRID_TOLERANCE_MM} mm are needed",
                "export the series again",
                path=path,
            )


def _check_magnitude(path: Path, data: NDArray[np.generic]) -> list[Notice]:
    """Empty echoes are refused; voxels that are no magnitude are counted."""
    finite = np.isfinite(data)
    if not np.any(data[finite] > 0):
        raise InputError(
            "E301",
            "no voxel of this echo is positive",
            "a magnitude image is needed",
            "export the echo again",
            path=path,
        )
    notices = []
    if n_bad := int(finite.size - np.count_nonzero(finite)):
        notices.append(
            Notice("W301", f"{n_bad} voxels are NaN or infinite; they get no estimate", path=path.name)
        )
    if n_negative := int(np.count_nonzero(data < 0.0)):
        notices.append(
            Notice(
                "W302",
                f"{n_negative} voxels are negative, as after filtering; they get no estimate",
                "give the unfiltered magnitude",
                path.name,
            )
        )
    return notices


def _check_t1w(path: Path, image: Image) -> list[Notice]:
    """A T1w must be 3D and hold something."""
    if image.data.ndim != 3 or not np.any(np.nan_to_num(image.data) > 0):
        raise InputError(
            "E308",
            f"the T1w has shape {image.data.shape} or holds no signal",
            "one 3D head is needed",
            "export it again",
            path=path,
        )
    return []


def _magnitude_and_phase(
    real: Sequence[Path], imaginary: Sequence[Path], out_dir: Path
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """|z| and arg z of each echo."""
    if len(real) != len(imaginary):
        raise InputError(
            "E309",
            f"{len(real)} real and {len(imaginary)} imaginary images",
            "one of each an echo is needed",
            path=real[0],
        )
    magnitudes, phases = [], []
    for number, (one, other) in enumerate(zip(real, imaginary), start=1):
        image = read_image(one)
        value = image.data + 1j * read_image(other).data
        magnitudes.append(
            write_image(out_dir / f"echo-{number}_part-mag_MEGRE.nii.gz", np.abs(value), image.grid)
        )
        phases.append(
            write_image(out_dir / f"echo-{number}_part-phase_MEGRE.nii.gz", np.angle(value), image.grid)
        )
    return tuple(magnitudes), tuple(phases)
