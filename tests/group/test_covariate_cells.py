"""One cell of a table at a time: a number, missing, capped, or an error; never a silent NaN. And blood, end to end."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2star.errors import InputError
from r2star.group.ages import is_age_column, shown_age
from r2star.settings import GroupOptions
from r2star.simulate.cohort import simulate_cohort
from r2star.simulate.truth import REGIONS
from r2star.steps.cohort import write_cohort
from r2star.steps.group import analyse_group
from r2star.steps.group_people import Cell, parse_number, read_people

ODD = ["n/a", "89+", ">89", "≥ 90", "34,5", "1e400", "１２", "0x10", "1_000"]


@given(st.one_of(st.text(max_size=12), st.floats().map(repr), st.sampled_from(ODD)))
def test_any_cell_is_a_number_or_is_told(text: str) -> None:
    try:
        value, notice = parse_number(Cell(text, "participants.tsv", 4), "weight")
    except InputError as error:
        told = error.code, "row 4, column weight" in str(error)
        assert told == ("E706", True)
        return
    assert math.isfinite(value) or text == "n/a" or notice is not None
    if notice is None and text != "n/a":
        assert value == float(text)


@pytest.mark.parametrize("text", ["1984", "-3", "126", "1e400"])
def test_ages_that_nobody_has_are_errors(text: str) -> None:
    with pytest.raises(InputError, match="an age in years"):
        parse_number(Cell(text, "participants.tsv", 2), "age")


@pytest.mark.parametrize(
    ("text", "shown"),
    [("89", "89"), ("89.1", "89+"), ("120", "89+"), ("90+", "89+"), (">89", "89+"), ("45+", "45+"), ("", "")],
)
def test_what_is_shown_of_an_age(text: str, shown: str) -> None:
    assert shown_age(text) == shown


def test_columns_that_hold_ages() -> None:
    names = [
        "age",
        "Age",
        "age_years",
        "age_at_scan",
        "onset_age",
        "onset_age_years",
        "stage",
        "average",
        "agency",
    ]
    assert [is_age_column(name) for name in names] == [True] * 6 + [False] * 3


def test_times_become_years_and_are_not_passed_on(tmp_path: Path) -> None:
    folder = tmp_path / "sub-01"
    folder.mkdir()
    (tmp_path / "participants.tsv").write_text("participant_id\tage\tbirth_date\nsub-01\t40\t1969-01-01\n")
    (folder / "sub-01_sessions.tsv").write_text(
        "session_id\tacq_time\tedss\nses-b\t2012-01-01T12:00:00\t3\nses-a\t2010-01-01T12:00:00\t2\n"
    )
    people = read_people(tmp_path, ["01"])
    years = {session: people.cell("01", session, "years_from_baseline") for session in "ab"}
    assert [float(cell.text) for cell in years.values() if cell] == pytest.approx([0, 2], abs=0.005)
    assert people.columns == ("age", "edss", "years_from_baseline")
    edss = people.cell("01", "b", "edss")
    assert edss is not None
    assert (edss.text, edss.row) == ("3", 2)


def test_planted_effect_of_ferritin_is_found_by_the_blood_model(tmp_path: Path) -> None:
    planted = dict(REGIONS) | {"putamen": replace(REGIONS["putamen"], per_sd_of_log_ferritin=1.0)}
    cohort = simulate_cohort(21, n_controls=250, n_patients=250, regions=planted)
    paths = write_cohort(cohort, tmp_path)
    outputs = analyse_group(paths.bids_dir, paths.output_dir, figures=False)
    sd = np.log(cohort.participants["ferritin_ug_per_l"]).std(ddof=1)
    (result,) = [one for one in outputs.results if one.spec.name == "blood"]
    tested = [
        row for row in result.rows if row["model"] == "blood" and row["term"] == "log(ferritin_ug_per_l)"
    ]
    rows = {row["region"]: row for row in tested}
    putamen, pallidum = rows["putamen"], rows["pallidum"]
    assert abs(putamen["estimate"] - 1.0 / sd) < 3 * putamen["se"]
    assert putamen["p_adjusted"] < 0.01
    assert abs(pallidum["estimate"]) < 3 * pallidum["se"]
    assert putamen["unit"] == "1/s per log(ug/L)"


def test_strict_has_nothing_to_say_of_a_clean_cohort(tmp_path: Path) -> None:
    paths = write_cohort(simulate_cohort(3, n_controls=25, n_patients=25, n_sites=2), tmp_path)
    assert (
        analyse_group(paths.bids_dir, paths.output_dir, GroupOptions(strict=True), figures=False).notices
        == ()
    )
