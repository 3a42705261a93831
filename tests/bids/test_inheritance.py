"""Sidecars: inheritance against a reading of the rule by brute force, encodings, and what is ever kept."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from r2star.bids.entities import parse_name
from r2star.bids.find import find_units
from r2star.bids.metadata import ALLOWED_SIDECAR_KEYS, SidecarTree

Add = Callable[..., Path]
AddEchoes = Callable[..., None]


def test_the_nearest_file_wins_key_by_key(dataset: Path, add: Add) -> None:
    add("MEGRE.json", {"EchoTime": 0.1, "MagneticFieldStrength": 3, "FlipAngle": 10, "RepetitionTime": 1})
    add("T1w.json", {"EchoTime": 0.3})
    add("sub-01/sub-01_MEGRE.json", {"FlipAngle": 20, "RepetitionTime": 2})
    add("sub-01/ses-1/sub-01_ses-1_MEGRE.json", {"RepetitionTime": 3})
    add("sub-01/ses-1/sub-01_ses-1_echo-2_MEGRE.json", {"EchoTime": 0.009})
    anat = "sub-01/ses-1/anat/sub-01_ses-1"
    add(f"{anat}_echo-1_part-mag_MEGRE.json", {"EchoTime": 0.004})
    for echo in (1, 2):
        add(f"{anat}_echo-{echo}_part-mag_MEGRE.nii")
    (unit,) = find_units(dataset)
    assert unit.echo_times_s == (0.004, 0.009)
    assert unit.field_strength_tesla == 3
    assert [echo.sidecar["FlipAngle"] for echo in unit.magnitude] == [20, 20]
    assert [echo.sidecar["RepetitionTime"] for echo in unit.magnitude] == [3, 3]
    assert [path.relative_to(dataset).as_posix() for path in unit.magnitude[0].sidecar_paths] == [
        "MEGRE.json", "sub-01/sub-01_MEGRE.json", "sub-01/ses-1/sub-01_ses-1_MEGRE.json",
        f"{anat}_echo-1_part-mag_MEGRE.json",
    ]  # fmt: skip


def test_echo_times_from_the_root_alone(dataset: Path, add: Add) -> None:
    for echo, time in ((1, 0.004), (2, 0.009)):
        add(f"echo-{echo}_MEGRE.json", {"EchoTime": time})
        for participant in ("01", "02"):
            add(f"sub-{participant}/anat/sub-{participant}_echo-{echo}_part-mag_MEGRE.nii.gz")
    assert [unit.echo_times_s for unit in find_units(dataset)] == [(0.004, 0.009)] * 2


def test_inheritance_agrees_with_brute_force(dataset: Path, add: Add) -> None:
    """Files with random subsets of entities at random levels; the rule applied again, plainly."""
    generator = random.Random(5)
    entities = {"sub": "01", "ses": "1", "acq": "a", "run": "2", "echo": "3", "part": "mag"}
    levels = ["", "sub-01/", "sub-01/ses-1/", "sub-01/ses-1/anat/"]
    keys = ["FlipAngle", "RepetitionTime", "SliceThickness", "PixelBandwidth"]
    expected: list[tuple[tuple[int, int], dict[str, int]]] = []
    for depth, level in enumerate(levels):
        subsets = [c for n in range(7) for c in itertools.combinations(entities, n)]
        ranks = set()
        for subset in generator.sample(subsets, 14):
            values = {key: entities[key] for key in subset}
            if generator.random() < 0.4 and subset:
                values[generator.choice(subset)] = "zz"
            elif len(subset) in ranks:
                continue
            ranks.add(len(subset))
            content = {key: generator.randrange(1000) for key in generator.sample(keys, 2)}
            pairs = [f"{key}-{value}" for key, value in values.items()]
            add(f"{level}{'_'.join([*pairs, 'MEGRE'])}.json", content)
            if all(entities[key] == value for key, value in values.items()):
                expected.append(((depth, len(subset)), content))
    image = add(f"{levels[-1]}{'_'.join(f'{k}-{v}' for k, v in entities.items())}_MEGRE.nii")
    merged: dict[str, int] = {}
    for _, content in sorted(expected, key=lambda item: item[0]):
        merged |= content
    name = parse_name(image.name)
    assert name is not None
    found, paths, _ = SidecarTree(dataset, "MEGRE").inherited(name, [dataset / level for level in levels])
    assert found == merged
    assert len(paths) == len(expected) > 4


def test_files_of_one_folder_that_apply_alike_and_disagree_are_refused(
    dataset: Path, add_echoes: AddEchoes, add: Add
) -> None:
    add_echoes("sub-01/anat/sub-01")
    add("echo-2_MEGRE.json", {"EchoTime": 0.009})
    add("part-mag_MEGRE.json", {"EchoTime": 0.011, "FlipAngle": 5})
    (unit,) = find_units(dataset)
    assert unit.problem is not None
    assert unit.problem.code == "E223"
    add("part-mag_MEGRE.json", {"FlipAngle": 5})
    (unit,) = find_units(dataset)
    assert unit.echo_times_s == (0.004, 0.009, 0.014)


@pytest.mark.parametrize("encode", [
    lambda text: b"\xef\xbb\xbf" + text.encode(), lambda text: text.replace("\n", "\r\n").encode(),
    lambda text: text.encode("latin-1"),
])  # fmt: skip
def test_byte_order_marks_line_ends_and_latin1(
    dataset: Path, add_echoes: AddEchoes, add: Add, encode: Callable[[str], bytes]
) -> None:
    add_echoes("sub-01/anat/sub-01")
    text = '{\n"EchoTime": 0.0101,\n"InstitutionName": "Universität"\n}\n'
    add("sub-01/anat/sub-01_echo-2_part-mag_MEGRE.json", encode(text))
    (unit,) = find_units(dataset)
    assert unit.echo_times_s == (0.004, 0.0101, 0.014)


def test_only_physics_is_kept(dataset: Path, add_echoes: AddEchoes) -> None:
    identity = ("PatientName", "PatientBirthDate", "AccessionNumber", "InstitutionName", "ProtocolName")
    more = dict.fromkeys((*identity, "AcquisitionDateTime", "SeriesDescription"), "C4NARY") | {
        "Manufacturer": "<b>C4NARY</b>", "ManufacturersModelName": "Prisma_fit", "FlipAngle": [12, 13],
        "Units": "rad\nC4NARY", "SliceThickness": {"PatientName": "C4NARY"},
    }  # fmt: skip
    add_echoes("sub-01/anat/sub-01", **more)
    (unit,) = find_units(dataset)
    for echo in unit.magnitude:
        assert echo.sidecar.keys() == {
            "EchoTime",
            "FlipAngle",
            "MagneticFieldStrength",
            "ManufacturersModelName",
        }
        assert echo.sidecar.keys() <= ALLOWED_SIDECAR_KEYS
        assert "C4NARY" not in repr(echo.sidecar)
