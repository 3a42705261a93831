"""What must not be pooled, or pass for something else, without a word: protocols, spellings, fields, lost markers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from r2star.errors import InputError, UsageError
from r2star.group.model import Outcome
from r2star.steps.group_gather import gather_units
from r2star.steps.group_inputs import read_inputs
from r2star.steps.group_people import People, read_people
from r2star.steps.group_visits import find_visits, lesion_volumes_ml

from .conftest import MODEL, Study

NORMS = """
name = "elsewhere"
outcome = "r2star_median_per_s"
source = "made up"
field_tesla = 7.0
[regions.putamen]
kind = "table"
ages_years = [20.0, 80.0]
values = [20.0, 40.0]
sd = 2.0
age_range_years = [20.0, 80.0]
"""


def _rename(study: Study, number: int, entity: str) -> None:
    """Give a unit a further entity, as a second image of the participant would have it."""
    marker, table = study.unit(number)
    content = json.loads(marker.read_text())
    key, label = entity.split("-")
    content["unit"] += f"_{entity}"
    content["entities"][key] = label
    marker.unlink()
    (marker.parent / f"{content['unit']}.json").write_text(json.dumps(content))
    assert table.is_file()


@pytest.mark.parametrize("entity", ["acq-fast", "ce-gadolinium", "rec-filtered"])
def test_images_of_another_kind_are_never_averaged(study: Study, entity: str) -> None:
    _rename(study, 3, entity)
    error = study.fails(UsageError, "E715")
    assert entity in str(error)
    assert ("outcome.acquisition" in error.fix) == entity.startswith("acq-")


def test_first_session_is_the_first_in_natural_order(study: Study) -> None:
    gathered = gather_units(study.output)
    one = gathered.units[0]
    units = tuple(
        one._replace(label=f"sub-0001_ses-{label}", entities={"sub": "0001", "ses": label})
        for label in ("10", "9")
    )
    visits = find_visits(gathered._replace(units=units), People((), {}, {}, ()), Outcome())
    assert visits.session[visits.baseline].tolist() == ["9"]


def test_units_come_in_natural_order(study: Study) -> None:
    for number, label in ((2, "sub-10"), (3, "sub-9")):
        marker, _ = study.unit(number)
        content = json.loads(marker.read_text())
        content["entities"]["sub"] = label.removeprefix("sub-")
        content["outputs"] = {}
        marker.write_text(json.dumps(content))
    reasons = [one.unit for one in gather_units(study.output).exclusions]
    assert reasons == ["sub-0003", "sub-0002"]


@pytest.mark.parametrize("other", ["Control", "HC"])
def test_controls_under_two_names_are_refused(study: Study, other: str) -> None:
    study.model.write_text(MODEL.replace('level = "control"', 'level = ["control", "HC"]'))
    study.set(4, "group", other)
    error = study.fails(InputError, "E716")
    assert f"{min(other, 'control')}, {max(other, 'control')}" in str(error)
    merge = f'kind = "category"\nmerge = {{ control = ["{other}"] }}\nrole'
    study.model.write_text(study.model.read_text().replace('kind = "category"\nrole', merge))
    study.run()
    row = next(row for row in study.rows() if row["term"] == "group")
    assert (row["n_reference"], row["n_patients"]) == ("12", "12")


@pytest.mark.parametrize("text", ["N/A", "NA", "nan", "-"])
def test_people_of_unknown_group_are_no_patients(study: Study, text: str) -> None:
    study.set(4, "group", text)
    outputs = study.run()
    assert {notice.code for notice in outputs.notices} == {"W706", "W709"}
    row = next(row for row in study.rows() if row["term"] == "group")
    assert (row["n_reference"], row["n_patients"]) == ("11", "12")


def test_two_spellings_of_a_level_are_told(study: Study) -> None:
    study.model.write_text(
        MODEL.replace("[columns.age]", '[columns.sex]\nkind = "category"\n[columns.age]')
        .replace('"age + group"', '"age + sex + group"')
    )  # fmt: skip
    column = 4
    study.edit(lambda rows: rows[3].__setitem__(rows[0].index("sex"), rows[3][column].capitalize()))
    told = {notice.code: notice.message for notice in study.run().notices}
    assert set(told) == {"W719"}
    assert "differ in case alone" in told["W719"]


@pytest.mark.parametrize(
    "other",
    [
        "c\N{CYRILLIC SMALL LETTER O}ntrol",
        "\N{FULLWIDTH LATIN SMALL LETTER C}ontrol",
        "CONTR\N{GREEK CAPITAL LETTER OMICRON}L",
    ],
)
def test_controls_under_a_name_that_looks_the_same_are_no_patients(study: Study, other: str) -> None:
    study.set(4, "group", other)
    error = study.fails(InputError, "E716")
    assert ascii(other) in str(error)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("HC-A", "H\N{CYRILLIC CAPITAL LETTER ES}-A"),
        ("early onset", "early\N{NO-BREAK SPACE}onset"),
        ("early onset", "early_onset"),
        ("RR-MS", "RR\N{EN DASH}MS"),
        ("é", "e\N{COMBINING ACUTE ACCENT}"),
    ],
)
def test_levels_that_look_the_same_are_told(study: Study, first: str, second: str) -> None:
    study.model.write_text(
        MODEL.replace("[columns.age]", '[columns.sex]\nkind = "category"\n[columns.age]')
        .replace('"age + group"', '"age + sex + group"')
    )  # fmt: skip

    def spell(rows: list[list[str]]) -> None:
        for number, row in enumerate(rows[1:]):
            row[rows[0].index("sex")] = (first, second, "other")[number % 3]

    study.edit(spell)
    (told,) = [notice.message for notice in study.run().notices if notice.code == "W719"]
    one, other = sorted((first, second))
    assert f"{one!a} and {other!a} look alike" in told


def _tell_unit(study: Study, number: int, unit: str | None) -> None:
    """A further map's column in a unit's region table, and what its sidecar says of it."""
    rows = study.unit(number)[1].read_text().splitlines()
    told = [f"{rows[0]}\tT1map_median", *(f"{row}\t{1 + number % 3}.5" for row in rows[1:])]
    study.rewrite(number, lambda _: "\n".join(told) + "\n")
    about = {"T1map_median": {"Description": "x"} | ({} if unit is None else {"Units": unit})}
    study.unit(number)[1].with_suffix(".json").write_text(json.dumps(about))


@pytest.mark.parametrize("other", ["s", "ms", None])
def test_an_outcome_in_two_units_is_refused(study: Study, other: str | None) -> None:
    study.model.write_text(MODEL.replace("[outcome]", '[outcome]\ncolumn = "T1map_median"'))
    for number in range(1, 25):
        _tell_unit(study, number, other if number == 5 else "s")
    if other == "s":
        study.run()
    else:
        error = str(study.fails(UsageError, "E723"))
        assert f"T1map_median is in {other or 'no unit'} in sub-0005, s in sub-0001" in error


def test_damaged_marker_is_an_exclusion(study: Study) -> None:
    marker, _ = study.unit(5)
    marker.write_text(marker.read_text()[:40])
    outputs = study.run()
    assert {row["unit"]: row["reason"] for row in study.rows("exclusions.tsv")} == {
        "sub-0005": "its marker is damaged"
    }
    assert "W701" in {notice.code for notice in outputs.notices}


def _forget_field(study: Study, *numbers: int) -> None:
    for number in numbers:
        study.rewrite(number, lambda text: text.replace("\t3\t6\tn/a\n", "\tn/a\t6\tn/a\n"))


def test_unknown_field_strength_is_told_and_gives_no_iron(study: Study) -> None:
    _forget_field(study, 2, 5)
    outputs = study.run(iron="gelman1999-hallgren1958")
    (told,) = [notice.message for notice in outputs.notices if notice.code == "W718"]
    assert "2 of 24 sessions is not known (sub-0002, sub-0005); they count as 3 T" in told
    rows = study.rows("regions.tsv")
    assert {row["iron_mg_per_kg"] for row in rows if row["participant_id"] in ("sub-0002", "sub-0005")} == {
        "n/a"
    }
    assert all(row["iron_mg_per_kg"] != "n/a" for row in rows
               if row["participant_id"] == "sub-0001" and row["region"] == "putamen")  # fmt: skip
    study.rewrite(7, lambda text: text.replace("\t3\t6\tn/a\n", "\t7\t6\tn/a\n"))
    told = [notice.message for notice in study.run(allow_mixed_field=True).notices if notice.code == "W718"]
    assert "they take no part in models" in told[0]


def test_norms_of_another_field_are_refused(study: Study) -> None:
    (study.bids / "norms.toml").write_text(NORMS)
    study.model.write_text(MODEL.replace("[outcome]", '[norms]\nfile = "norms.toml"\n[outcome]'))
    error = study.fails(UsageError, "E734")
    assert "norms at 7 T, data at 3 T" in str(error)
    (study.bids / "norms.toml").write_text(NORMS.replace("7.0", "3.0"))
    study.run()
    assert {row["norm"] for row in study.rows("zscores.tsv")} == {"elsewhere"}


def test_own_norms_tell_their_field(study: Study) -> None:
    study.run()
    assert "field_tesla = 3.0" in (study.output / "group" / "norms.toml").read_text()


def test_lesions_beyond_the_image_are_unknown_and_no_lesions_are_none(study: Study) -> None:
    def lesions(volume: str, coverage: str):  # type: ignore[no-untyped-def]
        def change(text: str) -> str:
            lines = [line.split("\t") for line in text.splitlines()]
            for cells in lines[1:]:
                if cells[lines[0].index("region")] == "lesions":
                    cells[lines[0].index("volume_mm3")] = volume
                    cells[lines[0].index("coverage")] = coverage
            return "\n".join("\t".join(cells) for cells in lines) + "\n"

        return change

    for number, (volume, coverage) in enumerate(
        (("0", "0"), ("0", "n/a"), ("500", "0.5"), ("500", "1")), start=1
    ):
        study.rewrite(number, lesions(volume, coverage))
    inputs = read_inputs(study.bids, study.output, study.model)
    found = lesion_volumes_ml(
        inputs.gathered, find_visits(inputs.gathered, inputs.people, inputs.model.models[0].outcome)
    )
    np.testing.assert_allclose(found[:4], [np.nan, 0.0, 1.0, 0.5])


def test_times_with_a_zone_do_not_stop_the_run(study: Study) -> None:
    path = study.bids / "sub-0001" / "sub-0001_sessions.tsv"
    path.write_text("session_id\tacq_time\nses-1\t2010-01-01T12:00:00+01:00\nses-2\t2012-01-01T12:00:00\n")
    cell = read_people(study.bids, ["0001"]).cell("0001", "2", "years_from_baseline")
    assert cell is not None
    assert float(cell.text) == pytest.approx(2, abs=0.01)


def test_tables_with_other_columns_are_gathered_with_na(study: Study) -> None:
    def widen(text: str) -> str:
        lines = text.splitlines()
        return "\n".join([f"{lines[0]}\tChimap_median", *(f"{line}\t0.1" for line in lines[1:])]) + "\n"

    study.rewrite(2, widen)
    study.run()
    cells = {row["participant_id"]: row["Chimap_median"] for row in study.rows("regions.tsv")}
    assert (cells["sub-0001"], cells["sub-0002"]) == ("n/a", "0.1")
