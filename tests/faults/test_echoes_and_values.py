"""Battery, parts D and E: echoes and their sidecars, and what the voxels hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import battery as b
import nibabel as nib
import numpy as np
import pytest
from battery import Row, fine, refused, warned

TOUCHED = (slice(0, 2), slice(0, 3), slice(0, 1))


def drop(*numbers: int) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for number in numbers:
            b.image(folder, number).unlink()
            b.image(folder, number, ".json").unlink()

    return spoil


def key(number: int, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: b.edit_json(folder, number, **changes)


def times(*values: Any, name: str = "EchoTime") -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for number, value in enumerate(values, start=1):
            b.edit_json(folder, number, **{"EchoTime": None, name: value})

    return spoil


def raw_json(number: int, text: str | bytes) -> Callable[[Path], None]:
    data = text if isinstance(text, bytes) else text.encode()
    return lambda folder: b.image(folder, number, ".json").write_bytes(data)


def renamed(*names: int) -> Callable[[Path], None]:
    """Echo k becomes number ``names[k]``, sidecar and all."""

    def spoil(folder: Path) -> None:
        for suffix in (".nii.gz", ".json"):
            for number in range(1, 5):
                b.image(folder, number, suffix).rename(b.image(folder, f"x{number}", suffix))
            for number, name in enumerate(names, start=1):
                b.image(folder, f"x{number}", suffix).rename(b.image(folder, name, suffix))

    return spoil


def copied(source: int, target: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for suffix in (".nii.gz", ".json"):
            b.image(folder, target, suffix).write_bytes(b.image(folder, source, suffix).read_bytes())

    return spoil


def swapped_sidecars(folder: Path) -> None:
    one, other = b.image(folder, 2, ".json"), b.image(folder, 3, ".json")
    texts = one.read_text(), other.read_text()
    other.write_text(texts[0])
    one.write_text(texts[1])


def reversed_times(folder: Path) -> None:
    times(*reversed(b.ECHO_TIMES_S))(folder)


def inherited(folder: Path) -> None:
    """Echo times in the participant's folder, the rest at the root."""
    bids, label = folder.parents[1], folder.parent.name
    for number, time in enumerate(b.ECHO_TIMES_S, start=1):
        b.image(folder, number, ".json").unlink()
        (folder.parent / f"{label}_echo-{number}_MEGRE.json").write_text(json.dumps({"EchoTime": time}))
    (bids / f"{label}_MEGRE.json").write_text(json.dumps({"MagneticFieldStrength": 3, "EchoTime": 0.3}))


def two_of_one_rank(folder: Path) -> None:
    label = folder.parent.name
    (folder / f"{label}_part-mag_echo-2_MEGRE.json").write_text('{"EchoTime": 0.009}')
    as_parts("mag")(folder)
    (folder / f"{label}_acq-x_echo-2_MEGRE.json").write_text('{"EchoTime": 0.011}')
    (folder / f"{label}_echo-2_MEGRE.json").write_text('{"EchoTime": 0.011}')
    (folder / f"{label}_part-mag_MEGRE.json").write_text('{"EchoTime": 0.012}')


def as_parts(part: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for path in sorted(folder.glob("*_MEGRE.*")):
            if "part-" not in path.name:
                path.rename(folder / path.name.replace("_MEGRE", f"_part-{part}_MEGRE"))

    return spoil


def real_and_imaginary(folder: Path) -> None:
    for number, values in enumerate(np.moveaxis(b.signal(), -1, 0), start=1):
        told = b.image(folder, number, ".json").read_text()
        for part, share in (("real", 0.6), ("imag", 0.8)):
            stem = folder / f"{folder.parent.name}_echo-{number}_part-{part}_MEGRE"
            nib.save(nib.Nifti1Image((values * share).astype(np.float32), b.AFFINE), f"{stem}.nii.gz")
            stem.with_suffix(".json").write_text(told)
        b.image(folder, number).unlink()
        b.image(folder, number, ".json").unlink()


def in_the_wrong_folder(folder: Path) -> None:
    for suffix in (".nii.gz", ".json"):
        path = b.image(folder, 2, suffix)
        path.rename(folder / path.name.replace(folder.parent.name, "sub-other"))


def voxels(change: Callable[[np.ndarray], None], *numbers: int) -> Callable[[Path], None]:
    """Change the values (X, Y, Z) of some echoes in place."""

    def spoil(folder: Path) -> None:
        for number in numbers or range(1, 5):
            values = b.signal()[..., number - 1]
            change(values)
            b.rewrite(folder, number, values)

    return spoil


def set_to(value: float, where: Any = ...) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[where] = value

    return change


def same_image_twice(folder: Path) -> None:
    b.image(folder, 3).write_bytes(b.image(folder, 2).read_bytes())


def packed_anew(folder: Path) -> None:
    b.pack(folder, 3, bytes(b.content_of(folder, 2)))


BOM = b"\xef\xbb\xbf"
WINDOWS = b'{\r\n"EchoTime": 0.009,\r\n"MagneticFieldStrength": 3\r\n}'
ROWS = [
    warned("D01", "echo 3 of 4 is missing", drop(3), "W203", None),
    refused("D02", "echo-1 and echo-01", copied(1, "01"), "E205", "echo-"),
    refused("D02b", "one image under two numbers", same_image_twice, "E310", "echo-3", "echo-2"),
    refused("D02c", "one image under two numbers, packed anew", packed_anew, "E310", "echo-3"),
    Row("D03", "one echo", drop(2, 3, 4), "skipped"),
    refused("D05", "no EchoTime", key(2, EchoTime=None), "E201", "echo-2", "EchoTime"),
    refused("D05b", "no sidecar", lambda f: b.image(f, 2, ".json").unlink(), "E201", "echo-2", "EchoTime"),
    refused("D06", "milliseconds", times(4, 9, 15, 22), "E204", "echo-1", "milliseconds"),
    refused("D06b", "one echo in milliseconds", key(3, EchoTime=15), "E204", "echo-3"),
    refused("D06c", "microseconds", times(4000, 9000, 15000, 22000), "E204", "echo-1"),
    refused("D06d", "divided by 1000 twice", times(4e-6, 9e-6, 15e-6, 22e-6), "E222", "echo-4"),
    refused("D06e", "one echo divided by 1000 twice", key(3, EchoTime=15e-6), "E222", "echo-3"),
    refused("D06f", "milliseconds in EffectiveEchoTime", times(4, 9, 15, 22, name="EffectiveEchoTime"), "E204",
            "echo-1"),
    warned("D08", "EffectiveEchoTime", times(*b.ECHO_TIMES_S, name="EffectiveEchoTime"), "W208"),
    fine("D09", "numbers against the order of times", renamed(3, 1, 4, 2)),
    refused("D10", "EchoTime 0", key(1, EchoTime=0), "E203", "echo-1"),
    refused("D10b", "negative EchoTime", key(1, EchoTime=-0.004), "E203", "echo-1"),
    refused("D11", "two echoes of one time", key(2, EchoTime=0.015), "E206", "echo-"),
    refused("D11b", "times that differ by a microsecond", key(2, EchoTime=0.015001), "E206", "echo-"),
    refused("D12", "EchoTime as text", key(2, EchoTime="0.009"), "E202", "echo-2"),
    refused("D12b", "EchoTime true", key(2, EchoTime=True), "E202", "echo-2"),
    refused("D12c", "EchoTime null", raw_json(2, '{"EchoTime": null}'), "E202", "echo-2"),
    refused("D12d", "EchoTime NaN", raw_json(2, '{"EchoTime": NaN}'), "E202", "echo-2"),
    refused("D12e", "EchoTime beyond all numbers", raw_json(2, '{"EchoTime": 1e999}'), "E202", "echo-2"),
    refused("D12f", "EchoTime a list", key(2, EchoTime=[0.009]), "E214", "echo-2"),
    refused("D12g", "EchoTime an object", key(2, EchoTime={"s": 0.009}), "E202", "echo-2"),
    fine("D14", "echo times by inheritance, the nearest wins", inherited),
    refused("D15", "two sidecars of one rank disagree", two_of_one_rank, "E223", "MEGRE"),
    refused("D16", "trailing comma", raw_json(2, '{\n "EchoTime": 0.009,\n}'), "E210", "echo-2", "line"),
    refused("D16b", "empty sidecar", raw_json(2, ""), "E210", "echo-2", "line 1"),
    refused("D16c", "a list", raw_json(2, "[0.009]"), "E210", "echo-2"),
    refused("D16d", "a key twice", raw_json(2, '{"EchoTime": 0.009, "EchoTime": 0.9}'), "E210", "echo-2"),
    refused("D16e", "brackets without end", raw_json(2, "[" * 100_000), "E210", "echo-2"),
    refused("D16f", "half a file", raw_json(2, '{"EchoTime": 0.0'), "E210", "echo-2"),
    refused("D16g", "a pointer", raw_json(2, "../.git/annex/objects/x/y.json"), "E210", "echo-2"),
    fine("D17", "byte-order mark and CRLF", raw_json(2, BOM + WINDOWS)),
    warned("D17b", "Latin-1", raw_json(2, b'{"EchoTime": 0.009, "MagneticFieldStrength": 3, "X": "\xe9"}'), "W211"),
    refused("D17c", "UTF-16", raw_json(2, '{"EchoTime": 0.009}'.encode("utf-16")), "E210", "echo-2"),
    refused("D19", "echoes of two acquisitions", lambda f: (
        b.edit_json(f, 1, FlipAngle=15), b.edit_json(f, 2, FlipAngle=20)), "E215", "echo-2", "FlipAngle"),
    warned("D20", "no field strength", lambda f: [
        b.edit_json(f, n, MagneticFieldStrength=None) for n in range(1, 5)], "W202"),
    refused("D20b", "field strength in gauss", lambda f: [
        b.edit_json(f, n, MagneticFieldStrength=30000) for n in range(1, 5)], "E216", "echo-1"),
    refused("D20c", "field strength as text", lambda f: [
        b.edit_json(f, n, MagneticFieldStrength="3T") for n in range(1, 5)], "E216", "echo-1"),
    fine("D23", "part-mag", as_parts("mag")),
    refused("D23b", "named magnitude, told to be phase", key(2, ImageType=["ORIGINAL", "PHASE"]), "E221", "echo-2"),
    Row("D24", "only phase", as_parts("phase"), "skipped"),
    fine("D25", "real and imaginary parts", real_and_imaginary, 1e-5),
    warned("D26", "sidecars of two echoes swapped", swapped_sidecars, "W303", None, "echo-"),
    refused("D30", "a file of another participant", in_the_wrong_folder, "E211", "sub-other"),
    refused("E01", "one echo all zero", voxels(set_to(0), 2), "E301", "echo-2"),
    refused("E01b", "one echo all NaN", voxels(set_to(np.nan), 3), "E301", "echo-3"),
    refused("E01c", "one echo all negative", voxels(set_to(-5), 3), "E301", "echo-3"),
    warned("E03", "NaN in 5 % of the voxels", voxels(set_to(np.nan, TOUCHED)), "W301", None),
    warned("E03b", "Inf in one echo", voxels(set_to(np.inf, TOUCHED), 2), "W301", None),
    warned("E04", "negative magnitudes", voxels(set_to(-300, TOUCHED)), "W302", None),
    refused("E06", "echo times reversed", reversed_times, "E303", "echo-", "rises"),
    fine("E10", "zeroed background", voxels(set_to(0, (slice(None), slice(None), -1))), None),
]  # fmt: skip


test_row, test_the_others_are_untouched_and_the_exit_code_says_1, test_row_alone = b.tests_of(
    ROWS, alone=("D03", "D06")
)


def r2star_map(run: b.Finished, label: str) -> np.ndarray:
    return np.asarray(nib.load(run.out / f"sub-{label}/anat/sub-{label}_R2starmap.nii.gz").dataobj)


@pytest.mark.parametrize("label", ["E03", "E04", "E10"])
def test_spoilt_voxels_have_no_value_and_the_others_the_same_bits(run: b.Finished, label: str) -> None:
    spoilt = np.zeros(b.SHAPE, bool)
    spoilt[TOUCHED if label != "E10" else (slice(None), slice(None), -1)] = True
    found, expected = r2star_map(run, label), r2star_map(run, b.GOOD[0])
    assert np.isnan(found[spoilt]).all()
    np.testing.assert_array_equal(found[~spoilt], expected[~spoilt])


def test_a_missing_echo_is_counted(run: b.Finished) -> None:
    sidecar = json.loads((run.out / "sub-D01/anat/sub-D01_R2starmap.json").read_text())
    assert sidecar["EchoTime"] == [0.004, 0.009, 0.022]


def test_eight_units_of_one_participant_never_mix(tmp_path: Path, r2star: b.Run) -> None:  # D27
    rates = {}
    for number, (session, acquisition, take) in enumerate(np.ndindex(2, 2, 2)):
        name = f"sub-01_ses-{session + 1}_acq-{'ab'[acquisition]}_run-{take + 1}"
        folder = tmp_path / f"bids/sub-01/ses-{session + 1}/anat"
        folder.mkdir(parents=True, exist_ok=True)
        rates[name] = 15.0 + 5 * number
        for echo, (time, values) in enumerate(
            zip(b.ECHO_TIMES_S, np.moveaxis(b.signal(rates[name]), -1, 0)), start=1
        ):
            nib.save(nib.Nifti1Image(values, b.AFFINE), folder / f"{name}_echo-{echo}_MEGRE.nii.gz")
            told = {"EchoTime": time, "MagneticFieldStrength": 3}
            (folder / f"{name}_echo-{echo}_MEGRE.json").write_text(json.dumps(told))
    done = r2star("app", tmp_path / "bids", tmp_path / "out", "participant", "--fit-only", "--nprocs", "2")
    assert done.returncode == 0, done.stderr
    assert set(b.states(tmp_path / "out")) == set(rates)
    for name, rate in rates.items():
        made = nib.load(tmp_path / f"out/sub-01/{name.split('_')[1]}/anat/{name}_R2starmap.nii.gz")
        assert np.median(made.get_fdata()) == pytest.approx(rate, rel=0.1)
