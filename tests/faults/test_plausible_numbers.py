"""Battery, what reads well and gives a plausible wrong number: other series' echoes, lost voxels, lost scales."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import battery as b
import nibabel as nib
import numpy as np
import pytest
from battery import fine, refused, warned
from test_echoes_and_values import key, renamed, times
from test_files_and_headers import DATATYPE
from test_geometry import PIXDIM, QFORM_CODE, XYZT
from test_odd_headers import all_echoes, by_qform
from test_odd_names_and_sidecars import beside, sidecars, values

#: Bytes of a header that tell of slices, display, time and purpose: nothing here reads them.
SLICES, DISPLAY, TIME_OFFSET, INTENT = 39, 124, 136, 68
#: Free text of a header, in which dcm2niix leaves the echo time.
DESCRIPTION = 148


def differing(name: str, first: object, second: object) -> Callable[[Path], None]:
    """A key of the sidecars with another value in the second echo."""

    def spoil(folder: Path) -> None:
        sidecars(**{name: first})(folder)
        key(2, **{name: second})(folder)

    return spoil


def described(*times_ms: str) -> Callable[[Path], None]:
    """Headers that tell these echo times."""

    def spoil(folder: Path) -> None:
        for number, time in enumerate(times_ms, start=1):
            b.poke(folder, number, DESCRIPTION, "80s", f"TE={time};Time=101112.000".encode())

    return spoil


def philips(floating: int) -> Callable[[Path], None]:
    """The scales of Philips' images, another in each echo, and which of both values were written."""

    def spoil(folder: Path) -> None:
        for number in range(1, 5):
            b.edit_json(folder, number, PhilipsRescaleSlope=1.5 * number, PhilipsScaleSlope=0.01,
                        UsePhilipsFloatNotDisplayScaling=floating)  # fmt: skip

    return spoil


def phase(low: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """Phase as scanners store it, from ``low`` to 4095."""
    return lambda v, n: np.random.default_rng(n).integers(low, 4096, v.shape).astype(np.float32)


def without_slices(where: slice) -> Callable[[np.ndarray, int], np.ndarray]:
    def change(voxels: np.ndarray, number: int) -> np.ndarray:
        voxels[:, :, where] = 0
        return voxels

    return change


def filled(value: float, *numbers: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """The second slice of some echoes filled with a value."""

    def change(voxels: np.ndarray, number: int) -> np.ndarray:
        if number in numbers:
            voxels[:, :, 1] = value
        return voxels

    return change


def other_byte_order(*numbers: int) -> Callable[[Path], None]:
    """Integers whose bytes stand the other way round than the header says."""

    def spoil(folder: Path) -> None:
        for number in numbers:
            stored = b.signal()[..., number - 1].astype("<i2")
            header = nib.Nifti1Image(stored, b.AFFINE).header
            header["vox_offset"] = 352
            b.pack(folder, number, header.binaryblock + bytes(4) + stored.astype(">i2").tobytes(order="F"))

    return spoil


def in_three_members(folder: Path) -> None:
    """A gzip stream of three members, the middle one empty, as parallel packers leave it."""
    content = bytes(b.content_of(folder, 2))
    parts = (content[:400], b"", content[400:])
    b.image(folder, 2).write_bytes(b"".join(gzip.compress(part, mtime=0) for part in parts))


def time_of_all(folder: Path) -> None:
    """The last echo has lost its own time, and a file of the participant gives one for whatever has none."""
    key(4, EchoTime=None)(folder)
    (folder.parent / f"{folder.parent.name}_MEGRE.json").write_text('{"EchoTime": 0.03}')


def some_named_magnitude(folder: Path) -> None:
    for number in (1, 2):
        for suffix in (".nii.gz", ".json"):
            path = b.image(folder, number, suffix)
            path.rename(folder / path.name.replace("_MEGRE", "_part-mag_MEGRE"))


ROWS = [
    refused("D19e", "magnetisation transfer in one echo", differing("MTState", False, True), "E215", "echo-2",
            "MTState"),
    refused("D19f", "one echo of a 2D sequence", differing("MRAcquisitionType", "3D", "2D"), "E215", "echo-2"),
    refused("D19g", "one echo with another phase encoding", differing("PhaseEncodingDirection", "j", "i"), "E215",
            "echo-2", "PhaseEncodingDirection"),
    warned("D08b", "an effective echo time that contradicts", key(2, EffectiveEchoTime=0.012), "W215"),
    warned("D08c", "an effective echo time of 0", key(2, EffectiveEchoTime=0), "W215"),
    fine("D08d", "an effective echo time that agrees", key(2, EffectiveEchoTime=0.009000001)),
    refused("D24d", "the unit of phase", key(2, Units="rad"), "E221", "echo-2", "Units"),
    fine("D24e", "arbitrary units", sidecars(Units="arbitrary")),
    refused("D24f", "a scanner's own map", key(2, ImageType=["DERIVED", "PRIMARY", "M", "T2_STAR MAP"]), "E221",
            "echo-2", "made of others"),
    refused("D24g", "a scanner's own map, other words", key(2, ImageType="DERIVED\\PRIMARY\\R2_MAP"), "E221", "echo-2"),
    refused("D24k", "a projection", key(2, ImageType=["DERIVED", "PRIMARY", "M", "MNIP"]), "E221", "echo-2"),
    refused("D24l", "a mean of echoes", key(2, ImageType=["DERIVED", "PRIMARY", "M", "MEAN"]), "E221", "echo-2"),
    fine("D24m", "usual words", sidecars(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "NORM", "MEAN_SUBTRACTED"])),
    refused("D32", "spin echoes", sidecars(ScanningSequence="SE"), "E224", "echo-1", "R2"),
    refused("D32b", "spin echoes in a list", sidecars(ScanningSequence=["SE", "IR"]), "E224", "echo-1"),
    fine("D32c", "gradient echoes", sidecars(ScanningSequence="GR", SequenceVariant="SP")),
    warned("D14b", "one echo's time from a file for all", time_of_all, "W217", None, "echo-4"),
    warned("D26b", "sidecars that count other echoes", lambda f: [b.edit_json(f, n, EchoNumber=5 - n)
                                                                 for n in range(1, 5)], "W218"),
    fine("D26c", "sidecars that count the same echoes", lambda f: [b.edit_json(f, n, EchoNumber=n)
                                                                  for n in range(2, 5)]),
    warned("D24h", "phase in the place of one echo", values(phase(0), 3), "W303", None),
    refused("D24i", "phase for magnitude, from 0", values(phase(0)), "E303", "echo-1"),
    refused("D24j", "phase for magnitude, with signs", values(phase(-4096)), "E303", "echo-1"),
    warned("D06i", "the point of the last echo time slipped", key(4, EchoTime=0.22), "W216", None, "echo-4"),
    warned("D06j", "echo times ten times too short", times(0.0004, 0.0009, 0.0015, 0.0022), "W307", None),
    fine("D09b", "echoes counted from 0", renamed(0, 1, 2, 3)),
    fine("D23c", "part-mag on some echoes", some_named_magnitude),
    fine("A08b", "an empty member among others", in_three_members),
    fine("A16b", "a link to the folder above", lambda f: (f / "loop").symlink_to("..")),
    fine("B18b", "slices, display, time and purpose", lambda f: (
        b.poke_all(f, SLICES, "B", 255), b.poke_all(f, DISPLAY, "2f", 100, 0), b.poke_all(f, TIME_OFFSET, "f", 9.0),
        b.poke_all(f, INTENT, "h", 1003))),
    fine("B22f", "milliseconds beside mm", all_echoes(XYZT, "B", 2 | 16)),
    warned("B23", "floats that the header calls integers", all_echoes(DATATYPE, "h", 8), "W307", None),
    refused("B24", "bytes in the other order", other_byte_order(1, 2, 3, 4), "E312", "echo-1", "no voxel", "negative"),
    refused("B24b", "bytes of one echo in the other order", other_byte_order(3), "E303", "echo-"),
    fine("C10e", "a handedness of 0", by_qform(PIXDIM, "f", 0)),
    refused("C10f", "a handedness of 5", by_qform(PIXDIM, "f", 5), "E135", "echo-1", "handedness"),
    refused("C10g", "one echo of the other handedness", lambda f: (
        b.poke_all(f, QFORM_CODE, "2h", 1, 0), b.poke(f, 2, PIXDIM, "f", -1)), "E307", "echo-2"),
    refused("C10h", "a negative voxel size of the qform", by_qform(PIXDIM + 4, "f", -2), "E135", "echo-1"),
    warned("C08b", "a negative voxel size beside the sform", all_echoes(PIXDIM + 4, "f", -2), "W104"),
    warned("E08", "a slice of one echo lost", values(without_slices(slice(2, 3)), 3), "W306", None),
    warned("E08b", "most slices of the last echo lost", values(without_slices(slice(1, 4)), 4), "W306", None),
    refused("E08d", "a slice of one echo filled with 1", values(filled(1, 3)), "E313", "echo-3", "slice 2"),
    refused("E08e", "a slice of two echoes filled", values(filled(65535, 2, 4)), "E313", "echo-2"),
    fine("E08f", "a slice of all echoes filled", values(filled(1, 1, 2, 3, 4)), None),
    warned("E08c", "a mask by a threshold in each echo", values(lambda v, n: np.where(v < 600, 0, v)), "W306", None),
    warned("E11", "each echo scaled by itself", values(lambda v, n: np.rint(v / v.max() * 255)), "W308", None),
    warned("E11b", "one echo scaled by 2", values(lambda v, n: 2 * v, 2), "W303", None),
    refused("D19h", "one echo corrected for the coils", differing("ImageType", ["M", "ND"], ["M", "ND", "NORM"]),
            "E215", "echo-2", "NORM"),
    refused("D19i", "one echo corrected for distortion", differing("ImageType", ["M", "ND"], ["M", "DIS2D"]),
            "E215", "echo-2", "DIS2D"),
    fine("D19j", "words of one echo alone", differing("ImageType", ["M", "ND"], ["M", "ND", "TE2"])),
    warned("D19k", "an echo of another series", differing("SeriesNumber", 5, 8), "W219", 0.0, "echo-2"),
    warned("D19l", "an echo of another coil", differing("ReceiveCoilName", "Head_32", "Head_8"), "W219"),
    warned("D19m", "an echo 20 minutes later", differing("AcquisitionTime", "10:00:00.0", "10:20:11.5"), "W219"),
    fine("D19n", "over midnight", differing("AcquisitionTime", "23:59:59.99", "00:00:00.01")),
    fine("D19o", "times that are none", differing("AcquisitionTime", "10:00", 3)),
    refused("B17b", "display values, each echo its own scale", philips(0), "E225", "echo-2", "dcm2niix -p y"),
    fine("B17c", "floating point values, each echo its own scale", philips(1)),
    refused("D24n", "a scanner's R2*", sidecars(ImageType=["DERIVED", "PRIMARY", "R2_STAR", "UNSPECIFIED"]), "E221",
            "echo-1"),
    refused("D24o", "a scanner's T2*", sidecars(ImageType=["DERIVED", "PRIMARY", "T2_STAR", "NONE"]), "E221", "echo-1"),
    fine("D24p", "T2* weighting", sidecars(ImageType=["ORIGINAL", "PRIMARY", "T2_STAR", "NONE"])),
    refused("D24q", "a field map", sidecars(ImageType=["DERIVED", "PRIMARY", "B0 MAP", "B0"]), "E221", "echo-1"),
    refused("D24r", "water alone", sidecars(ImageType=["DERIVED", "PRIMARY", "DIXON", "WATER"]), "E221", "echo-1"),
    warned("D06k", "other echo times in the headers", described("4", "8", "12", "16"), "W310", 0.0, "echo-2"),
    fine("D06l", "the same times, with two digits", described("4", "9.0", "15", "22")),
    fine("D06m", "the first echo's header in all", described("4", "4", "4", "4")),
    warned("E11c", "one echo scaled by 0.85", values(lambda v, n: 0.85 * v, 2), "W309", None, "echo-2"),
    warned("E11d", "the last echo scaled by 0.7", values(lambda v, n: 0.7 * v, 4), "W309", None),
    fine("E11e", "one echo scaled by 0.97", values(lambda v, n: 0.97 * v, 2), None),
    warned("D06n", "the time of one echo copied wrong", key(3, EchoTime=0.010), "W309", None),
    warned("E13", "a first echo cut off", values(lambda v, n: np.minimum(v, 850)), "W305", None),
]  # fmt: skip


test_row, test_the_others_are_untouched_and_the_exit_code_says_1, test_row_alone = b.tests_of(
    ROWS, alone=("B24",)
)


@pytest.mark.parametrize(("label", "lost"), [("E08", slice(2, 3)), ("E08b", slice(1, 4))])
def test_voxels_of_a_lost_echo_have_no_value_and_the_others_the_same_bits(
    run: b.Finished, label: str, lost: slice
) -> None:
    found, expected = (
        np.asarray(nib.load(run.out / f"sub-{one}/anat/sub-{one}_R2starmap.nii.gz").dataobj)
        for one in (label, b.GOOD[0])
    )
    spoilt = np.zeros(b.SHAPE, bool)
    spoilt[:, :, lost] = True
    assert np.isnan(found[spoilt]).all()
    np.testing.assert_array_equal(found[~spoilt], expected[~spoilt])


@pytest.mark.parametrize("split", [False, True], ids=["copies", "two echoes each"])
def test_two_spellings_of_a_run_are_refused(tmp_path: Path, r2star: b.Run, split: bool) -> None:
    """They would count twice, or each unit would lose the other's echoes without a word."""
    folder = b.write_participant(tmp_path / "bids", "01")
    for run in ("1", "01"):
        beside(f"SUB_run-{run}_echo-N_MEGRE")(folder)
    for path in sorted(folder.iterdir()):
        late = any(f"echo-{number}" in path.name for number in (3, 4))
        if "run-" not in path.name or (split and late == ("run-1_" in path.name)):
            path.unlink()
    shutil.copytree(folder, tmp_path / "bids/sub-02/anat")
    for path in (tmp_path / "bids/sub-02/anat").iterdir():
        path.rename(path.with_name(path.name.replace("sub-01", "sub-02").replace("run-01", "run-2")))
    done = r2star("app", tmp_path / "bids", tmp_path / "out", "participant", "--fit-only", "--nprocs", "2")
    assert done.returncode == 1
    told = b.states(tmp_path / "out")
    assert {unit: row["code"] for unit, row in told.items() if row["code"] != "n/a"} == {
        "sub-01_run-1": "R2S-E205", "sub-01_run-01": "R2S-E205",
    }  # fmt: skip
    assert all("run-1_echo" in row["message"] and "run-01_echo" in row["message"]
               for unit, row in told.items() if unit.startswith("sub-01"))  # fmt: skip
