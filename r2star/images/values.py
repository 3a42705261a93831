"""From stored values to the values that are meant: scaling, modulus, casting. Imports numpy and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.errors import InputError
from r2star.images.headers import Header

WHOLE_NUMBER = 1e-3


def as_stored(header: Header, dtype: np.dtype[Any]) -> bool:
    """Whether the stored bytes are the values, so that they may be read straight into their place."""
    return header.dtype == dtype and not header.scaled


def convert(block: NDArray[Any], target: NDArray[Any], header: Header, *, modulus: bool, path: Path) -> None:
    """Put the values of a stored block into ``target``: slope · stored + inter in float64, then cast.

    Both are flat and of one length. NaN and infinities stay; a value beyond ``target``'s float type becomes
    infinite.

    Raises
    ------
    InputError
        E140 where an integer type is asked for and a value is no whole number (to 1e-3) of its range.
    """
    values = block
    if header.scaled:
        wide = np.complex128 if block.dtype.kind == "c" else np.float64
        values = block.astype(wide)
        with np.errstate(over="ignore", invalid="ignore"):
            values *= header.slope
            values += header.inter
    if values.dtype.kind == "c" and modulus:
        values = np.abs(values)
    if target.dtype.kind in "iub":
        values = _whole_numbers(values, target.dtype, path)
    with np.errstate(over="ignore", invalid="ignore"):
        target[:] = values


def _whole_numbers(values: NDArray[Any], dtype: np.dtype[Any], path: Path) -> NDArray[Any]:
    least, most = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    whole = np.rint(values) if values.dtype.kind == "f" else values
    with np.errstate(invalid="ignore"):
        # the cast itself tells what fits: a float can't hold the greatest int64, and NaN fits nothing
        fits = np.abs(values - whole) <= WHOLE_NUMBER if values.dtype.kind == "f" else np.True_
        fits = fits & (whole.astype(dtype).astype(np.float64) == whole.astype(np.float64))
    if not fits.all():
        raise InputError(
            "E140",
            f"the value {values[~fits][0]:g} is no whole number from {least} to {most}",
            "labels are needed",
            "resample labels with nearest neighbours",
            path=path,
        )
    return whole
