"""Units whose echoes or sidecars can't be used are refused by name, and leave other units alone."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r2star.bids.find import find_units
from r2star.bids.units import Unit
from r2star.errors import InputError

#: From Python 3.13 on the parser points at the comma itself, before that at what follows it.
TRAILING_COMMA = "line 2" if sys.version_info >= (3, 13) else "line 3"

Add = Callable[..., Path]
AddEchoes = Callable[..., None]
ECHO = "sub-01/anat/sub-01_echo-{}_part-mag_MEGRE"


def refused(dataset: Path, code: str, *words: str) -> Unit:
    """The unit sub-01, refused with a code and words; sub-02 beside it must be as it is alone."""
    unit = find_units(dataset)[0]
    assert unit.problem is not None
    message = str(unit.problem)
    assert isinstance(unit.problem, InputError)
    assert message.startswith(f"R2S-{code} {unit.label}: "), message
    assert "\n" not in message
    for word in words:
        assert word in message
    return unit


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ("0.004", "E202", "EchoTime is '0.004'"), (True, "E202", "EchoTime is True"), (None, "E202", "None"),
        (0, "E203", "EchoTime is 0 s"), (-0.004, "E203", "-0.004"), (4, "E204", "milliseconds"),
        (0.5, "E204", "milliseconds"), ([0.004, 0.009], "E214", "list of 2"),
        ({"a": 1}, "E202", "EchoTime is {"), (10**400, "E202", "EchoTime is inf"),
    ],
)  # fmt: skip
def test_echo_times_that_are_no_times_in_seconds(
    dataset: Path, add_echoes: AddEchoes, add: Add, value: Any, code: str, words: str
) -> None:
    add_echoes("sub-01/anat/sub-01")
    add_echoes("sub-02/anat/sub-02")
    alone = find_units(dataset, ["02"])[0]
    add(ECHO.format(2) + ".json", {"EchoTime": value})
    refused(dataset, code, ECHO.format(2), words)
    other = find_units(dataset)[1]
    assert other.magnitude == alone.magnitude
    assert other.problem is None


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_echo_times_that_are_not_finite(dataset: Path, add_echoes: AddEchoes, add: Add, value: str) -> None:
    add_echoes("sub-01/anat/sub-01")
    add(ECHO.format(1) + ".json", f'{{"EchoTime": {value}}}')
    refused(dataset, "E202", ECHO.format(1))


def test_milliseconds_are_never_converted(dataset: Path, add_echoes: AddEchoes) -> None:
    add_echoes("sub-01/anat/sub-01", (4, 9, 14))
    assert refused(dataset, "E204", "EchoTime is 4").magnitude == ()


def test_microscopic_echo_times_are_refused(dataset: Path, add_echoes: AddEchoes) -> None:
    add_echoes("sub-01/anat/sub-01", (4e-6, 24e-6))
    refused(dataset, "E222", "2.4e-05")


def test_a_missing_echo_time_names_file_and_key(dataset: Path, add_echoes: AddEchoes, add: Add) -> None:
    add_echoes("sub-01/anat/sub-01")
    add(ECHO.format(3) + ".json", {"MagneticFieldStrength": 3})
    refused(dataset, "E201", ECHO.format(3) + ".nii.gz", "EchoTime is missing")


def test_echoes_twice(dataset: Path, add_echoes: AddEchoes, add: Add) -> None:
    add_echoes("sub-01/anat/sub-01")
    add("sub-01/anat/sub-01_echo-01_part-mag_MEGRE.nii.gz")
    refused(dataset, "E205", "echo 1 (mag)", "sub-01_echo-01_part-mag")


def test_an_echo_with_and_without_part_is_twice(dataset: Path, add_echoes: AddEchoes, add: Add) -> None:
    add_echoes("sub-01/anat/sub-01")
    add("sub-01/anat/sub-01_echo-2_MEGRE.nii.gz")
    refused(dataset, "E205", "echo 2 (mag)")


def test_equal_echo_times(dataset: Path, add_echoes: AddEchoes) -> None:
    add_echoes("sub-01/anat/sub-01", (0.004, 0.009, 0.009))
    refused(dataset, "E206", "0.009 s equals")


@pytest.mark.parametrize("equal", [True, False])
def test_compressed_and_plain_image_side_by_side(
    dataset: Path, add_echoes: AddEchoes, add: Add, equal: bool
) -> None:
    add_echoes("sub-01/anat/sub-01")
    content = os.urandom(3_000_000)
    add(ECHO.format(1) + ".nii", content if equal else content[:-1])
    add(ECHO.format(1) + ".nii.gz", gzip.compress(content, 1))
    if equal:
        (unit,) = find_units(dataset)
        assert unit.magnitude[0].path.name.endswith(".nii.gz")
        assert "W204" in {notice.code for notice in unit.notices}
    else:
        refused(dataset, "E212", "both there and differ")


@pytest.mark.parametrize("times", [(0.004,), ()])
def test_too_few_echoes_are_skipped_if_found_and_an_error_if_named(
    dataset: Path, add_echoes: AddEchoes, times: tuple[float, ...]
) -> None:
    add_echoes("sub-01/anat/sub-01", times)
    add_echoes("sub-01/anat/sub-01", part="phase")
    unit = refused(dataset, "E207" if times else "E208")
    assert unit.skipped
    assert not find_units(dataset, ["01"])[0].skipped


def test_parts_that_disagree_on_echo_times(dataset: Path, add_echoes: AddEchoes) -> None:
    add_echoes("sub-01/anat/sub-01")
    add_echoes("sub-01/anat/sub-01", (0.004, 0.009, 0.015), part="phase")
    refused(dataset, "E209", "echo-3_part-phase", "0.015")


def test_phase_with_fewer_echoes_is_left_out(dataset: Path, add_echoes: AddEchoes) -> None:
    add_echoes("sub-01/anat/sub-01")
    add_echoes("sub-01/anat/sub-01", (0.004, 0.009), part="phase")
    (unit,) = find_units(dataset)
    assert (len(unit.magnitude), len(unit.phase)) == (3, 0)
    assert "W209" in {notice.code for notice in unit.notices}


def test_real_without_imaginary_part(dataset: Path, add_echoes: AddEchoes) -> None:
    add_echoes("sub-01/anat/sub-01", part="real")
    refused(dataset, "E208", "real and imaginary")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"EchoTime": 0.004,\n "Manufacturer": "x",\n}', TRAILING_COMMA), ('{"EchoTime": 0.004', "line 1"),
        ("", "line 1"), ("[1, 2]", "line 1"),
        ('{"EchoTime": 0.004, "EchoTime": 0.005}', "'EchoTime' is given twice"),
        ("[" * 100_000, "JSON"), (b"\xff\xfe{\x00}\x00", "line 1"),
    ],
)  # fmt: skip
def test_sidecars_that_are_no_json_name_file_and_line(
    dataset: Path, add_echoes: AddEchoes, add: Add, text: str | bytes, words: str
) -> None:
    add_echoes("sub-01/anat/sub-01")
    add(ECHO.format(2) + ".json", text)
    refused(dataset, "E210", ECHO.format(2) + ".json", words)


def test_a_broken_root_sidecar_fails_the_units_that_inherit_it(
    dataset: Path, add_echoes: AddEchoes, add: Add
) -> None:
    add_echoes("sub-01/anat/sub-01")
    add_echoes("sub-02/anat/sub-02", part=None)
    add("part-mag_MEGRE.json", "{")
    refused(dataset, "E210", "part-mag_MEGRE.json")
    assert find_units(dataset)[1].problem is None


@pytest.mark.parametrize("name", ["sub-02_echo-1_MEGRE.nii.gz", "sub-02_T1w.nii", "sub-01_ses-1_MEGRE.json"])
def test_files_in_the_wrong_folder(dataset: Path, add_echoes: AddEchoes, add: Add, name: str) -> None:
    add_echoes("sub-01/anat/sub-01")
    add_echoes("sub-02/anat/sub-02")
    add(f"sub-01/anat/{name}")
    refused(dataset, "E211", f"sub-01/anat/{name}")
    assert find_units(dataset)[1].problem is None


@pytest.mark.parametrize("suffix", [".nii.gz", ".json"])
def test_a_link_without_content_says_what_to_get(
    dataset: Path, add_echoes: AddEchoes, add: Add, suffix: str
) -> None:
    add_echoes("sub-01/anat/sub-01")
    path = add(ECHO.format(2) + suffix)
    path.unlink()
    path.symlink_to("../../.git/annex/objects/xx/yy/MD5E-s1--0")
    refused(dataset, "E213", f"datalad get {ECHO.format(2)}{suffix}")


def test_a_link_with_content_is_followed(dataset: Path, add_echoes: AddEchoes, add: Add) -> None:
    add_echoes("sub-01/anat/sub-01")
    content = add(".git/annex/objects/x", {"EchoTime": 0.007})
    path = dataset / (ECHO.format(2) + ".json")
    path.unlink()
    path.symlink_to(content)
    assert find_units(dataset)[0].echo_times_s == (0.004, 0.007, 0.014)


def test_a_pipe_is_refused_unopened(dataset: Path, add_echoes: AddEchoes) -> None:
    add_echoes("sub-01/anat/sub-01")
    path = dataset / (ECHO.format(1) + ".json")
    path.unlink()
    os.mkfifo(path)
    refused(dataset, "E220", "not a regular file")


def test_one_file_for_all_echoes_says_how_to_split(dataset: Path, add: Add) -> None:
    add("sub-01/anat/sub-01_MEGRE.nii.gz")
    add("sub-01/anat/sub-01_MEGRE.json", {"EchoTime": [0.004, 0.009]})
    refused(dataset, "E214", "split", "echo-1_MEGRE")


def test_other_entities_are_refused_and_can_be_filtered_out(
    dataset: Path, add_echoes: AddEchoes, add: Add
) -> None:
    add_echoes("sub-01/anat/sub-01")
    add("sub-01/anat/sub-01_flip-2_echo-1_part-mag_MEGRE.nii.gz")
    refused(dataset, "E219", "flip-2")
    assert find_units(dataset, filters={"megre": {"flip": None}})[0].problem is None


@pytest.mark.parametrize("key", ["FlipAngle", "RepetitionTime", "MagneticFieldStrength"])
def test_echoes_of_different_acquisitions_are_refused(
    dataset: Path, add_echoes: AddEchoes, add: Add, key: str
) -> None:
    add_echoes("sub-01/anat/sub-01", **{key: 3})
    add(ECHO.format(2) + ".json", {"EchoTime": 0.009, key: 7})
    refused(dataset, "E215", ECHO.format(2), f"{key} is 7, but 3 in echo 1")


@pytest.mark.parametrize("value", ["3T", 30000, 0, -3, True])
def test_field_strength_that_is_no_tesla(dataset: Path, add_echoes: AddEchoes, value: Any) -> None:
    add_echoes("sub-01/anat/sub-01", MagneticFieldStrength=value)
    refused(dataset, "E216", "MagneticFieldStrength")


def test_field_strength_may_be_missing(dataset: Path, add: Add) -> None:
    for echo in (1, 2):
        add(ECHO.format(echo) + ".nii.gz")
        add(ECHO.format(echo) + ".json", {"EchoTime": 0.004 * echo})
    (unit,) = find_units(dataset)
    assert unit.field_strength_tesla is None
    assert "W202" in {notice.code for notice in unit.notices}


def test_a_gap_in_the_numbering_is_told(dataset: Path, add_echoes: AddEchoes) -> None:
    add_echoes("sub-01/anat/sub-01", (0.004, 0.009, 0.014, 0.019, 0.024, 0.029))
    for suffix in (".nii.gz", ".json"):
        (dataset / (ECHO.format(3) + suffix)).unlink()
    (unit,) = find_units(dataset)
    assert unit.echo_times_s == (0.004, 0.009, 0.019, 0.024, 0.029)
    assert [n.message for n in unit.notices if n.code == "W203"] == ["echo 3 of 6 is missing; 5 are used"]


@pytest.mark.parametrize(
    ("image_type", "part", "expected"),
    [
        (None, None, ""), (["ORIGINAL", "PRIMARY", "M", "ND"], None, ""),
        (["ORIGINAL", "P", "ND"], None, "E221"),
        (["DERIVED", "PHASE"], "mag", "E221"), (["ORIGINAL", "M"], "phase", "E221"), ("M", "mag", ""),
        ("PHASE", None, "E221"), ("ORIGINAL\\PRIMARY\\P\\ND", "mag", "E221"), ("ORIGINAL\\M", "phase", "E221"),
        ({"P": 1}, None, ""), (["M", ["P"], None, 3], "mag", ""),
    ],
)  # fmt: skip
def test_magnitude_is_assumed_without_part_unless_image_type_knows_better(
    dataset: Path, add_echoes: AddEchoes, image_type: object, part: str | None, expected: str
) -> None:
    more = {} if image_type is None else {"ImageType": image_type}
    add_echoes("sub-01/anat/sub-01")
    add_echoes("sub-01/anat/sub-01_acq-x", part=part, **more)
    add_echoes("sub-01/anat/sub-01_acq-x", part="mag" if part == "phase" else "phase")
    unit = find_units(dataset)[1]
    if expected.startswith("E"):
        assert unit.problem is not None
        assert unit.problem.code == expected
    else:
        assert unit.problem is None
        assert {notice.code for notice in unit.notices} - {"W207"} == ({expected} - {""})
        assert len(unit.magnitude) == 3


def test_effective_echo_time_is_taken_and_told(dataset: Path, add_echoes: AddEchoes, add: Add) -> None:
    add_echoes("sub-01/anat/sub-01")
    add(ECHO.format(2) + ".json", {"EffectiveEchoTime": 0.01, "MagneticFieldStrength": 3})
    (unit,) = find_units(dataset)
    assert unit.echo_times_s == (0.004, 0.01, 0.014)
    assert unit.magnitude[1].sidecar["EffectiveEchoTime"] == 0.01
    assert "W208" in {notice.code for notice in unit.notices}


def test_a_name_that_is_not_bids_is_told(dataset: Path, add_echoes: AddEchoes, add: Add) -> None:
    add_echoes("sub-01/anat/sub-01")
    add("sub-01/anat/sub-01_echo4_MEGRE.nii.gz")
    (unit,) = find_units(dataset)
    assert [n.path for n in unit.notices if n.code == "W210"] == ["sub-01/anat/sub-01_echo4_MEGRE.nii.gz"]
