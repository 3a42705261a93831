"""The group level from the command line on a simulated cohort: what is written, and that it is the truth."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from r2star.cli.group import run_group
from r2star.cli.simulate import main as simulate
from r2star.errors import UsageError
from r2star.group.rows import STATS_COLUMNS
from r2star.settings import GroupOptions
from r2star.steps.group import analyse_group
from r2star.steps.group_columns import read_covariates
from r2star.steps.group_inputs import read_inputs, read_model_file
from r2star.steps.group_visits import find_visits, lesion_volumes_ml

# fmt: off
COLUMNS = [
    "model", "region", "term", "contrast", "n", "n_reference", "n_patients", "n_missing", "estimate", "unit", "se",
    "se_type", "df", "ci_low", "ci_high", "statistic", "p", "p_adjusted", "adjustment", "family", "family_size",
    "standardised_beta", "partial_r", "hedges_g", "hedges_g_ci_low", "hedges_g_ci_high", "percent_of_reference_mean",
    "vif", "loo_min", "loo_max", "status",
]
# fmt: on


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("level") / "cohort"
    arguments = ["cohort", str(out), "--seed", "5", "--controls", "60", "--patients", "70", "--sites", "3"]
    assert simulate([*arguments, "--sessions", "2", "--missing", "0.05"]) == 0
    return out


@pytest.fixture(scope="module")
def group(cohort: Path) -> Path:
    assert (
        run_group(cohort, cohort / "derivatives" / "r2star", GroupOptions(iron="gelman1999-hallgren1958"))
        == 0
    )
    return cohort / "derivatives" / "r2star" / "group"


def test_statistics_have_the_agreed_columns_in_order(group: Path) -> None:
    assert list(STATS_COLUMNS) == COLUMNS
    tables = sorted(group.glob("*_stats.tsv"))
    models = {model.name for model in read_model_file(None).models}
    assert {table.name.removesuffix("_stats.tsv") for table in tables} == models
    for table in tables:
        assert table.read_text().splitlines()[0].split("\t") == COLUMNS
        assert set(json.loads(table.with_suffix(".json").read_text())) == set(COLUMNS)
        assert all(row["status"] != "n/a" for row in _read(table) if row["family"] != "n/a")


def test_planted_effects_are_within_three_standard_errors(cohort: Path, group: Path) -> None:
    truth = json.loads((cohort / "truth.json").read_text())["effects_per_s"]
    names = ("disease_duration_years", "edss", "cortical_volume_ml")
    rows = _read(group / "determinants_stats.tsv")
    rows = [row for row in rows if row["model"] == "determinants" and row["term"] in names]
    assert len(rows) == 6 * 3
    off = [(float(row["estimate"]) - truth[row["region"]][row["term"]]) / float(row["se"]) for row in rows]
    assert np.abs(off).max() < 3
    lesions = {row["term"]: row for row in _read(group / "lesions_stats.tsv") if row["region"] == "lesions"}
    for term, planted in (("disease_duration_years", -0.06), ("log(lesion_volume_ml)", -0.6)):
        assert abs(float(lesions[term]["estimate"]) - planted) < 3 * float(lesions[term]["se"])


def test_change_over_time_is_that_of_the_duration_effect(cohort: Path, group: Path) -> None:
    truth = json.loads((cohort / "truth.json").read_text())["effects_per_s"]
    rows = [
        row for row in _read(group / "longitudinal_stats.tsv") if row["term"] == "group:years_from_baseline"
    ]
    assert {row["se_type"] for row in rows} == {"REML"}
    for row in rows:
        planted = truth[row["region"]]["disease_duration_years"]
        assert abs(float(row["estimate"]) - planted) < 3 * float(row["se"])
        assert int(row["n"]) == 260


def test_families_and_adjustments(group: Path) -> None:
    rows = [row for row in _read(group / "determinants_stats.tsv") if row["family"] != "n/a"]
    assert {(row["family"], row["adjustment"], row["family_size"]) for row in rows} == {
        ("primary", "holm", "6"), ("determinants", "bh", "24"),
    }  # fmt: skip
    assert all(float(row["p_adjusted"]) >= float(row["p"]) for row in rows)
    others = [row for row in _read(group / "determinants_stats.tsv") if row["family"] == "n/a"]
    assert {row["p_adjusted"] for row in others} == {"n/a"}


def test_every_sensitivity_analysis_has_its_rows(group: Path) -> None:
    rows = _read(group / "determinants_stats.tsv")
    for name in ("robust", "random_site", "combat", "leave_one_site", "imputation"):
        found = [row for row in rows if row["model"] == f"determinants:{name}"]
        assert len(found) == 6 * 5, name
        assert all(row["estimate"] != "n/a" for row in found), name
    (imputed,) = {row["n_missing"] for row in rows if row["model"] == "determinants:imputation"}
    assert imputed == "0"
    assert {row["n_missing"] for row in rows if row["model"] == "determinants"} != {"0"}


def test_regions_hold_every_row_and_its_covariates(cohort: Path, group: Path) -> None:
    rows = _read(group / "regions.tsv")
    assert len(rows) == 130 * 2 * 8 * 3
    people = {row["participant_id"]: row for row in _read(cohort / "participants.tsv")}
    for row in rows[:: len(rows) // 50]:
        assert all(
            row[name] == people[row["participant_id"]][name] for name in ("age", "site", "edss", "group")
        )
        assert row["years_from_baseline"] == {"ses-1": "0", "ses-2": "2"}[row["session_id"]]
    assert [row["participant_id"] for row in rows] == sorted(row["participant_id"] for row in rows)
    described = json.loads((group / "regions.json").read_text())
    assert set(rows[0]) <= set(described)
    table = pq.read_table(group / "regions.parquet")
    assert table.column_names == list(rows[0])
    medians = [float(row["r2star_median_per_s"]) for row in rows[:9]]
    assert table["r2star_median_per_s"].to_pylist()[:9] == pytest.approx(medians)
    assert table["participant_id"][0].as_py() == "sub-0001"
    assert table["lesion_overlap"].null_count == 0
    assert table["iron_stderr_mg_per_kg"].null_count == len(rows)


def test_iron_is_given_where_the_calibration_holds(group: Path) -> None:
    for row in _read(group / "regions.tsv")[:200]:
        if row["region"] in {"lesions", "normal_appearing_white_matter"}:
            assert row["iron_mg_per_kg"] == row["calibration"] == "n/a"
            continue
        iron = (float(row["r2star_median_per_s"]) - 14.9) / 0.109
        assert float(row["iron_mg_per_kg"]) == pytest.approx(iron, rel=1e-8)
        assert float(row["iron_mass_ug"]) == pytest.approx(
            iron * float(row["volume_mm3"]) * 1.04e-3, rel=1e-8
        )
        assert ("W714" in row["warnings"]) == (not 40 <= iron <= 215)


def test_iron_of_another_field_is_refused_before_anything_is_written(cohort: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(cohort, tmp_path / "copy"))
    calibration = tmp_path / "mine.toml"
    calibration.write_text(
        'name = "mine"\nslope_per_s_per_mg_per_kg = 0.2\nintercept_per_s = 20.0\nfield_tesla = 7.0\n'
        'tissue = "in_vivo"\n'
        'valid_for = ["in_vivo"]\nregions = ["putamen"]\nrange_mg_per_kg = [0.0, 300.0]\nsource = "made up"\n'
    )
    shutil.rmtree(copy / "derivatives" / "r2star" / "group", ignore_errors=True)
    for name, code in (("langkammer2010", "E731"), (str(calibration), "E731"), ("nobody1999", "E733")):
        with pytest.raises(UsageError) as caught:
            analyse_group(copy, copy / "derivatives" / "r2star", GroupOptions(iron=name), figures=False)
        assert caught.value.code == code
        assert not (copy / "derivatives" / "r2star" / "group").exists()


def test_z_scores_of_controls_are_standard_and_those_of_patients_are_not(group: Path) -> None:
    rows = _read(group / "zscores.tsv")
    controls = np.array(
        [float(row["z"]) for row in rows if row["group"] == "control" and row["session_id"] == "ses-1"]
    )
    assert abs(controls.mean()) < 0.05
    assert controls.std() == pytest.approx(1, abs=0.05)
    patients = [float(row["z"]) for row in rows if row["group"] == "patient" and row["region"] == "putamen"]
    assert np.mean(patients) > 0.4
    ages = [float(row["age"]) for row in rows if row["group"] == "control"]
    for row in rows:
        outside = row["age"] != "n/a" and not min(ages) <= float(row["age"]) <= max(ages)
        assert row["status"].startswith("extrapolated") == outside


def test_norms_of_one_cohort_serve_another(group: Path, cohort: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(cohort, tmp_path / "copy"))
    shutil.copy(group / "norms.toml", tmp_path / "norms.toml")
    source = Path(str(read_model_file.__code__.co_filename)).parents[1] / "group" / "models" / "default.toml"
    model = tmp_path / "model.toml"
    text = source.read_text().replace("[columns.group]", '[norms]\nfile = "norms.toml"\n\n[columns.group]', 1)
    start = text.index("[[models]]")
    model.write_text(text[:start] + '[[models]]\nname = "one"\nformula = "age + group"\n')
    analyse_group(copy, copy / "derivatives" / "r2star", GroupOptions(model_file=model), figures=False)
    rows = _read(copy / "derivatives" / "r2star" / "group" / "zscores.tsv")
    assert {row["norm"] for row in rows} == {"own-controls"}
    z = [float(row["z"]) for row in rows if row["group"] == "control" and row["session_id"] == "ses-1"]
    assert np.std(z) == pytest.approx(1.05, abs=0.15)  # sites and sexes are not taken off by a curve


def test_lock_tells_what_was_run(group: Path) -> None:
    lock = tomllib.loads((group / "model.lock.toml").read_text())
    assert lock["reference"] == {"column": "group", "level": "control"}
    assert lock["first_level"]["n_units"] == 260
    by_name = {model["name"]: model for model in lock["models"]}
    assert by_name["group"]["run"] == "1 + spline(age, df=3) + sex + site + group"
    assert by_name["longitudinal"]["run"].endswith("+ (1 | participant)")
    assert by_name["lesions"]["regions"] == ["lesions", "normal_appearing_white_matter"]


def test_figures_are_there_as_vectors_and_pictures(group: Path) -> None:
    told = json.loads((group / "figures" / "figures.json").read_text())
    names = {"courses", "ages", "forest", "partial_residuals", "sites", "sides", "follow_up", "flow"}
    assert set(told) == names
    assert {path.name for path in (group / "figures").iterdir()} == {
        "figures.json", *(f"{name}{suffix}" for name in names for suffix in (".svg", ".png")),
    }  # fmt: skip
    for name in names:
        assert (group / "figures" / f"{name}.svg").read_text().startswith("<?xml")


def test_a_second_run_gives_the_same_bytes_and_takes_old_models_away(
    group: Path, cohort: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(cohort, tmp_path / "copy"))
    output = copy / "derivatives" / "r2star"
    before = _hashes(output / "group")
    (output / "group" / "old_stats.tsv").write_text("of an earlier model file\n")
    assert run_group(copy, output, GroupOptions(iron="gelman1999-hallgren1958")) == 0
    assert _hashes(output / "group") == before


def test_one_site_leaves_site_out_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "one"
    assert simulate(["cohort", str(out), "--controls", "30", "--patients", "30", "--sites", "1"]) == 0
    outputs = analyse_group(out, out / "derivatives" / "r2star", figures=False)
    assert "model group is without site (absent, or one level)" in {
        notice.message for notice in outputs.notices
    }
    lock = tomllib.loads((outputs.folder / "model.lock.toml").read_text())
    assert lock["models"][0]["run"] == "1 + spline(age, df=3) + sex + group"


def test_lesion_volume_comes_from_the_region_tables_where_participants_have_none(cohort: Path) -> None:
    """The tables hold the volume in whole voxels; the column of participants.tsv wins where it is there."""
    inputs = read_inputs(cohort, cohort / "derivatives" / "r2star", None)
    visits = find_visits(inputs.gathered, inputs.people, inputs.model.models[0].outcome)
    found = lesion_volumes_ml(inputs.gathered, visits)
    people = {row["participant_id"].removeprefix("sub-"): row for row in _read(cohort / "participants.tsv")}
    told = [people[label]["lesion_volume_ml"] for label in visits.participant]
    known = np.array([float(value) if value != "n/a" else 0.0 for value in told])
    compared = np.isfinite(found)
    assert compared.sum() > 60
    np.testing.assert_allclose(found[compared], known[compared], atol=0.005)
    fields = np.full(visits.participant.size, 3.0)
    for column, source in (("lesion_volume_ml", "lesion_volume_ml"), ("none", "region tables")):
        held = inputs.people._replace(
            columns=tuple(column if one == "lesion_volume_ml" else one for one in inputs.people.columns)
        )
        covariates = read_covariates(
            inputs.model, held, visits, fields, built_in=True, measured={"lesion_volume_ml": found}
        )
        assert covariates.sources["lesion_volume_ml"] == source
