"""Markers, failure records and the status table made from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r2star.errors import InputError, Notice
from r2star.files import sha256_of
from r2star.runs import records, status


def make_marker(root: Path, unit: str = "sub-01", **changes: object) -> records.Marker:
    out = root / unit / "anat" / f"{unit}_R2starmap.nii.gz"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(b"voxels")
    values = {
        "unit": unit,
        "entities": {"sub": unit[4:]},
        "state": "ok_warn",
        "version": "0",
        "settings": {"fit_method": "arlo"},
        "settings_sha256": "k",
        "inputs": {},
        "outputs": {str(out.relative_to(root)): sha256_of(out)},
        "notices": (Notice("W202", "no field").as_dict(), Notice("W101", "bytes").as_dict()),
        "timing": {"total_s": 1.25},
    }
    return records.Marker(**(values | changes))


def test_a_marker_comes_back_as_it_was_written(tmp_path: Path) -> None:
    marker = make_marker(tmp_path)
    records.write_marker(tmp_path, marker)
    back = records.read_marker(tmp_path, "sub-01")
    assert back is not None
    assert (back.outputs, back.settings, back.timing) == (marker.outputs, marker.settings, marker.timing)
    assert records.read_marker(tmp_path, "sub-02") is None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"unit": "sub-01"}'])
def test_a_damaged_marker_is_no_marker(tmp_path: Path, damage: str) -> None:
    path = records.write_marker(tmp_path, make_marker(tmp_path))
    path.write_text(damage)
    assert records.read_marker(tmp_path, "sub-01") is None
    assert records.read_markers(tmp_path) == []


def test_every_changed_or_lost_output_is_named(tmp_path: Path) -> None:
    marker = make_marker(tmp_path)
    (name,) = marker.outputs
    assert records.changed_outputs(tmp_path, marker) == []
    (tmp_path / name).write_bytes(b"voxelz")
    assert records.changed_outputs(tmp_path, marker) == [name]
    (tmp_path / name).unlink()
    assert records.changed_outputs(tmp_path, marker) == [name]


def test_inputs_that_came_went_or_changed_are_named(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("2")
    marker = make_marker(tmp_path, inputs={"a": sha256_of(one), "b": sha256_of(two)})
    assert records.changed_inputs(marker, {"a": one, "b": two}) == []
    assert records.changed_inputs(marker, {"a": two, "b": two}) == ["a"]
    assert records.changed_inputs(marker, {"a": one}) == ["b"]
    assert records.changed_inputs(marker, {"a": one, "b": two, "c": one}) == ["c"]


def test_status_has_a_row_a_unit_and_a_completed_unit_loses_its_failure(tmp_path: Path) -> None:
    error = InputError(
        "E109", "cut off", "more bytes are needed", "copy it again", path="x\ty.nii.gz", unit="sub-01"
    )
    records.record_failure(tmp_path, "sub-01", error, seconds=2.0)
    records.record_failure(tmp_path, "sub-02", error, state="skipped")
    lines = status.write_status(tmp_path).read_text().splitlines()
    assert lines[0].split("\t") == list(status.STATUS_COLUMNS)
    assert lines[1].split("\t") == [
        "sub-01",
        "failed_input",
        "R2S-E109",
        "x y.nii.gz",
        "cut off, more bytes are needed",
        "copy it again",
        "n/a",
        "2.0",
    ]
    assert lines[2].split("\t")[:2] == ["sub-02", "skipped"]
    records.write_marker(tmp_path, make_marker(tmp_path))
    lines = status.write_status(tmp_path).read_text().splitlines()
    assert lines[1].split("\t") == ["sub-01", "ok_warn", "n/a", "n/a", "n/a", "n/a", "W101;W202", "1.2"]
    assert len(lines) == 3
    assert not list(records.failures_folder(tmp_path).glob("sub-01*"))


def test_the_same_marker_gives_the_same_bytes(tmp_path: Path) -> None:
    first = records.write_marker(tmp_path, make_marker(tmp_path)).read_bytes()
    assert records.write_marker(tmp_path, make_marker(tmp_path)).read_bytes() == first
    assert json.loads(first)["unit"] == "sub-01"


def test_renewing_some_rows_leaves_the_others_and_reads_what_the_table_lacks(tmp_path: Path) -> None:
    for unit in ("sub-01", "sub-02", "sub-03"):
        records.write_marker(tmp_path, make_marker(tmp_path, unit))
    status.write_status(tmp_path)
    for unit in ("sub-01", "sub-02"):  # other results since; only one of them is told of
        records.write_marker(tmp_path, make_marker(tmp_path, unit, timing={"total_s": 7.0}))
    records.record_failure(tmp_path, "sub-00", InputError("E109", "cut off", unit="sub-00"))
    status.write_status(tmp_path, {"sub-02"})
    seconds = {unit: row["seconds"] for unit, row in status.read_status(tmp_path).items()}
    assert seconds == {"sub-00": "0.0", "sub-01": "1.2", "sub-02": "7.0", "sub-03": "1.2"}


def test_a_row_that_contradicts_the_records_is_read_again(tmp_path: Path) -> None:
    records.record_failure(tmp_path, "sub-01", InputError("E109", "cut off", unit="sub-01"))
    status.write_status(tmp_path)
    records.write_marker(tmp_path, make_marker(tmp_path))
    status.write_status(tmp_path, ())
    assert status.read_status(tmp_path)["sub-01"]["state"] == "ok_warn"
    records.begin_unit(tmp_path, "sub-01")
    status.write_status(tmp_path, ())
    assert status.read_status(tmp_path) == {}


def test_one_record_tells_the_kind_of_all_results(tmp_path: Path) -> None:
    for unit in ("sub-01", "sub-02"):
        records.write_marker(tmp_path, make_marker(tmp_path, unit))
    (kind,) = records.kinds_of_results(tmp_path)
    assert (kind.version, kind.settings_sha256, kind.settings) == ("0", "k", {"fit_method": "arlo"})
    other = {"settings_sha256": "l", "settings": {"fit_method": "rician"}}
    records.write_marker(tmp_path, make_marker(tmp_path, "sub-02", **other))
    assert {kind.settings_sha256 for kind in records.kinds_of_results(tmp_path)} == {"k", "l"}
    records.write_marker(tmp_path, make_marker(tmp_path, "sub-01", **other))
    assert [kind.settings_sha256 for kind in records.kinds_of_results(tmp_path)] == ["l"]
    for path in records.kinds_folder(tmp_path).iterdir():
        path.write_text("{")
    assert [kind.settings_sha256 for kind in records.kinds_of_results(tmp_path)] == ["l"]
    records.begin_unit(tmp_path, "sub-01")
    records.begin_unit(tmp_path, "sub-02")
    assert records.kinds_of_results(tmp_path) == []


def test_every_folder_of_records_is_swept_and_no_link_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for folder in ("units", "reports", "of a later version"):
        (tmp_path / "out/logs" / folder).mkdir(parents=True)
    (tmp_path / "out/logs/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out/logs/root_files.json").write_text("{}")
    names = [path.name for path in records.record_folders(tmp_path / "out")]
    assert names == ["out", "logs", "of a later version", "reports", "units"]
    assert records.record_folders(tmp_path / "nothing yet") == (
        tmp_path / "nothing yet",
        tmp_path / "nothing yet/logs",
    )
