"""Where the voxels of a NIfTI image lie: one rule, and the quaternions of a header. Imports numpy and errors.

The rule. ``sform_code`` above 0: the sform. Else ``qform_code`` above 0: the qform. Both 0: refused,
because left and right can't be told apart, unless the user asks to assume an orientation; then x runs from
right to left in the file (radiological storage) about the image's centre, as nibabel and FSL assume. Where
both codes are above 0 and the two places of a corner voxel differ

- by no more than 0.01 mm, beyond what the rounding of a stored quaternion leaves open, that is rounding;
- by no more than 1 mm, the sform is taken, with a notice;
- by more, the image is refused unless the user names the one to believe.

A sheared affine is no grid that a registration program can read: up to 0.1 mm at a corner it is replaced by
the nearest affine with right angles (a notice above 0.01 mm), beyond that refused. Voxel sizes come from the
affine; a ``pixdim`` that says otherwise earns a notice. Voxels below 0.05 mm or above 20 mm are refused, and so
is an image more than a kilometre away.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from r2star.errors import InputError, Notice
from r2star.images.grid import Grid, corners_of
from r2star.images.headers import Header
from r2star.images.quaternions import complete, nearest_right_angled, rotation_of

Xform = Literal["sform", "qform"]

ROUNDING_MM = 0.01
UNCHANGED_MM = 1e-3
SMALL_SHEAR_MM = 0.1
SMALL_MISFIT_MM = 1.0
SMALLEST_VOXEL_MM, LARGEST_VOXEL_MM = 0.05, 20.0
FARTHEST_MM = 1e6

_QUATERNION_EXCESS = 1e-4
_SIZE_MISFIT = 1e-3
_LAST_CODE = 5
_REORIENT = "convert the original images again, or set a right sform"
_NAME_ONE = "name the one to believe with --xform sform or --xform qform, or make them agree"


@np.errstate(over="ignore", invalid="ignore")  # numbers beyond all bounds are refused by name
def grid_of(
    header: Header, path: Path, *, xform: Xform | None = None, assume_orientation: bool = False
) -> tuple[Grid, tuple[Notice, ...]]:
    """The one grid of an image, by the rule at the top of this module, with what there is to say about it.

    Raises
    ------
    InputError
        E130 no orientation, E131 sform and qform disagree, E132 sheared, E133 unusable affine, E134 voxel
        size, E135 unusable qform, E136 a code outside 0–5.
    """
    notices: list[Notice] = []
    affine = _choose(header, path, xform, assume_orientation, notices)
    _check_affine(affine, path)
    affine = _with_right_angles(header.shape, affine, path, notices)
    x, y, z = header.shape[:3]
    grid = Grid((x, y, z), affine)
    _compare_pixdim(header, grid, path, notices)
    return grid, tuple(notices)


def _choose(
    header: Header, path: Path, xform: Xform | None, assume: bool, notices: list[Notice]
) -> NDArray[np.float64]:
    codes = {"sform": header.sform_code, "qform": header.qform_code}
    for name, code in codes.items():
        if not 0 <= code <= _LAST_CODE:
            raise InputError("E136", f"{name}_code is {code}", "0 to 5 is possible", _REORIENT, path=path)
    if xform is not None:
        if not codes[xform]:
            raise InputError(
                "E130", f"{xform}_code is 0", f"the {xform} was asked for", "ask for the other one", path=path
            )
        return _sform(header) if xform == "sform" else qform_affine(header, path)
    if header.sform_code and header.qform_code:
        return _agreed(header, path, notices)
    if header.sform_code:
        return _sform(header)
    if header.qform_code:
        return qform_affine(header, path)
    return _assumed(header, path, assume, notices)


def _sform(header: Header) -> NDArray[np.float64]:
    return np.vstack([header.sform, [0.0, 0.0, 0.0, 1.0]])


def qform_affine(header: Header, path: Path, like: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """The affine of a header's quaternion, voxel sizes, handedness and offset.

    ``like`` is an affine that decides what the quaternion's rounding leaves open.

    Raises
    ------
    InputError
        E135 where programs would read them differently, or not at all.
    """
    b, c, d = header.quaternion
    sizes, handedness = header.pixdim[1:4], float(header.pixdim[0]) or 1.0
    norm2 = b * b + c * c + d * d
    if not np.isfinite(norm2) or norm2 > 1 + _QUATERNION_EXCESS or handedness not in (-1.0, 1.0):
        raise InputError(
            "E135",
            f"the qform's quaternion ({b:g}, {c:g}, {d:g}) or handedness {handedness:g} is invalid",
            "",
            _REORIENT,
            path=path,
        )
    if not (sizes > 0).all():
        raise InputError(
            "E135",
            f"the qform's voxel sizes are {_numbers(sizes)} mm",
            "they must be positive: programs differ in how they read others",
            _REORIENT,
            path=path,
        )
    turns = np.array([1.0, 1.0, handedness])
    nearest = None if like is None else nearest_right_angled(like)[:3, :3] / _sizes(like) * turns
    affine = np.eye(4)
    affine[:3, :3] = rotation_of(complete(header.quaternion, nearest)) * (sizes * turns)
    affine[:3, 3] = header.offset
    return affine


def _agreed(header: Header, path: Path, notices: list[Notice]) -> NDArray[np.float64]:
    sform = _sform(header)
    _check_affine(sform, path)
    qform = qform_affine(header, path, like=sform)
    apart = _apart(header.shape, sform, qform)
    if apart <= ROUNDING_MM:
        return sform
    if apart <= SMALL_MISFIT_MM:
        message = f"sform and qform differ by {apart:.2g} mm at a corner: the sform is used"
        notices.append(Notice("W103", message, "make them agree", str(path)))
        return sform
    raise InputError(
        "E131",
        f"sform and qform place a corner {apart:.3g} mm apart",
        f"at most {SMALL_MISFIT_MM:g} mm is tolerated",
        _NAME_ONE,
        path=path,
    )


def _assumed(header: Header, path: Path, assume: bool, notices: list[Notice]) -> NDArray[np.float64]:
    if not assume:
        raise InputError(
            "E130",
            "sform_code and qform_code are both 0",
            "left and right can't be told apart",
            "set the orientation, or accept an assumed one with --assume-orientation",
            path=path,
        )
    message = "the header has no orientation: x is assumed to run from right to left, sides may be swapped"
    notices.append(Notice("W102", message, "set the orientation in the header", str(path)))
    scales = np.abs(header.pixdim[1:4]) * [-1.0, 1.0, 1.0]
    affine = np.diag([*scales, 1.0])
    affine[:3, 3] = -scales * (np.array(header.shape[:3]) - 1) / 2
    return affine


def _check_affine(affine: NDArray[np.float64], path: Path) -> None:
    sizes = _sizes(affine)
    if not (np.abs(affine) <= FARTHEST_MM).all() or not (sizes > 0).all():
        raise InputError(
            "E133",
            "the affine is not finite, is far from anywhere or has an axis of no length",
            "",
            _REORIENT,
            path=path,
        )
    if not ((sizes >= SMALLEST_VOXEL_MM) & (sizes <= LARGEST_VOXEL_MM)).all():
        raise InputError(
            "E134",
            f"the voxels measure {_numbers(sizes)} mm",
            f"{SMALLEST_VOXEL_MM:g} to {LARGEST_VOXEL_MM:g} mm is plausible",
            "correct the header",
            path=path,
        )
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < 0.1:
        raise InputError("E133", "two axes of the affine nearly coincide", "", _REORIENT, path=path)


def _with_right_angles(
    shape: tuple[int, ...], affine: NDArray[np.float64], path: Path, notices: list[Notice]
) -> NDArray[np.float64]:
    straight = nearest_right_angled(affine)
    apart = _apart(shape, affine, straight)
    if apart <= UNCHANGED_MM:
        return affine
    if apart > SMALL_SHEAR_MM:
        raise InputError(
            "E132",
            f"the affine is sheared ({apart:.3g} mm at a corner)",
            "its axes must be perpendicular",
            "resample the image to a grid with right angles",
            path=path,
        )
    if apart > ROUNDING_MM:
        message = (
            f"the affine is sheared by {apart:.2g} mm at a corner: the nearest one with right angles is used"
        )
        notices.append(Notice("W105", message, "", str(path)))
    return straight


def _compare_pixdim(header: Header, grid: Grid, path: Path, notices: list[Notice]) -> None:
    stated = header.pixdim[1:4]
    if not np.allclose(stated, grid.voxel_size_mm, rtol=_SIZE_MISFIT, atol=0):
        sizes = _numbers(grid.voxel_size_mm)
        message = f"pixdim says {_numbers(stated)} mm, the affine {sizes} mm: the affine is used"
        notices.append(Notice("W104", message, "correct pixdim", str(path)))


def _sizes(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))


def _apart(shape: tuple[int, ...], one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    distance = np.linalg.norm(corners_of(shape, one) - corners_of(shape, other), axis=1).max()
    return float(distance) if np.isfinite(distance) else float("inf")


def _numbers(values: NDArray[np.float64] | tuple[float, ...]) -> str:
    return " × ".join(f"{value:.4g}" for value in values)
