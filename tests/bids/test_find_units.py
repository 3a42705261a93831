"""Which units are found, in which order, and with which files."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r2star.bids.find import find_units
from r2star.bids.selection import read_filters
from r2star.errors import DatasetError, UsageError

Add = Callable[..., Path]
AddEchoes = Callable[..., None]


def codes(unit: object) -> set[str]:
    return {notice.code for notice in unit.notices}  # type: ignore[attr-defined]


def test_the_real_dataset_is_one_unit_without_t1w(shared_data: Path) -> None:
    (unit,) = find_units(shared_data / "real-2echo")
    assert unit.label == "sub-01"
    assert unit.echo_times_s == (0.00519, 0.00765)
    assert unit.field_strength_tesla == 3.0
    assert unit.problem is None
    assert unit.t1w is None
    assert codes(unit) == {"W207"}


def test_two_sessions_acquisitions_and_runs_are_eight_units(dataset: Path, add_echoes: AddEchoes) -> None:
    combinations = list(itertools.product(("1", "2"), ("a", "b"), ("1", "2")))
    for number, (session, acquisition, run) in enumerate(combinations):
        times = [0.004 + 0.0001 * number, 0.009 + 0.0001 * number]
        name = f"sub-01_ses-{session}_acq-{acquisition}_run-{run}"
        add_echoes(f"sub-01/ses-{session}/anat/{name}", times)
    units = find_units(dataset)
    assert [(unit.session, unit.acquisition, unit.run) for unit in units] == combinations
    for number, unit in enumerate(units):
        assert unit.echo_times_s == pytest.approx((0.004 + 0.0001 * number, 0.009 + 0.0001 * number))
        assert all(echo.path.name.startswith(unit.label + "_echo") for echo in unit.magnitude)


def test_reconstruction_and_contrast_agent_are_part_of_the_unit(dataset: Path, add_echoes: AddEchoes) -> None:
    for entities in ("", "_ce-gd", "_rec-a", "_rec-b"):
        add_echoes(f"sub-01/anat/sub-01{entities}")
    assert [unit.label for unit in find_units(dataset)] == [
        "sub-01", "sub-01_rec-a", "sub-01_rec-b", "sub-01_ce-gd",
    ]  # fmt: skip


def test_echoes_go_by_time_not_by_name(dataset: Path, add: Add) -> None:
    times = {1: 0.020, 2: 0.005, 10: 0.010}
    for number, time in random.Random(3).sample(sorted(times.items()), 3):
        add(f"sub-01/anat/sub-01_echo-{number}_part-mag_MEGRE.nii")
        add(f"sub-01/anat/sub-01_echo-{number}_part-mag_MEGRE.json", {"EchoTime": time})
    (unit,) = find_units(dataset)
    assert [echo.echo for echo in unit.magnitude] == [2, 10, 1]
    assert unit.echo_times_s == (0.005, 0.010, 0.020)


def test_labels_are_text_in_natural_order(dataset: Path, add_echoes: AddEchoes) -> None:
    for label in ("10", "9", "001", "1", "B2", "B10"):
        add_echoes(f"sub-{label}/anat/sub-{label}")
    assert [unit.participant for unit in find_units(dataset)] == ["001", "1", "9", "10", "B2", "B10"]


@pytest.mark.parametrize("label", ["02", "sub-02"])
def test_a_participant_is_named_with_or_without_its_key(
    dataset: Path, add_echoes: AddEchoes, label: str
) -> None:
    for name in ("01", "02"):
        add_echoes(f"sub-{name}/anat/sub-{name}")
    (unit,) = find_units(dataset, [label])
    assert unit.label == "sub-02"
    assert unit.named
    assert unit.magnitude == find_units(dataset)[1].magnitude


def test_only_the_named_participant_is_entered(
    dataset: Path, add_echoes: AddEchoes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        add_echoes(f"sub-{number:03}/anat/sub-{number:03}")
    entered = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: entered.append(Path(folder)) or scandir(folder))
    find_units(dataset, ["007"])
    assert {folder.relative_to(dataset).parts[0] for folder in entered if folder != dataset} == {"sub-007"}
    assert len(entered) < 10


def test_an_absent_participant_is_refused_with_near_names(dataset: Path, add_echoes: AddEchoes) -> None:
    for label in ("001", "002", "099"):
        add_echoes(f"sub-{label}/anat/sub-{label}")
    with pytest.raises(UsageError, match=r"no participant sub-99.*sub-099") as caught:
        find_units(dataset, ["002", "99"])
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("label", ["$(touch pwn)", "../01", "01;ls", "", "0 1"])
def test_a_participant_label_with_other_characters_is_refused(
    dataset: Path, add_echoes: AddEchoes, label: str
) -> None:
    add_echoes("sub-01/anat/sub-01")
    with pytest.raises(UsageError, match="no participant label"):
        find_units(dataset, [label])


def test_a_folder_whose_label_is_not_bids_fails_alone(dataset: Path, add_echoes: AddEchoes) -> None:
    add_echoes("sub-01/anat/sub-01")
    add_echoes("sub-$(touch pwn)/anat/sub-$(touch pwn)")
    good, bad = find_units(dataset)
    assert bad.problem is not None
    assert bad.problem.code == "E217"
    assert not bad.skipped
    assert good.problem is None


def test_an_empty_folder_is_no_dataset(dataset: Path) -> None:
    with pytest.raises(DatasetError, match=r"no sub-\* folder") as caught:
        find_units(dataset)
    assert caught.value.exit_code == 3


def test_a_dataset_without_any_megre_is_refused(dataset: Path, add: Add) -> None:
    add("sub-01/anat/sub-01_T1w.nii.gz")
    with pytest.raises(DatasetError, match="1 participants and no MEGRE"):
        find_units(dataset)


def test_an_absent_dataset_is_a_usage_error(dataset: Path, add: Add) -> None:
    with pytest.raises(UsageError, match="no such file or directory"):
        find_units(dataset / "absent")
    with pytest.raises(UsageError, match="not a directory"):
        find_units(dataset / "dataset_description.json")


def test_a_participant_without_megre_is_skipped_if_found_and_an_error_if_named(
    dataset: Path, add: Add, add_echoes: AddEchoes
) -> None:
    add("sub-01/anat/sub-01_T1w.nii.gz")
    add_echoes("sub-02/anat/sub-02")
    found, other = find_units(dataset)
    assert found.problem is not None
    assert found.problem.code == "E218"
    assert found.skipped
    assert other.problem is None
    (named,) = find_units(dataset, ["01"])
    assert named.problem is not None
    assert not named.skipped


def test_sessions_are_chosen_by_label(dataset: Path, add_echoes: AddEchoes, add: Add) -> None:
    for participant, session in (("01", "1"), ("01", "2"), ("02", "1")):
        add_echoes(f"sub-{participant}/ses-{session}/anat/sub-{participant}_ses-{session}")
    add("sub-01/ses-3/anat/sub-01_ses-3_T1w.nii.gz")
    assert [unit.label for unit in find_units(dataset, session_labels=["ses-2"])] == ["sub-01_ses-2"]
    first, second, third = find_units(dataset, ["01"])
    assert third.skipped, "a session without MEGRE is no error where only the participant was named"
    assert not first.skipped
    assert second.t1w == dataset / "sub-01/ses-3/anat/sub-01_ses-3_T1w.nii.gz"
    (named,) = find_units(dataset, ["01"], ["3"])
    assert named.problem is not None
    assert not named.skipped
    *_, present, absent = find_units(dataset, ["02", "01"], ["2", "1"])
    assert present.problem is None
    assert absent.problem is not None
    assert absent.label == "sub-02_ses-2"
    with pytest.raises(UsageError, match="no session ses-4"):
        find_units(dataset, session_labels=["4"])


def test_t1w_comes_from_the_session_then_from_the_participant(
    dataset: Path, add_echoes: AddEchoes, add: Add
) -> None:
    for session in ("1", "2", "3"):
        add_echoes(f"sub-01/ses-{session}/anat/sub-01_ses-{session}")
    for name in ("ses-2/anat/sub-01_ses-2_run-2_T1w", "ses-2/anat/sub-01_ses-2_run-10_T1w",
                 "ses-3/anat/sub-01_ses-3_part-phase_T1w", "ses-3/anat/sub-01_ses-3_T1w"):  # fmt: skip
        add(f"sub-01/{name}.nii.gz")
    units = find_units(dataset, anatomical_reference="sessionwise")
    assert [unit.t1w.name if unit.t1w else None for unit in units] == [
        "sub-01_ses-2_run-2_T1w.nii.gz",
        "sub-01_ses-2_run-2_T1w.nii.gz",
        "sub-01_ses-3_T1w.nii.gz",
    ]
    assert tuple(map(codes, units)) == ({"W205", "W206"}, {"W205"}, set())
    shared = find_units(dataset)
    assert {unit.t1w.name for unit in shared if unit.t1w} == {"sub-01_ses-2_run-2_T1w.nii.gz"}
    assert tuple(map(codes, shared)) == ({"W205", "W206"}, {"W205"}, {"W205"})
    (alone,) = find_units(dataset, session_labels=["3"])
    assert alone.t1w == shared[0].t1w
    (chosen,) = find_units(dataset, session_labels=["1"], filters={"t1w": {"session": "3"}})
    assert chosen.t1w is not None
    assert chosen.t1w.name == "sub-01_ses-3_T1w.nii.gz"


def test_without_a_t1w_the_first_session_places_the_others_whichever_are_asked_for(
    dataset: Path, add_echoes: AddEchoes, add: Add
) -> None:
    for name in ("ses-1/anat/sub-01_ses-1", "ses-2/anat/sub-01_ses-2_acq-a", "ses-2/anat/sub-01_ses-2",
                 "ses-10/anat/sub-01_ses-10_run-1", "ses-10/anat/sub-01_ses-10_run-2"):  # fmt: skip
        add_echoes(f"sub-01/{name}")
    add_echoes("sub-01/ses-1/anat/sub-01_ses-1", part="phase")
    units = {unit.label: unit for unit in find_units(dataset)}
    shared = {label: unit.reference.label if unit.reference else None for label, unit in units.items()}
    assert shared == {
        "sub-01_ses-1": "sub-01_ses-1",
        "sub-01_ses-2_acq-a": None,  # of another contrast, and no other session has it
        "sub-01_ses-2": "sub-01_ses-1",
        "sub-01_ses-10_run-1": "sub-01_ses-1",
        "sub-01_ses-10_run-2": "sub-01_ses-1",
    }
    first, second = units["sub-01_ses-1"], units["sub-01_ses-2"]
    assert (first.is_reference, second.is_reference) == (True, False)
    assert set(first.files) == set(first.without_anatomy().files), "it reads nothing but its own files"
    assert {path.name.split("_")[1] for path in second.files} == {"ses-1", "ses-2"}
    assert not [path for path in second.files if "phase" in path.name]
    assert {path.name.split("_")[1] for path in second.without_anatomy().files} == {"ses-2"}
    assert [one.message for one in second.notices] == [
        "no T1w: the MEGRE of sub-01_ses-1 stands in its place"
    ]
    (alone,) = find_units(dataset, session_labels=["2"], filters={"megre": {"acquisition": None}})
    assert alone.reference == second.reference
    assert not any(unit.reference for unit in find_units(dataset, anatomical_reference="sessionwise"))
    add("sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz")
    assert not any(unit.reference for unit in find_units(dataset))


def test_lesions_that_may_pull_a_t1w_are_those_of_its_session_whichever_are_asked_for(
    dataset: Path, add_echoes: AddEchoes, add: Add
) -> None:
    for session in ("1", "2", "3"):
        add_echoes(f"sub-01/ses-{session}/anat/sub-01_ses-{session}")
    for session in ("2", "3"):
        add(f"sub-01/ses-{session}/anat/sub-01_ses-{session}_T1w.nii.gz")

    def whose(**options: Any) -> list[str | None]:
        units = find_units(dataset, **options)
        return [unit.lesioned.label if unit.lesioned else None for unit in units]

    assert whose(lesions=True) == ["sub-01_ses-2"] * 3
    assert whose(lesions=True, session_labels=["3"]) == ["sub-01_ses-2"]
    by_session = ["sub-01_ses-2", "sub-01_ses-2", "sub-01_ses-3"]
    assert whose(lesions=True, anatomical_reference="sessionwise") == by_session
    assert whose() == [None] * 3
    (unit,) = find_units(dataset, session_labels=["3"], lesions=True)
    assert {path.name.split("_")[1] for path in unit.files} == {"ses-2", "ses-3"}


def test_a_session_that_cannot_run_places_no_other(dataset: Path, add_echoes: AddEchoes, add: Add) -> None:
    for session in ("1", "2", "3"):
        add_echoes(f"sub-01/ses-{session}/anat/sub-01_ses-{session}")
    add("sub-01/ses-1/anat/sub-01_ses-1_echo-1_part-mag_MEGRE.json", "{")
    bad, *others = find_units(dataset)
    assert bad.problem is not None
    assert bad.reference is None
    assert {unit.reference.label for unit in others if unit.reference} == {"sub-01_ses-2"}
    (dataset / "sub-01/ses-3").rename(dataset / "ses-3")
    assert [unit.reference for unit in find_units(dataset)] == [None, None]


def test_a_t1w_beside_the_sessions_serves_them_and_is_no_session(
    dataset: Path, add_echoes: AddEchoes, add: Add
) -> None:
    add_echoes("sub-01/ses-1/anat/sub-01_ses-1")
    t1w = add("sub-01/anat/sub-01_T1w.nii.gz")
    (unit,) = find_units(dataset)
    assert (unit.label, unit.t1w) == ("sub-01_ses-1", t1w)
    add_echoes("sub-01/anat/sub-01")
    assert [unit.label for unit in find_units(dataset)] == ["sub-01", "sub-01_ses-1"]


def test_a_folder_that_cannot_be_read_fails_its_participant_alone(
    dataset: Path, add_echoes: AddEchoes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("01", "02"):
        add_echoes(f"sub-{label}/anat/sub-{label}")
    scandir = os.scandir

    def refuse(folder: str | Path) -> Any:
        if "sub-01" in str(folder):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    bad, good = find_units(dataset)
    assert "Permission denied" in str(bad.problem)
    assert (bad.label, bad.skipped, good.problem) == ("sub-01", False, None)


def test_a_relative_path_gives_absolute_files(
    dataset: Path, add_echoes: AddEchoes, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_echoes("sub-01/anat/sub-01")
    monkeypatch.chdir(dataset.parent)
    assert find_units(Path(dataset.name)) == find_units(dataset)


def test_phase_and_complex_parts_are_found(dataset: Path, add_echoes: AddEchoes) -> None:
    for part in ("mag", "phase"):
        add_echoes("sub-01/anat/sub-01", part=part)
    for part in ("real", "imag"):
        add_echoes("sub-02/anat/sub-02", part=part)
    first, second = find_units(dataset)
    assert (len(first.magnitude), len(first.phase)) == (3, 3)
    assert (len(second.magnitude), len(second.real), len(second.imaginary)) == (0, 3, 3)
    assert second.echo_times_s == (0.004, 0.009, 0.014)
    assert second.problem is None


def test_what_systems_leave_behind_is_ignored(dataset: Path, add_echoes: AddEchoes, add: Add) -> None:
    add_echoes("sub-01/anat/sub-01")
    before = find_units(dataset)
    for name in ("._sub-01_echo-1_part-mag_MEGRE.nii.gz", ".DS_Store", "Thumbs.db", "._sub-01_MEGRE.json"):
        add(f"sub-01/anat/{name}")
    add("._sub-02")
    assert find_units(dataset) == before


def test_filters_choose_files_by_entities(dataset: Path, add_echoes: AddEchoes, add: Add) -> None:
    for acquisition in ("a", "b"):
        add_echoes(f"sub-01/anat/sub-01_acq-{acquisition}_run-01")
    for name in ("sub-01_run-1_T1w", "sub-01_rec-norm_T1w"):
        add(f"sub-01/anat/{name}.nii.gz")
    filters = {"megre": {"acquisition": "b", "run": 1}, "t1w": {"reconstruction": "*"}, "bold": {"x": []}}
    (unit,) = find_units(dataset, filters=filters)
    assert unit.label == "sub-01_acq-b_run-01"
    assert unit.t1w is not None
    assert unit.t1w.name == "sub-01_rec-norm_T1w.nii.gz"
    (unit,) = find_units(
        dataset, filters={"megre": {"acquisition": ["a", "c"]}, "t1w": {"reconstruction": None}}
    )
    assert unit.t1w is not None
    assert (unit.acquisition, unit.t1w.name) == ("a", "sub-01_run-1_T1w.nii.gz")
    with pytest.raises(DatasetError, match="filter file"):
        find_units(dataset, filters={"megre": {"acquisition": None}})


@pytest.mark.parametrize(
    ("filters", "message"),
    [({"mgre": {}}, "unknown query"), ({"t1w": {"sesion": "1"}}, "such as session"),
     ({"t1w": []}, "no entities"), ({"megre": {"run": 1.5}}, "run is 1.5")],
)  # fmt: skip
def test_filters_with_mistakes_are_refused(dataset: Path, filters: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_units(dataset, filters=filters)  # type: ignore[arg-type]


def test_a_filter_file_is_read_with_its_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "filter.json"
    path.write_bytes(b'\xef\xbb\xbf{"megre": {"session": ["1", null]}, "bold": {"task": "rest"}}')
    assert read_filters(path) == {"megre": {"session": ["1", None]}}


@pytest.mark.parametrize(
    ("text", "words"), [('{"megre": ', "line 1"), ("[]", "no JSON object"), (None, "can't be")]
)
def test_a_filter_file_that_cannot_be_read_is_a_usage_error(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "filter.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        read_filters(path)
    assert (caught.value.exit_code, caught.value.code, caught.value.path) == (2, "E506", str(path))
