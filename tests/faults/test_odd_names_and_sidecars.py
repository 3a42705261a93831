"""Battery, parts D and E once more: names that nearly fit, sidecars that say odd things, voxels of no decay."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import battery as b
import numpy as np
from battery import fine, refused, warned
from test_echoes_and_values import drop, key, raw_json, times

HUGE = "1" + "0" * 400


def named(number: int, name: str) -> Callable[[Path], None]:
    """Another name for an echo and its sidecar; ``SUB`` stands for the participant."""

    def spoil(folder: Path) -> None:
        for suffix in (".nii.gz", ".json"):
            source = b.image(folder, number, suffix)
            source.rename(folder / f"{name.replace('SUB', folder.parent.name)}{suffix}")

    return spoil


def beside(name: str) -> Callable[[Path], None]:
    """A second set of echoes beside the first; ``N`` stands for the number."""

    def spoil(folder: Path) -> None:
        for number in range(1, 5):
            for suffix in (".nii.gz", ".json"):
                target = name.replace("SUB", folder.parent.name).replace("N", str(number))
                shutil.copy(b.image(folder, number, suffix), folder / f"{target}{suffix}")

    return spoil


def sidecars(**changes: Any) -> Callable[[Path], None]:
    """The same keys in every sidecar."""

    def spoil(folder: Path) -> None:
        for number in range(1, 5):
            b.edit_json(folder, number, **changes)

    return spoil


def without_image(number: int) -> Callable[[Path], None]:
    return lambda folder: b.image(folder, number).unlink()


def instead_of_sidecar(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        b.image(folder, 2, ".json").unlink()
        make(b.image(folder, 2, ".json"))

    return spoil


def values(change: Callable[[np.ndarray, int], np.ndarray], *numbers: int) -> Callable[[Path], None]:
    """Other voxels in some echoes: a function of the values and the echo's number."""

    def spoil(folder: Path) -> None:
        for number in numbers or range(1, 5):
            b.rewrite(folder, number, change(b.signal()[..., number - 1], number))

    return spoil


def rayleigh(voxels: np.ndarray, number: int) -> np.ndarray:
    return np.random.default_rng(number).rayleigh(10, voxels.shape).astype(np.float32)


TOLD = '"MagneticFieldStrength": 3'

ROWS = [
    refused("D02d", "part-mag beside no part", beside("SUB_echo-N_part-mag_MEGRE"), "E205", "echo-1", "more than once"),
    warned("D04", "a copy by a file manager", beside("SUB_echo-N_MEGRE copy"), "W210"),
    warned("D04b", "a suffix in small letters", named(4, "SUB_echo-4_megre"), "W210", None),
    warned("D04c", "a suffix with a number", named(4, "SUB_echo-4_MEGRE2"), "W210", None),
    warned("D04d", "digits of another script", named(2, "SUB_echo-２_MEGRE"), "W210", None),
    refused("D04e", "echo-1a", named(1, "SUB_echo-1a_MEGRE"), "E214", "echo-1a", "no number"),
    refused("D04f", "no echo entity", named(4, "SUB_MEGRE"), "E214", "MEGRE", "echo-"),
    fine("D04g", "echo-002", named(2, "SUB_echo-002_MEGRE")),
    refused("D04h", "an entity in capitals", named(4, "SUB_Echo-4_MEGRE"), "E219", "Echo-4"),
    refused("D04i", "an unknown part", named(2, "SUB_echo-2_part-magnitude_MEGRE"), "E221", "echo-2", "part-magnitude"),
    warned("D01b", "the last echo's image lost", without_image(4), "W214", None),
    warned("D01c", "the first echo's image lost", without_image(1), "W214", None),
    warned("D01d", "a sidecar of an echo that never was", lambda f: b.set_json(f, 5, {"EchoTime": 0.03}), "W214"),
    refused("D27b", "with and without magnetisation transfer", beside("SUB_mt-on_echo-N_MEGRE"), "E219", "mt-on"),
    refused("D27c", "inversions", beside("SUB_inv-1_echo-N_MEGRE"), "E219", "inv-1"),
    refused("D27d", "a derivative among the images", beside("SUB_echo-N_desc-denoised_MEGRE"), "E219", "desc-denoised"),
    fine("D27e", "another reconstruction", beside("SUB_rec-norm_echo-N_MEGRE")),
    fine("D27f", "with contrast agent as well", beside("SUB_ce-gad_echo-N_MEGRE")),
    refused("D06g", "tenths of seconds", times(0.4, 0.9, 1.5, 2.2), "E204", "echo-2"),
    warned("D06h", "echo times ten times too long", lambda f: (
        times(0.04, 0.09, 0.15, 0.22)(f), sidecars(RepetitionTime=0.05)(f)), "W212", None),
    refused("D10c", "EchoTime -0.0", key(1, EchoTime=-0.0), "E203", "echo-1"),
    refused("D10d", "EchoTime too small for a float", raw_json(2, '{"EchoTime": 1e-400}'), "E203", "echo-2"),
    refused("D12h", "EchoTime an endless integer", raw_json(2, f'{{"EchoTime": {HUGE}}}'), "E202", "echo-2"),
    refused("D12i", "EchoTime false", key(2, EchoTime=False), "E202", "echo-2"),
    fine("D12j", "an endless integer in another key", raw_json(2, f'{{"EchoTime": 0.009, {TOLD}, "X": {HUGE * 20}}}')),
    fine("D12k", "NaN in another key", raw_json(2, f'{{"EchoTime": 0.009, {TOLD}, "RepetitionTime": NaN}}')),
    fine("D12l", "half a letter", raw_json(2, f'{{"EchoTime": 0.009, {TOLD}, "Manufacturer": "\\ud800"}}')),
    refused("D24b", "phase by an ImageType that is one text", sidecars(ImageType="ORIGINAL\\PRIMARY\\P\\ND"), "E221",
            "echo-1", "phase"),
    fine("D24c", "an ImageType of odd things", sidecars(ImageType=["M", ["P"], None, 3])),
    refused("D16m", "arrays without end", raw_json(2, '{"EchoTime": 0.009, "X": ' + "[" * 100_000), "E210", "echo-2"),
    refused("D16n", "a key twice, once in escapes", raw_json(2, '{"EchoTime": 0.009, "Echo\\u0054ime": 0.02}'), "E210",
            "echo-2", "twice"),
    refused("D12m", "a time written with a comma", raw_json(2, '{"EchoTime": 0,009}'), "E210", "echo-2", "line 1"),
    refused("D13", "the key in small letters", raw_json(2, '{"echotime": 0.009}'), "E201", "echo-2", "EchoTime"),
    refused("D13b", "the key inside another", raw_json(2, '{"global": {"EchoTime": 0.009}}'), "E201", "echo-2"),
    refused("D16h", "single quotes", raw_json(2, "{'EchoTime': 0.009}"), "E210", "echo-2", "line 1"),
    refused("D16i", "a comment", raw_json(2, '{"EchoTime": 0.009 /* s */}'), "E210", "echo-2", "line 1"),
    refused("D16j", "two objects", raw_json(2, '{"EchoTime": 0.009}{"EchoTime": 0.02}'), "E210", "echo-2"),
    refused("D16k", "zeros", raw_json(2, bytes(300)), "E210", "echo-2", "line 1"),
    refused("D16l", "5 MB", raw_json(2, b'{"EchoTime": 0.009, "X": "' + b"a" * 5_000_000 + b'"}'), "E210", "echo-2",
            "too many"),
    refused("D18", "a folder for a sidecar", instead_of_sidecar(Path.mkdir), "E220", "echo-2_MEGRE.json"),
    refused("D18b", "a broken link for a sidecar", instead_of_sidecar(lambda path: path.symlink_to("nowhere")), "E213",
            "echo-2_MEGRE.json", "datalad get"),
    refused("D18c", "a sidecar named .JSON", lambda f: b.image(f, 2, ".json").rename(b.image(f, 2, ".JSON")), "E201",
            "echo-2", "EchoTime"),
    refused("D19b", "echoes of two fields", key(2, MagneticFieldStrength=7), "E215", "echo-2", "MagneticFieldStrength"),
    refused("D19c", "echoes of two repetition times", lambda f: (
        b.edit_json(f, 1, RepetitionTime=0.05), b.edit_json(f, 2, RepetitionTime=0.06)), "E215", "echo-2"),
    fine("D19d", "flip angles that differ by rounding", lambda f: [
        b.edit_json(f, n, FlipAngle=15 + 1e-9 * n) for n in range(1, 5)]),
    refused("D20d", "field strength 0", sidecars(MagneticFieldStrength=0), "E216", "echo-1"),
    refused("D20e", "field strength a list", sidecars(MagneticFieldStrength=[3]), "E216", "echo-1"),
    refused("D20f", "field strength true", sidecars(MagneticFieldStrength=True), "E216", "echo-1"),
    warned("D20g", "field strength NaN", sidecars(MagneticFieldStrength=float("nan")), "W202"),
    warned("D20h", "a frequency of 7 T at 3 T", sidecars(ImagingFrequency=297.2), "W213"),
    fine("D20i", "a frequency of 2.89 T", sidecars(ImagingFrequency=123.2)),
    fine("D31", "two echoes", drop(3, 4), None),
    refused("E01d", "every echo NaN", values(lambda v, n: v * np.nan), "E301", "echo-1", "finite"),
    refused("E01e", "every echo the same constant", values(lambda v, n: np.full_like(v, 1000)), "E310", "echo-2"),
    refused("E01f", "one echo of the other sign", values(lambda v, n: -v, 2), "E301", "echo-2", "positive"),
    refused("E02", "values beyond what is safe", values(lambda v, n: v * np.float32(1e34)), "E311", "echo-1"),
    refused("E02b", "values beyond 32 bits", values(lambda v, n: v.astype(np.float64) * 1e200), "E301", "echo-1"),
    fine("E02c", "small values", values(lambda v, n: v * np.float32(2**-30)), 1e-6),
    refused("E05", "constants that rise", values(lambda v, n: np.full_like(v, 1000) + n), "E303", "echo-", "rises"),
    refused("E05b", "noise alone", values(rayleigh), "E303", "echo-"),
    warned("E05c", "one echo of noise", values(lambda v, n: 30 * rayleigh(v, n), 3), "W303", None),
    warned("E07", "integers that ran over", values(lambda v, n: (v * 40).astype(np.int64).astype(np.int16)), "W302",
           None),
]  # fmt: skip


test_row, test_the_others_are_untouched_and_the_exit_code_says_1, test_row_alone = b.tests_of(
    ROWS, alone=("D12h", "D01b")
)
