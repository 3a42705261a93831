"""The simulated cohort has the make-up and the effects that it tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r2star.cli.simulate import main as simulate
from r2star.errors import UsageError
from r2star.simulate.cohort import simulate_cohort
from r2star.simulate.truth import REGIONS, healthy_iron_mg_per_kg


def test_equal_seeds_give_equal_cohorts_and_others_do_not() -> None:
    one, again, other = simulate_cohort(1), simulate_cohort(1), simulate_cohort(2)
    for name, values in one.r2star_per_s.items():
        assert np.array_equal(values, again.r2star_per_s[name], equal_nan=True)
    assert not np.array_equal(one.r2star_per_s["putamen"], other.r2star_per_s["putamen"])


def test_make_up_is_that_of_the_study() -> None:
    cohort = simulate_cohort(3, n_controls=8100, n_patients=9700)
    people, patient = cohort.participants, cohort.is_patient
    assert patient.sum() == 9700
    shares = {name: float((people["course"][patient] == name).mean()) for name in ("CIS", "RR", "SP", "PP")}
    assert shares == pytest.approx({"CIS": 0.10, "RR": 0.56, "SP": 0.25, "PP": 0.09}, abs=1e-3)
    assert people["age"][~patient].mean() == pytest.approx(40, abs=0.5)
    assert (people["sex"][patient] == "female").mean() == pytest.approx(0.65, abs=0.02)
    for name, mean, sd, edss in (
        ("CIS", 0.8, 0.4, 1.1),
        ("RR", 8, 6, 1.95),
        ("SP", 16, 8, 5.8),
        ("PP", 11, 6, 5.05),
    ):
        rows = people["course"] == name
        assert people["disease_duration_years"][rows].mean() == pytest.approx(mean, rel=0.06)
        assert people["disease_duration_years"][rows].std() == pytest.approx(sd, rel=0.1)
        assert people["edss"][rows].mean() == pytest.approx(edss, abs=0.12)
    assert set(np.unique(people["edss"][patient] * 2 % 1)) == {0.0}
    assert np.isnan(people["edss"][~patient]).all()


def test_effects_are_planted_as_told() -> None:
    # with everything that was planted taken off, only noise of the told size is left
    cohort = simulate_cohort(4, n_controls=3000, n_patients=3000)
    people, patient = cohort.participants, cohort.is_patient
    truth = cohort.truth["effects_per_s"]
    volume = people["cortical_volume_ml"]
    site = cohort.truth["sites"]
    offset = np.array([site[label]["offset_per_s"] for label in people["site"]])
    gain = np.array([site[label]["gain"] for label in people["site"]])
    for name, region in REGIONS.items():
        planted = 14.9 + 0.109 * healthy_iron_mg_per_kg(name, people["age"])
        planted = planted + truth[name]["disease_duration_years"] * np.nan_to_num(
            people["disease_duration_years"]
        )
        planted = planted + truth[name]["edss"] * np.nan_to_num(people["edss"])
        planted = planted + truth[name]["cortical_volume_ml"] * np.where(
            patient, volume - volume[patient].mean(), 0
        )
        rest = (cohort.r2star_per_s[name][:, 0] - offset) / gain - planted
        assert abs(rest.mean()) < 4 * region.sd_per_s / np.sqrt(6000)
        assert rest.std() == pytest.approx(np.hypot(region.sd_per_s, 0.97), rel=0.04)
        assert abs(rest[patient].mean() - rest[~patient].mean()) < 4 * 2 * rest.std() / np.sqrt(6000)


def test_people_are_alike_over_regions() -> None:
    cohort = simulate_cohort(5, n_controls=4000, n_patients=1, n_sites=1)
    rest = [cohort.r2star_per_s[name][:-1, 0] - 0.109 * healthy_iron_mg_per_kg(name, cohort.participants["age"][:-1])
            for name in ("pallidum", "red_nucleus")]  # fmt: skip
    # 0.6 of each SD is shared: 0.36 of the variance, diluted by the measurement
    expected = 0.36 * 3.8 * 4.0 / (np.hypot(3.8, 0.97) * np.hypot(4.0, 0.97))
    assert np.corrcoef(rest)[0, 1] == pytest.approx(expected, abs=0.04)


def test_follow_up_changes_by_ageing_and_by_the_duration_effect() -> None:
    cohort = simulate_cohort(6, n_controls=3000, n_patients=3000, n_sessions=2, interval_years=5.0)
    change = np.diff(cohort.r2star_per_s["putamen"], axis=1)[:, 0]
    age, patient = cohort.participants["age"], cohort.is_patient
    ageing = 0.109 * (healthy_iron_mg_per_kg("putamen", age + 5) - healthy_iron_mg_per_kg("putamen", age))
    excess = change - ageing
    error = 0.97 * np.sqrt(2 / 3000)
    assert abs(excess[~patient].mean()) < 4 * error
    assert abs(excess[patient].mean() - 5 * 0.12) < 4 * error
    assert change.std() == pytest.approx(np.hypot(0.97 * np.sqrt(2), ageing.std()), rel=0.06)


def test_unbalanced_sites_differ_in_their_share_of_patients() -> None:
    def spread(balanced: bool) -> float:
        cohort = simulate_cohort(7, balanced=balanced)
        sites = cohort.participants["site"]
        return float(np.ptp([cohort.is_patient[sites == label].mean() for label in set(sites.tolist())]))

    assert spread(balanced=True) < 0.1
    assert spread(balanced=False) > 0.4


def test_missing_values_are_of_covariates_only() -> None:
    cohort = simulate_cohort(8, n_controls=500, n_patients=500, missing_fraction=0.2)
    share = np.isnan(cohort.participants["edss"][cohort.is_patient]).mean()
    assert share == pytest.approx(0.2, abs=0.06)
    assert all(np.isfinite(cohort.r2star_per_s[name]).all() for name in REGIONS)


def test_written_dataset_is_valid_bids(tmp_path: Path, bids_errors: Callable[[Path], list[Any]]) -> None:
    out = tmp_path / "cohort"
    assert (
        simulate(
            ["cohort", str(out), "--controls", "3", "--patients", "4", "--sites", "2", "--sessions", "2"]
        )
        == 0
    )
    for folder in (out, out / "derivatives" / "r2star"):
        assert bids_errors(folder) == []
    assert len(list((out / "derivatives" / "r2star").glob("sub-*/ses-*/anat/*_stats.tsv"))) == 14


def test_a_folder_with_something_in_it_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    assert simulate(["cohort", str(tmp_path)]) == UsageError.exit_code
    assert "R2S-E720" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize(
    "option", [("--controls", "0"), ("--missing", "1"), ("--sessions", "0"), ("--interval-years", "0")]
)
def test_sizes_that_can_not_be_are_usage_errors(tmp_path: Path, option: tuple[str, str]) -> None:
    assert simulate(["cohort", str(tmp_path / "x"), *option]) == UsageError.exit_code
    assert not (tmp_path / "x").exists()
