"""The cohort's page and its measures of quality: planted outliers and differences are found, text stays text."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_ind

from r2star.report.cohort import SECTIONS
from r2star.report.cohort.quality import confounded
from r2star.report.cohort_facts import CohortFacts, Covariate, UnitQuality
from r2star.steps.group_quality import compare_groups, find_outliers
from r2star.steps.group_report import cohort_page

HOSTILE = "<script>document.title='owned'</script>\"'\u202e"


def make_cohort(n: int = 500, *, name: str = "sub-") -> CohortFacts:
    rng = np.random.default_rng(2)
    units = [
        UnitQuality(
            f"{name}{k:04d}", "patient" if k % 2 else "control", "pass",
            {"snr_first_echo": float(rng.normal(60, 4)), "echo_shift_mm": float(abs(rng.normal(0.1, 0.02)))},
            frozenset({"echo_shift_mm"}) if k == 3 else frozenset(), f"sub-{k:04d}.html",
        )
        for k in range(n)
    ]  # fmt: skip
    tests = [{"metric": "snr_first_echo", "n_reference": 250, "n_patients": 250, "mean_reference": 60.0,
              "mean_patients": 55.0, "difference": -5.0, "standardised_difference": -1.2, "statistic": -9.0,
              "df": 400.0, "p": 1e-9, "p_adjusted": 2e-9}]  # fmt: skip
    return CohortFacts(
        version="0.1.0", n_units=n, n_participants=n, n_controls=n // 2, n_patients=n - n // 2, n_unknown=0,
        reference="control", covariates=[Covariate("age", "year", "40 ± 11", "44 ± 12", "3")], quality=units,
        metrics={"snr_first_echo": ("SNR, first echo", ""), "echo_shift_mm": ("Shift between echoes", "mm")},
        quality_tests=tests, exclusions=[("sub-9", "first level: failed_input", "x.nii.gz")], missing={"age": (3, n)},
        notices=[{"code": "W701", "message": "sub-9 takes no part", "fix": "run it", "path": ""}],
    )  # fmt: skip


def test_a_unit_far_from_all_others_stands_out() -> None:
    values = np.random.default_rng(1).normal(20, 1, 60)
    values[7], values[8] = 40.0, np.nan
    found = find_outliers({"snr": values})
    assert found[0] == (7, "snr")
    assert 8 not in [unit for unit, _ in found]
    assert find_outliers({"alike": np.ones(60)}) == []


def test_the_groups_are_compared_by_participant_as_welch_has_it() -> None:
    rng = np.random.default_rng(3)
    controls, patients = rng.normal(20, 2, 12), rng.normal(26, 4, 15)
    names = [f"c{k}" for k in range(12)] + [f"p{k}" for k in range(15)]
    known = {name: name.startswith("p") for name in names}
    values = np.concatenate([controls, patients])
    # every participant twice: the same as once
    tests = compare_groups(
        {"snr_first_echo": np.tile(values, 2), "r2star_stderr_per_s": np.tile(values, 2)}, names * 2, known
    )
    (test,) = tests  # the standard error follows R2* itself and is not tested
    expected = ttest_ind(patients, controls, equal_var=False)
    assert test["p"] == pytest.approx(expected.pvalue)
    assert test["statistic"] == pytest.approx(expected.statistic)
    assert (test["n_reference"], test["n_patients"]) == (12, 15)


def test_no_difference_is_found_where_none_was_planted() -> None:
    names = [f"{k}" for k in range(40)]
    known = {name: int(name) % 2 == 0 for name in names}
    found = 0
    for seed in range(200):
        values = np.random.default_rng(seed).normal(size=(5, 40))
        tests = compare_groups({f"m{k}": row for k, row in enumerate(values)}, names, known)
        found += any(test["p_adjusted"] < 0.05 for test in tests)
    assert 2 <= found <= 20  # about 5 % of 200 by Holm


def test_too_few_or_all_alike_are_not_tested() -> None:
    names, known = ["a", "b", "c", "d"], {"a": True, "b": True, "c": False, "d": False}
    assert compare_groups({"m": np.arange(4.0)}, names, known) == []
    six = [f"{k}" for k in range(6)]
    assert compare_groups({"m": np.full(6, 0.3)}, six, {one: int(one) < 3 for one in six}) == []


def test_confounding_is_told_in_words() -> None:
    cohort = make_cohort(20)
    assert "SNR, first echo (55.0 in patients, 60.0 in controls, p < 0.001)" in confounded(cohort)
    quiet = [{**cohort.quality_tests[0], "p_adjusted": 0.4}]
    assert "does not differ" in confounded(replace(cohort, quality_tests=quiet))


def test_every_section_is_there_and_outliers_link_to_their_reports() -> None:
    text = cohort_page(make_cohort(20))
    assert text == cohort_page(make_cohort(20))
    for name in SECTIONS:
        if name not in ("effects", "figures"):  # no model was run
            assert f'id="{name}"' in text
    assert '<a href="sub-0003.html">sub-0003</a>: Shift between echoes' in text
    assert "takes no part" in text


def test_a_page_of_500_units_is_small_and_inert_in_a_browser(browser: Callable[..., Any]) -> None:
    cohort = replace(
        make_cohort(500, name=HOSTILE), covariates=[Covariate(HOSTILE, HOSTILE, HOSTILE, HOSTILE, "0")],
        exclusions=[(HOSTILE, HOSTILE, HOSTILE)], reference=HOSTILE, settings={HOSTILE: HOSTILE},
    )  # fmt: skip
    text = cohort_page(cohort)
    assert len(text) < 600_000
    assert "\u202e" not in text
    for dark, width in ((False, 1280), (True, 390)):
        visit = browser(text, dark=dark, width=width)
        assert visit.run("return document.title") == "Cohort: R2*"
        assert visit.run("return document.documentElement.scrollWidth <= window.innerWidth")
        assert visit.faults() == []
        visit.collect()
        assert (visit.requests, visit.console) == ([], [])


def test_a_run_leaves_the_page_and_the_tables(r2star: Callable[..., Any], tmp_path: Path) -> None:
    made = r2star(
        "simulate", "cohort", tmp_path / "c", "--controls", 20, "--patients", 24, "--sites", 2, "--seed", 1
    )
    assert made.returncode == 0, made.stderr
    out = tmp_path / "c" / "derivatives" / "r2star"
    done = r2star("app", tmp_path / "c", out, "group")
    assert done.returncode == 0, done.stderr
    page = (out / "group.html").read_text()
    with (out / "group" / "quality.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 44
    assert all(float(row["regions_stderr_per_s"]) > 0 for row in rows)
    with (out / "group" / "group_stats.tsv").open() as file:
        tested = [row for row in csv.DictReader(file, delimiter="\t") if row["family"] == "primary"]
    found = sum(float(row["p_adjusted"]) < 0.05 for row in tested if row["model"] == "group")
    n = sum(row["model"] == "group" for row in tested)
    expected = f"{found} of {n} tests have" if found else f"None of {n} tests has"
    assert re.search(rf"<dt>group</dt><dd>{expected}", page)
    r2star("app", tmp_path / "c", out, "group")
    assert (out / "group.html").read_text() == page
