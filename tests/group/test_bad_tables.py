"""Tables as people really have them: each fault is told with its file and row, and nothing wrong gets into a number."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from r2star.cli.group import run_group
from r2star.errors import DatasetError, EnvironmentFault, InputError, UsageError
from r2star.settings import GroupOptions

from .conftest import MODEL, Study


def _estimate(study: Study, **options: object) -> dict[str, str]:
    study.run(**options)
    return next(row for row in study.rows() if row["term"] == "group")


def test_duplicate_participant_with_another_age_is_told_with_both_rows(study: Study) -> None:
    study.edit(lambda rows: rows.append([*rows[4][:3], "99", *rows[4][4:]]))
    error = study.fails(InputError, "E705")
    assert "rows 5 and 26 are both participant 0004" in str(error)
    assert error.path == str(study.table)


def test_duplicate_participant_that_is_the_same_changes_nothing(study: Study) -> None:
    before = _estimate(study)
    study.edit(lambda rows: rows.append(list(rows[4])))
    assert _estimate(study) == before


def test_decimal_comma_is_an_error_with_its_row(study: Study) -> None:
    study.set(7, "age", "34,5")
    error = study.fails(InputError, "E706")
    assert "row 7, column age: '34,5', a number with a decimal point" in str(error)


@pytest.mark.parametrize("unit", ["months", "days", "Month"])
def test_ages_in_another_unit_are_refused(study: Study, unit: str) -> None:
    study.table.with_suffix(".json").write_text(json.dumps({"age": {"Units": unit}}))
    error = study.fails(InputError, "E706")
    assert f"column age is in {unit!r} by participants.json" in str(error)


@pytest.mark.parametrize("about", [{"Units": "Years"}, {"Units": "yr."}, {}, "in years", {"Units": ""}])
def test_ages_in_years_or_without_a_unit_are_taken(study: Study, about: object) -> None:
    before = _estimate(study)
    months = {"Units": "months"}
    study.table.with_suffix(".json").write_text(json.dumps({"age": about, "age_at_onset": months}))
    assert _estimate(study) == before


def test_capped_age_counts_at_its_cap_with_a_warning(study: Study) -> None:
    study.set(7, "age", "89")
    plain = _estimate(study)
    study.set(7, "age", "89+")
    outputs = study.run()
    assert next(row for row in study.rows() if row["term"] == "group") == plain
    (notice,) = [notice for notice in outputs.notices if notice.code == "W705"]
    assert "row 7, column age: '89+'" in notice.message


@pytest.mark.parametrize(("text", "warned"), [("n/a", False), ("", True), ("NA", True), ("NaN", True)])
def test_missing_age_leaves_the_row_out_and_only_na_does_so_in_silence(
    study: Study, text: str, warned: bool
) -> None:
    study.set(7, "age", text)
    outputs = study.run()
    row = next(row for row in study.rows() if row["term"] == "group")
    assert (row["n"], row["n_missing"]) == ("23", "1")
    assert [notice.code for notice in outputs.notices] == ["W706"] * warned


FERRITIN = MODEL.replace("[columns.age]", "[columns.ferritin_ug_per_l]\n[columns.age]").replace(
    '"age + group"', '"age + ferritin_ug_per_l + group"'
)


@pytest.mark.parametrize("code", ["-9", "-99.0", "-999", "-888"])
def test_a_code_for_what_is_not_known_is_no_number(study: Study, code: str) -> None:
    study.model.write_text(FERRITIN)
    study.set(5, "ferritin_ug_per_l", code)
    error = study.fails(InputError, "E706")
    assert f"row 5, column ferritin_ug_per_l: '{code}' looks like a code for what is not known" in str(error)
    assert error.path == str(study.table)


@pytest.mark.parametrize("code", ["9999", "99999", "8888.0"])
def test_a_number_that_may_be_a_code_is_told(study: Study, code: str) -> None:
    study.model.write_text(FERRITIN)
    study.set(5, "ferritin_ug_per_l", code)
    (told,) = study.run().notices
    assert (told.code, told.path) == ("W720", str(study.table))
    assert f"row 5, column ferritin_ug_per_l: '{code}'" in told.message


def test_numbers_among_their_like_are_no_codes(study: Study) -> None:
    study.model.write_text(FERRITIN)
    for row, text in ((5, "99"), (6, "77"), (7, "-9"), (8, "-3.5")):
        study.set(row, "ferritin_ug_per_l", text)
    assert study.run().notices == ()


def test_old_age_is_shown_as_89_plus_and_modelled_as_it_is(study: Study) -> None:
    study.set(7, "age", "92.5")
    with_92 = _estimate(study)
    for path in (study.output / "group").rglob("*"):
        if path.is_file():
            assert b"92.5" not in path.read_bytes(), path
    assert any(row["age"] == "89+" for row in study.rows("regions.tsv"))
    study.set(7, "age", "89")
    assert _estimate(study)["estimate"] != with_92["estimate"]


def test_byte_order_mark_and_windows_line_ends_change_nothing(study: Study) -> None:
    before = _estimate(study)
    study.table.write_bytes(b"\xef\xbb\xbf" + study.table.read_bytes().replace(b"\n", b"\r\n"))
    assert _estimate(study) == before


@pytest.mark.parametrize(
    "level",
    ["control\u200b", "\ufeffcontrol", "con\u00adtrol", "control\u00a0", "\x0bcontrol"],
)
def test_letters_that_nobody_sees_make_no_patient(study: Study, level: str) -> None:
    before = _estimate(study)
    study.set(2, "group", level)
    assert _estimate(study) == before


@pytest.mark.parametrize("level", ['"control"', "'control'", "“control”", '"'])
def test_a_level_in_quotation_marks_is_an_error_and_no_patient(study: Study, level: str) -> None:
    study.set(7, "group", level)
    error = study.fails(InputError, "E706")
    assert f"row 7, column group: {level!r}, text without quotation marks" in str(error)
    assert error.path == str(study.table)


def test_order_of_rows_means_nothing(study: Study) -> None:
    before = _estimate(study)
    study.edit(lambda rows: rows.__setitem__(slice(1, None), rows[:0:-1]))
    assert _estimate(study) == before


def test_labels_stay_text(study: Study) -> None:
    labels = ["001", "NA", "1e5", "01", "1", "nan", "007", "None"]
    for number, label in enumerate(labels, start=1):
        marker, table = study.unit(number)
        old = f"sub-{number:04d}"
        folder = study.output / f"sub-{label}" / "anat"
        folder.mkdir(parents=True)
        new = folder / table.name.replace(old, f"sub-{label}")
        new.write_text(table.read_text().replace(old, f"sub-{label}"))
        content = json.loads(marker.read_text().replace(old, f"sub-{label}")) | {"entities": {"sub": label}}
        content["outputs"] = {
            str(new.relative_to(study.output)): hashlib.sha256(new.read_bytes()).hexdigest()
        }
        marker.unlink()
        marker.with_name(f"sub-{label}.json").write_text(json.dumps(content))
        study.edit(
            lambda rows, old=old, label=label: [r.__setitem__(0, f"sub-{label}") for r in rows if r[0] == old]
        )
    study.run()
    shown = {row["participant_id"] for row in study.rows("regions.tsv")}
    assert {f"sub-{label}" for label in labels} <= shown
    assert len(shown) == 24
    assert next(row for row in study.rows() if row["term"] == "group")["n"] == "24"


def test_text_is_written_as_it_was_read(study: Study) -> None:
    hostile = '=HYPERLINK("http://x")'
    study.set(5, "site", hostile)
    study.run()
    assert {row["site"] for row in study.rows("regions.tsv") if row["participant_id"] == "sub-0004"} == {
        hostile
    }


def test_missing_participants_table_still_gathers(study: Study) -> None:
    study.table.unlink()
    outputs = study.run(model_file=None)
    assert "W703" in {notice.code for notice in outputs.notices}
    assert outputs.results == ()
    assert len(study.rows("regions.tsv")) == 24 * 8 * 3


def test_people_without_row_and_rows_without_people_are_told(study: Study) -> None:
    study.edit(lambda rows: rows.pop(3))
    study.edit(lambda rows: rows.append(["sub-9999", *rows[5][1:]]))
    outputs = study.run()
    told = {(notice.code, notice.message.split()[0]) for notice in outputs.notices}
    assert {("W704", "sub-0003"), ("W707", "sub-9999"), ("W709", "sub-0003")} <= told
    assert next(row for row in study.rows() if row["term"] == "group")["n"] == "23"


def test_ragged_row_is_told(study: Study) -> None:
    study.edit(lambda rows: rows[8].pop())
    error = study.fails(InputError, "E705")
    assert "row 9 has 15 cells, row 1 has 16" in str(error)


@pytest.mark.parametrize(
    ("column", "text"), [("group", "con\x00trol"), ("age", "3\x7f4"), ("sex", "\x1b[1mF")]
)
def test_control_characters_are_told_with_their_row(study: Study, column: str, text: str) -> None:
    study.set(7, column, text)
    assert "row 7 holds control characters" in str(study.fails(InputError, "E705"))


def test_latin_1_is_told_with_its_row(study: Study) -> None:
    study.table.write_bytes(study.table.read_bytes().replace(b"site01", "Zürich".encode("latin-1")))
    assert "is not UTF-8" in str(study.fails(InputError, "E705"))


def test_mixed_field_strengths_are_refused_unless_asked_for(study: Study) -> None:
    for number in (*range(1, 5), *range(13, 17)):
        study.rewrite(number, lambda text: text.replace("\t3\t6\tn/a\n", "\t7\t6\tn/a\n"))
    error = study.fails(InputError, "E721")
    assert "3 T, 7 T" in str(error)
    assert "--allow-mixed-field" in error.fix
    study.run(allow_mixed_field=True)
    apart = {row["model"]: row["n"] for row in study.rows() if row["term"] == "group"}
    assert apart == {"group@3T": "16", "group@7T": "8"}
    study.model.write_text(MODEL.replace('"age + group"', '"age + field_strength_tesla + group"').replace(
        "[columns.age]", '[columns.field_strength_tesla]\nkind = "category"\n[columns.age]'))  # fmt: skip
    study.run()
    assert {row["model"]: row["n"] for row in study.rows() if row["term"] == "group"} == {"group": "24"}


def test_one_image_under_two_participants_is_told_and_strict_refuses(study: Study) -> None:
    study.mark(3, inputs={"bids:raw:sub-0003/anat/sub-0003_echo-1_MEGRE.nii.gz": "aa"})
    study.mark(9, inputs={"bids:raw:sub-0009/anat/sub-0009_echo-1_MEGRE.nii.gz": "aa"})
    error = study.fails(InputError, "E722", strict=True)
    assert "W702 sub-0003 and sub-0009 have the same image" in str(error)
    outputs = study.run()
    assert [notice.code for notice in outputs.notices] == ["W702"]


def test_uncorrected_units_among_corrected_ones_are_told_and_strict_refuses(study: Study) -> None:
    for number in range(1, 25):
        missing = [{"code": "W364", "message": "no phase", "fix": "", "path": ""}] if number in (3, 9) else []
        study.mark(number, settings={"field_gradient": "correct"}, settings_sha256="c", notices=missing)
    error = study.fails(InputError, "E722", strict=True)
    assert "W717 R2* is not corrected for field gradients in 2 of 24 units: sub-0003, sub-0009" in str(error)
    assert "W717" in {notice.code for notice in study.run().notices}


@pytest.mark.parametrize(
    "change", [{"version": "0.0.9"}, {"settings_sha256": "b", "settings": {"fit_method": "arlo"}}]
)
def test_results_of_other_versions_or_settings_are_not_mixed(study: Study, change: dict[str, object]) -> None:
    study.mark(5, **change)
    error = study.fails(UsageError, "E702")
    assert "sub-0001 and sub-0005 differ in" in str(error)
    assert ("0.0.9" if "version" in change else "fit_method") in str(error)


def test_table_that_was_changed_or_lost_takes_no_part(study: Study) -> None:
    _, changed = study.unit(2)
    changed.write_text(changed.read_text().replace("putamen", "Putamen"))
    study.unit(6)[1].unlink()
    study.unit(8)[0].unlink()  # no marker: an incomplete unit
    outputs = study.run()
    assert {row["unit"]: row["reason"] for row in study.rows("exclusions.tsv")} == {
        "sub-0002": "its region table was changed after it was written",
        "sub-0006": "its region table is missing",
    }
    assert "W701" in {notice.code for notice in outputs.notices}
    assert next(row for row in study.rows() if row["term"] == "group")["n"] == "21"


def test_table_with_another_person_s_rows_is_told_with_its_row(study: Study) -> None:
    study.rewrite(4, lambda text: text.replace("sub-0004", "sub-0005", 9).replace("sub-0005", "sub-0004", 8))
    error = study.fails(InputError, "E703")
    assert "row 10 is of another participant" in str(error)
    assert error.path == str(study.unit(4)[1])


def test_region_that_comes_twice_is_told(study: Study) -> None:
    study.rewrite(4, lambda text: text + text.splitlines()[5] + "\n")
    assert "row 26 comes twice" in str(study.fails(InputError, "E703"))


def test_number_that_is_none_is_told_with_unit_and_row(study: Study) -> None:
    study.rewrite(4, lambda text: text.replace("\t3600\t", "\t3600 mm\t", 1))
    outputs_of = study.fails(InputError, "E704")
    assert "row 2, column volume_mm3: '3600 mm'" in str(outputs_of)
    assert outputs_of.unit == "sub-0004"


@pytest.mark.parametrize("text", ["inf", "-inf", "NaN", "nan", "1e400", "3_600", "٣٦٠٠", "0x10", "", "3600 "])
def test_only_finite_numbers_are_numbers_and_their_place_is_told(study: Study, text: str) -> None:
    study.rewrite(6, lambda table: table.replace("\t3600\t", f"\t{text}\t", 1))
    error = study.fails(InputError, "E704")
    assert f"row 2, column volume_mm3: {text!r}" in str(error)
    assert error.unit == "sub-0006"
    assert error.path == str(study.unit(6)[1])


def test_ragged_region_table_is_told(study: Study) -> None:
    study.rewrite(4, lambda text: text.replace("\t3600\t", "\t3600\t\t", 1))
    assert "row 2 has 32 cells, not 31" in str(study.fails(InputError, "E703"))


def test_marker_that_points_outside_is_not_followed(study: Study) -> None:
    secret = study.bids.parent / "secret_desc-R2star_stats.tsv"
    secret.write_text("private")
    study.mark(4, outputs={"../../../secret_desc-R2star_stats.tsv": hashlib.sha256(b"private").hexdigest()})
    outputs = study.run()
    assert any("outside the output folder" in notice.message for notice in outputs.notices)


def test_output_that_can_not_be_written_is_a_fault_of_the_environment(study: Study) -> None:
    (study.output / "group").write_text("a file in the way")
    with pytest.raises(EnvironmentFault) as caught:
        study.run()
    assert caught.value.exit_code == 4


def test_participants_table_that_was_never_fetched_is_told(study: Study) -> None:
    study.table.unlink()
    study.table.symlink_to(".git/annex/objects/xx")
    assert "datalad get" in study.fails(InputError, "E705").fix


def test_link_in_the_output_is_replaced_and_what_it_points_to_is_left_alone(study: Study) -> None:
    victim = study.bids.parent / "victim.txt"
    victim.write_text("precious")
    (study.output / "group").mkdir()
    (study.output / "group" / "regions.tsv").symlink_to(victim)
    study.run()
    assert victim.read_text() == "precious"
    assert not (study.output / "group" / "regions.tsv").is_symlink()


def test_nothing_of_the_first_level_is_a_dataset_error(study: Study) -> None:
    shutil.rmtree(study.output / "logs")
    study.fails(DatasetError, "E701")


def test_nobody_at_the_reference_level_is_told(study: Study) -> None:
    study.model.write_text(MODEL.replace('level = "control"', 'level = "healthy"'))
    error = study.fails(InputError, "E716")
    assert "healthy" in str(error)
    assert "control, patient" in str(error)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (('formula = "age + group"', 'formula = "age + eval(group)"'), "E710", "no function 'eval'"),
        (('formula = "age + group"', 'formula = "height + group"'), "E714", "height"),
        (("[columns.age]", "[columns.weight]\n[columns.age]"), "", ""),
        (('unit = "year"', 'unit = "year"\ncentering = "all"'), "E713", "columns.age.centering is not known"),
        (("schema_version = 1", "schema_version = 2"), "E713", "schema_version is 2"),
        (('kind = "category"', 'kind = "factor"'), "E713", "one of number, category"),
        (('name = "group"', 'name = "../evil"'), "E713", "models[1].name"),
        (("[[models]]", "[[models]"), "E719", "line 13"),
        (('regions = ["putamen"]', 'regions = ["hippocampus"]'), "E717", "hippocampus"),
        (("[outcome]", '[norms]\nfile = "../x.toml"\n[outcome]'), "E734", "beside the model file"),
    ],
)
def test_mistakes_in_the_model_file(study: Study, change: tuple[str, str], code: str, words: str) -> None:
    study.model.write_text(MODEL.replace(*change, 1))
    if not code:
        study.run()
        return
    error = study.fails(UsageError, code)
    assert words in str(error)


def test_column_of_the_model_that_is_not_in_the_table(study: Study) -> None:
    study.model.write_text(
        MODEL.replace('formula = "age + group"', 'formula = "age + height + group"').replace(
            "[columns.age]", "[columns.height]\n[columns.age]")
    )  # fmt: skip
    error = study.fails(UsageError, "E711")
    assert "'height'" in str(error)


def test_confounded_group_gives_exit_code_1_and_says_why(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    study.edit(lambda rows: [row.__setitem__(rows[0].index("site"), row[1]) for row in rows[1:]])
    model = MODEL.replace('"age + group"', '"age + site + group"')
    study.model.write_text(model.replace("[columns.age]", '[columns.site]\nkind = "category"\n[columns.age]'))
    assert run_group(study.bids, study.output, GroupOptions(model_file=study.model)) == 1
    assert "refused: it can't be told from site" in capsys.readouterr().out
