"""The same numbers as R on a fixed cohort: lm with sandwich and car, lme4, MASS, mice, sva. Skips where R is absent."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from r2star.group.combat import harmonise_sites
from r2star.group.design import DesignRules, build_design
from r2star.group.effects import partial_r, variance_inflation
from r2star.group.formula import parse_formula
from r2star.group.imputation import impute_chained, pool_rubin
from r2star.group.mixed import fit_random_intercept
from r2star.group.multiplicity import adjust_bh, adjust_holm
from r2star.group.ols import estimate_contrast, fit_ols, leave_one_out, wald_f
from r2star.group.sensitivity import fit_huber
from r2star.simulate.cohort import simulate_cohort

JOINT = parse_formula(
    "spline(age, df=3) + sex + site + group + patients(disease_duration_years) + patients(edss)"
    " + patients(log(lesion_volume_ml)) + patients(cortical_volume_ml)"
)
RULES = DesignRules(references={"group": "control", "sex": "female"})
NAMES = {
    "sexmale": "sex[male]",
    "grouppatient": "group[patient]",
    "duration": "patients(disease_duration_years)",
    "edss": "patients(edss)",
    "lesion": "patients(log(lesion_volume_ml))",
    "cortex": "patients(cortical_volume_ml)",
}


def _write(path: Path, columns: dict[str, np.ndarray]) -> None:
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        writer.writerows(
            zip(*([repr(float(v)) if isinstance(v, float) else v for v in c] for c in columns.values()))
        )


class Case:
    """The fixed cohort and R's answers."""

    def __init__(self, folder: Path) -> None:
        self.cohort = simulate_cohort(2014)
        people = self.cohort.participants
        self.design = build_design(JOINT, people, self.cohort.is_patient, RULES)
        self.fit = fit_ols(self.design.matrix, self.cohort.r2star_per_s["putamen"][:, 0])
        self.long = simulate_cohort(7, n_sessions=3)
        rng = np.random.default_rng(3)
        a, b, c = rng.standard_normal((3, 400))
        b = b + 0.5 * a
        y = 1.0 + 0.5 * a - 0.3 * b + 0.2 * c + rng.standard_normal(400)
        b[rng.random(400) < 1 / (1 + np.exp(1.5 - y))] = np.nan
        c[rng.random(400) < 0.15] = np.nan
        self.incomplete = np.column_stack([y, a, b, c])
        self.flat = 20.0 + 0.1 * people["age"] + rng.normal(0, 1, people["age"].size)
        for site in np.unique(people["site"]):  # no variance between sites at all
            rows = people["site"] == site
            self.flat[rows] -= self.flat[rows].mean() - 20.0
        names = ("caudate", "putamen", "pallidum", "thalamus", "red_nucleus", "substantia_nigra")
        self.values = np.column_stack([self.cohort.r2star_per_s[name][:, 0] for name in names])
        self.kept = np.column_stack([people["age"], self.cohort.is_patient.astype(float)])
        self._write_tables(folder)
        self.r = self._ask(folder)

    def column(self, name: str) -> np.ndarray:
        return self.design.matrix[:, self.design.names.index(name)]

    def weights(self, name: str) -> np.ndarray:
        return np.eye(len(self.design.names))[self.design.names.index(name)]

    def _write_tables(self, folder: Path) -> None:
        people = self.cohort.participants
        text = {name: people[name] for name in ("site", "sex", "group")}
        numbers = {r: self.column(ours) for r, ours in NAMES.items() if r not in {"sexmale", "grouppatient"}}
        _write(
            folder / "cross.csv",
            {"y": self.fit.outcome, "flat": self.flat, "age": people["age"], **text, **numbers},
        )
        n, t = self.long.r2star_per_s["putamen"].shape
        others = self.long.participants
        _write(
            folder / "long.csv",
            {
                "y": self.long.r2star_per_s["putamen"].ravel(),
                "years": np.tile(self.long.years, n).astype(float),
                "participant": np.repeat([f"p{k}" for k in range(n)], t),
                **{name: np.repeat(others[name], t) for name in ("age", "sex", "site", "group")},
            },
        )
        with (folder / "incomplete.csv").open("w") as handle:
            handle.write("y,a,b,c\n")
            for row in self.incomplete:
                handle.write(",".join("NA" if np.isnan(v) else repr(float(v)) for v in row) + "\n")
        _write(folder / "combat_values.csv", {f"v{k}": column for k, column in enumerate(self.values.T)})
        _write(folder / "combat_kept.csv", {f"k{k}": column for k, column in enumerate(self.kept.T)})
        _write(folder / "combat_sites.csv", {"site": people["site"]})

    @staticmethod
    def _ask(folder: Path) -> dict:
        script = Path(__file__).with_name("oracle.R")
        done = subprocess.run(
            ["Rscript", "--vanilla", script, folder], capture_output=True, text=True, check=False
        )
        if "jsonlite" in done.stderr:
            pytest.skip("R is here without jsonlite")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def answer(self, key: str):
        if self.r.get(key) is None:
            pytest.skip(f"R has no package for {key}")
        return self.r[key]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    if shutil.which("Rscript") is None:
        pytest.skip(
            "R is not installed (Debian: r-base-core r-cran-sandwich r-cran-lme4 r-cran-mice r-cran-car)"
        )
    return Case(tmp_path_factory.mktemp("oracle"))


@pytest.mark.parametrize("name", NAMES)
def test_coefficients_and_errors_are_those_of_lm_and_sandwich(case: Case, name: str) -> None:
    weights = case.weights(NAMES[name])
    robust, classical = (estimate_contrast(case.fit, weights, robust=each) for each in (True, False))
    assert robust.estimate == pytest.approx(case.answer("lm")[name], rel=1e-9)
    assert classical.se == pytest.approx(case.answer("classical")[name], rel=1e-9)
    assert robust.se == pytest.approx(case.answer("hc3")[name], rel=1e-9)
    assert robust.p == pytest.approx(case.answer("hc3_p")[name], rel=1e-7)


def test_spline_spans_the_space_of_ns_and_its_joint_test_is_that_of_car(case: Case) -> None:
    statistic, p = wald_f(case.fit, case.design.columns_of("spline(age, df=3)"))
    assert statistic == pytest.approx(case.answer("wald")["F"], rel=1e-8)
    assert p == pytest.approx(case.answer("wald")["p"], rel=1e-7)


def test_inflation_factors_are_those_of_car(case: Case) -> None:
    ours = {
        "splines::ns(age, df = 3)": "spline(age, df=3)", "sex": "sex", "site": "site", "group": "group",
        **{name: NAMES[name] for name in ("duration", "edss", "lesion", "cortex")},
    }  # fmt: skip
    expected = case.answer("gvif")
    assert set(expected) == set(ours)
    for theirs, term in ours.items():
        found = variance_inflation(case.design.matrix, case.design.columns_of(term))
        assert found == pytest.approx(expected[theirs], rel=1e-8)


def test_range_without_one_participant_is_that_of_dfbeta(case: Case) -> None:
    without = leave_one_out(case.fit, case.weights("patients(edss)"))
    assert [without.min(), without.max()] == pytest.approx(case.answer("dfbeta"), rel=1e-9)


def test_partial_correlation_from_residuals(case: Case) -> None:
    # the definition: correlation of what the other covariates leave of each
    k = case.design.names.index("patients(edss)")
    others = np.delete(case.design.matrix, k, axis=1)

    def rest(v: np.ndarray) -> np.ndarray:
        return v - others @ np.linalg.lstsq(others, v, rcond=None)[0]

    expected = np.corrcoef(rest(case.design.matrix[:, k]), rest(case.fit.outcome))[0, 1]
    assert partial_r(case.fit, case.weights("patients(edss)")) == pytest.approx(expected, rel=1e-9)


def test_robust_coefficients_are_those_of_rlm(case: Case) -> None:
    beta, covariance, converged = fit_huber(case.fit.matrix, case.fit.outcome)
    assert converged
    se = np.sqrt(np.diag(covariance))
    for theirs, ours in NAMES.items():
        k = case.design.names.index(ours)
        # R rounds the normal quantile of the scale to 0.6745
        assert beta[k] == pytest.approx(case.answer("rlm")[theirs], abs=1e-5 * se[k])
        assert se[k] == pytest.approx(case.answer("rlm_se")[theirs], rel=1e-4)


def test_adjusted_p_values_are_those_of_p_adjust(case: Case) -> None:
    p = np.array([0.001, 0.04, 0.03, 0.2, 0.04])
    assert adjust_holm(p) == pytest.approx(case.answer("holm"), rel=1e-12)
    assert adjust_bh(p) == pytest.approx(case.answer("bh"), rel=1e-12)


def _longitudinal(case: Case):
    n, t = case.long.r2star_per_s["putamen"].shape
    people = {name: np.repeat(values, t) for name, values in case.long.participants.items()}
    people["years"] = np.tile(case.long.years, n)
    formula = parse_formula("group * years + age + sex + site")
    design = build_design(formula, people, np.repeat(case.long.is_patient, t), RULES)
    groups = np.repeat(np.arange(n), t)
    return design, fit_random_intercept(design.matrix, case.long.r2star_per_s["putamen"].ravel(), groups)


LME4 = {"grouppatient": "group[patient]", "years": "years", "age": "age", "sexmale": "sex[male]",
        "grouppatient:years": "group[patient]:years", "sitesite03": "site[site03]"}  # fmt: skip


def test_mixed_model_is_that_of_lme4(case: Case) -> None:
    design, fit = _longitudinal(case)
    expected, errors = case.answer("lmer"), case.answer("lmer_se")
    for theirs, ours in LME4.items():
        estimate = fit.estimate(np.eye(len(design.names))[design.names.index(ours)])
        assert estimate.estimate == pytest.approx(expected[theirs], rel=1e-6)
        assert estimate.se == pytest.approx(errors[theirs], rel=1e-6)
    assert [fit.intercept_variance, fit.residual_variance] == pytest.approx(case.answer("lmer_var"), rel=1e-6)
    assert not fit.singular


def test_degrees_of_freedom_are_close_to_those_of_lmertest(case: Case) -> None:
    # lmerTest takes the observed information by differences, this project the expected one
    design, fit = _longitudinal(case)
    for theirs, ours in LME4.items():
        found = fit.estimate(np.eye(len(design.names))[design.names.index(ours)]).df
        assert found == pytest.approx(case.answer("satterthwaite")[theirs], rel=0.01)


def test_singular_mixed_model_is_told_and_gives_least_squares_as_lme4_does(case: Case) -> None:
    people = case.cohort.participants
    design = build_design(parse_formula("group + age"), people, case.cohort.is_patient, RULES)
    fit = fit_random_intercept(design.matrix, case.flat, people["site"])
    assert case.answer("singular") is True
    assert fit.singular
    expected = case.answer("singular_coef")
    assert fit.beta == pytest.approx(
        [expected["(Intercept)"], expected["grouppatient"], expected["age"]], rel=1e-6
    )
    assert np.abs(fit.beta).min() > 0


def test_rubin_is_that_of_mice(case: Case) -> None:
    expected = case.answer("pool")
    # mice counts the complete-data degrees of freedom as n − k
    found = pool_rubin([1.2, 0.9, 1.5, 1.1], np.sqrt([0.2, 0.25, 0.22, 0.19]), 60 - 5)
    assert found.estimate == pytest.approx(expected["qbar"], rel=1e-12)
    assert found.se**2 == pytest.approx(expected["t"], rel=1e-12)
    assert found.df == pytest.approx(expected["df"], rel=1e-9)


def test_imputation_agrees_with_mice_within_monte_carlo_error(case: Case) -> None:
    y, incomplete = case.incomplete[:, 0], case.incomplete[:, 1:]
    m = 50
    draws = impute_chained(
        incomplete[:, 1:], np.column_stack([y, incomplete[:, 0]]), np.random.default_rng(5), n_imputations=m
    )
    fits = [fit_ols(np.column_stack([np.ones(400), incomplete[:, 0], each]), y) for each in draws]
    expected = case.answer("mice")
    for k in range(4):
        parts = [estimate_contrast(fit, np.eye(4)[k], robust=False) for fit in fits]
        between = np.std([part.estimate for part in parts], ddof=1)
        pooled = pool_rubin([part.estimate for part in parts], [part.se for part in parts], 396)
        monte_carlo = between * np.sqrt(2 / m)  # of the difference of two runs
        assert abs(pooled.estimate - expected["estimate"][k]) < 4 * monte_carlo
        assert pooled.se == pytest.approx(expected["se"][k], rel=0.1)
        complete = np.isfinite(incomplete).all(axis=1)
    biased = fit_ols(np.column_stack([np.ones(complete.sum()), incomplete[complete]]), y[complete])
    # values are missing by the outcome: complete cases are biased, imputation is not
    assert abs(biased.beta[0] - 1.0) > 0.2
    assert abs(np.mean([fit.beta[0] for fit in fits]) - 1.0) < 0.12


def test_combat_is_that_of_sva(case: Case) -> None:
    # sva stops iterating at a relative change of 1e-4
    found = harmonise_sites(case.values, case.cohort.participants["site"], case.kept)
    assert found == pytest.approx(np.array(case.answer("combat")), abs=2e-4)
