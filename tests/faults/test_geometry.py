"""Battery, part C: where the voxels lie, by the header's account."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import battery as b
import nibabel as nib
import numpy as np
import pytest
from battery import fine, refused, warned

PIXDIM, QFORM_CODE, SFORM_CODE, QOFFSET, SROW, XYZT = 76, 252, 254, 268, 280, 123


def turned(degrees: float, axis: int = 2) -> np.ndarray:
    """The battery's affine turned about an axis through the origin."""
    angle = np.deg2rad(degrees)
    rotation = np.eye(4)
    one, other = (k for k in range(3) if k != axis)
    rotation[[one, one, other, other], [one, other, one, other]] = (
        np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle),
    )  # fmt: skip
    return rotation @ b.AFFINE


def placed(affine: np.ndarray) -> Callable[[Path], None]:
    return b.each_echo(lambda folder, number, values: b.rewrite(folder, number, values, affine))


def disagreeing(qform: np.ndarray, *, codes: tuple[int, int] = (1, 2)) -> Callable[[Path], None]:
    """Every echo with one place by its sform and another by its qform."""

    def change(folder: Path, number: int, values: np.ndarray) -> None:
        new = nib.Nifti1Image(values, b.AFFINE)
        new.header.set_sform(b.AFFINE, codes[1])
        new.header.set_qform(qform, codes[0])
        nib.save(new, b.image(folder, number))

    return b.each_echo(change)


def moved(mm: float) -> np.ndarray:
    affine = b.AFFINE.copy()
    affine[0, 3] += mm
    return affine


def sheared(by: float) -> np.ndarray:
    affine = b.AFFINE.copy()
    affine[0, 1] += by
    return affine


def stored(flips: tuple[int, ...], order: tuple[int, ...] = (0, 1, 2)) -> Callable[[Path], None]:
    """The same head stored along other axes."""

    def change(folder: Path, number: int, values: np.ndarray) -> None:
        image = nib.Nifti1Image(values, b.AFFINE)
        target = np.array([[axis, flip] for axis, flip in zip(order, flips)], float)
        nib.save(image.as_reoriented(target), b.image(folder, number))

    return b.each_echo(change)


def elsewhere(folder: Path) -> None:
    """One echo moved by half a voxel."""
    b.rewrite(folder, 3, b.signal()[..., 2], moved(1.0))


def cropped(folder: Path) -> None:
    b.rewrite(folder, 4, b.signal()[:, :, :-1, 3])


def mirrored_echo(folder: Path) -> None:
    """One echo stored the other way round: the same places, other voxels."""
    values = b.signal()[::-1, :, :, 1]
    affine = b.AFFINE @ np.diag([-1.0, 1, 1, 1])
    affine[0, 3] = b.AFFINE[0, 3] + 2.0 * (b.SHAPE[0] - 1)
    b.rewrite(folder, 2, values, affine)


def four_axes(folder: Path) -> None:
    """All echoes in each file."""
    for number in range(1, 5):
        b.rewrite(folder, number, b.signal())


def one_4d_file(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    nib.save(nib.Nifti1Image(b.signal(), b.AFFINE), folder / f"{folder.parent.name}_MEGRE.nii.gz")
    sidecar = {"EchoTime": list(b.ECHO_TIMES_S), "MagneticFieldStrength": 3}
    (folder / f"{folder.parent.name}_MEGRE.json").write_text(json.dumps(sidecar))


def trailing_axis(folder: Path, number: int, values: np.ndarray) -> None:
    b.rewrite(folder, number, values[..., None])


def flat(folder: Path) -> None:
    """The third axis of the sform has no length, and there is no qform."""
    for row in range(3):
        b.poke_all(folder, SROW + 16 * row + 8, "f", 0)
    b.poke_all(folder, QFORM_CODE, "h", 0)


def codes(qform: int, sform: int) -> Callable[[Path], None]:
    return lambda folder: b.poke_all(folder, QFORM_CODE, "2h", qform, sform)


ROWS = [
    fine("C01", "sform and qform differ by rounding", disagreeing(moved(0.009))),
    refused("C02", "sform and qform 6 degrees apart", disagreeing(turned(6)), "E131", "echo-1", "--xform"),
    warned("C02b", "sform and qform 0.5 mm apart", disagreeing(moved(0.5)), "W103"),
    refused("C02c", "qform mirrored", disagreeing(np.diag([-1.0, 1, 1, 1]) @ b.AFFINE), "E131", "echo-1"),
    refused("C03", "one echo mirrored", mirrored_echo, "E307", "echo-2"),
    refused("C04", "no orientation", codes(0, 0), "E130", "echo-1", "--assume-orientation"),
    fine("C05", "sform alone", codes(0, 1)),
    fine("C05b", "qform alone", codes(1, 0)),
    refused("C06", "codes outside the standard", codes(0, 99), "E136", "echo-1"),
    refused("C07", "sheared", placed(sheared(0.5)), "E132", "echo-1", "right angles"),
    warned("C08", "pixdim against the sform", lambda f: b.poke_all(f, PIXDIM + 4, "3f", 1, 1, 1), "W104", None),
    refused("C09", "a NaN in the sform", lambda f: b.poke(f, 1, SROW, "f", np.nan), "E133", "echo-1"),
    refused("C09b", "an axis without length", flat, "E133", "echo-1"),
    refused("C11", "voxels of 1e-6 mm", placed(np.diag([1e-6, 1e-6, 1e-6, 1])), "E134", "echo-1"),
    refused("C11b", "voxels of 1e6 mm", placed(np.diag([1e6, 1e6, 1e6, 1])), "E134", "echo-1"),
    refused("C11c", "voxels of 2000 mm", placed(b.AFFINE @ np.diag([1000, 1000, 1000, 1.0])), "E134", "echo-1"),
    fine("C12", "radiological storage", stored((-1, 1, 1))),
    fine("C12b", "storage LPS", stored((-1, -1, 1))),
    fine("C12c", "sagittal storage", stored((1, 1, -1), (2, 0, 1))),
    fine("C14", "30 degrees oblique", placed(turned(30)), None),
    fine("C14b", "oblique about two axes", placed(turned(20, 0) @ np.linalg.inv(b.AFFINE) @ turned(25, 1)), None),
    refused("C15", "echo 4 one slice short", cropped, "E306", "", "6×5×4", "6×5×3"),
    refused("C16", "one echo half a voxel off", elsewhere, "E307", "echo-3"),
    refused("C17", "all echoes in every file", four_axes, "E305", "echo-1", "split"),
    refused("C19", "all echoes in one file", one_4d_file, "E214", "MEGRE", "split"),
    fine("C20", "a fourth axis of length 1", b.each_echo(trailing_axis)),
]  # fmt: skip


test_row, test_the_others_are_untouched_and_the_exit_code_says_1, test_row_alone = b.tests_of(
    ROWS, alone=("C04",)
)


@pytest.mark.parametrize(
    ("option", "name", "code"),
    [(("--xform", "sform"), "C02", ""), (("--assume-orientation",), "C04", "W102")],
    ids=["C02 settled by --xform", "C04 accepted by --assume-orientation"],
)
def test_what_an_option_settles(
    tmp_path: Path, r2star: b.Run, option: tuple[str, ...], name: str, code: str
) -> None:
    row = next(row for row in ROWS if row.label == name)
    alone = b.run_alone(tmp_path, r2star, row, *option)
    assert alone.exit_code == 0, alone.stderr
    told = alone.rows[f"sub-{row.label}"]
    assert told["state"] == ("ok_warn" if code else "ok")
    assert code in told["warnings"]
    made = nib.load(alone.out / f"sub-{name}/anat/sub-{name}_R2starmap.nii.gz")
    np.testing.assert_allclose(made.get_qform(), made.get_sform(), atol=1e-3)
    if not code:
        np.testing.assert_allclose(made.affine, b.AFFINE, atol=1e-4)
