"""Least squares with HC3, influence and effect sizes, against statsmodels, refits and textbook formulas."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from r2star.group.effects import hedges_g, partial_r, standardised_beta, variance_inflation
from r2star.group.multiplicity import ADJUSTMENTS
from r2star.group.ols import estimate_contrast, estimate_from, fit_ols, leave_one_out, rank_deficient, wald_f


def _case(n: int = 60, p: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    x = np.column_stack([np.ones(n), rng.standard_normal((n, p))])
    return x, x @ rng.standard_normal(p + 1) + rng.standard_normal(n) * (1 + np.abs(x[:, 1]))


def test_estimates_errors_and_p_are_those_of_statsmodels() -> None:
    x, y = _case()
    fit, theirs = fit_ols(x, y), sm.OLS(y, x).fit(cov_type="HC3", use_t=True)
    assert fit.beta == pytest.approx(theirs.params, rel=1e-10)
    assert fit.covariance == pytest.approx(theirs.cov_params(), rel=1e-9)
    ours = [estimate_contrast(fit, weights) for weights in np.eye(5)]
    assert [each.p for each in ours] == pytest.approx(theirs.pvalues, rel=1e-8)
    intervals = np.array([(each.ci_low, each.ci_high) for each in ours])
    assert intervals == pytest.approx(theirs.conf_int(), rel=1e-9)
    statistic, p = wald_f(fit, [1, 3])
    expected = theirs.f_test(np.eye(5)[[1, 3]])
    assert (statistic, p) == pytest.approx((float(expected.fvalue), float(expected.pvalue)), rel=1e-8)


def test_leaving_one_out_is_the_same_as_refitting() -> None:
    x, y = _case(20)
    weights = np.array([0.0, 1, -1, 0, 0])
    refits = [weights @ fit_ols(np.delete(x, k, 0), np.delete(y, k)).beta for k in range(20)]
    assert leave_one_out(fit_ols(x, y), weights) == pytest.approx(refits, rel=1e-9)


def test_a_row_that_fits_itself_has_no_say_in_the_variance() -> None:
    x, y = _case(30, 2)
    alone = np.zeros(30)
    alone[4] = 1.0
    fit = fit_ols(np.column_stack([x, alone]), y)
    without = fit_ols(np.delete(x, 4, 0), np.delete(y, 4))
    assert fit.covariance[:3, :3] == pytest.approx(without.covariance, rel=1e-9)


def test_adjusted_hedges_g_without_covariates_is_the_textbook_one() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(1, 2, 14), rng.normal(0, 2, 23)
    x = np.column_stack([np.ones(37), np.arange(37) < 14])
    g, low, high = hedges_g(fit_ols(x, np.concatenate([a, b])), np.array([0.0, 1]), 14, 23)
    pooled = np.sqrt((13 * a.var(ddof=1) + 22 * b.var(ddof=1)) / 35)
    d = (a.mean() - b.mean()) / pooled
    j = 1 - 3 / (4 * 35 - 1)
    reach = 1.959963984540054 * j * np.sqrt(1 / 14 + 1 / 23 + d**2 / 70)
    assert (g, low, high) == pytest.approx((j * d, j * d - reach, j * d + reach), rel=1e-12)


def test_hedges_g_interval_covers_the_planted_effect() -> None:
    rng = np.random.default_rng(2)
    x = np.column_stack([np.ones(60), np.arange(60) < 25, np.linspace(-1, 1, 60)])
    covered = 0
    for _ in range(2000):
        y = x @ [0, 1.6, 3.0] + 2.0 * rng.standard_normal(60)
        _, low, high = hedges_g(fit_ols(x, y), np.array([0.0, 1, 0]), 25, 35)
        covered += low <= 0.8 <= high
    assert abs(covered / 2000 - 0.95) < 0.015


def test_standardised_beta_is_the_slope_between_standardised_columns() -> None:
    x, y = _case(50, 1)
    slope = stats.linregress((x[:, 1] - x[:, 1].mean()) / x[:, 1].std(), (y - y.mean()) / y.std()).slope
    assert standardised_beta(fit_ols(x, y), 1, np.ones(50, dtype=bool)) == pytest.approx(slope)


def test_partial_r_of_one_covariate_is_pearson_s() -> None:
    x, y = _case(50, 1)
    assert partial_r(fit_ols(x, y), np.array([0.0, 1])) == pytest.approx(stats.pearsonr(x[:, 1], y).statistic)


def test_inflation_from_the_regression_on_the_others() -> None:
    x, _ = _case()
    x[:, 3] += 2 * x[:, 2]
    r2 = sm.OLS(x[:, 3], np.delete(x, 3, 1)).fit().rsquared
    assert variance_inflation(x, [3]) == pytest.approx(1 / (1 - r2))


def test_rank_deficiency_is_found_whatever_the_scale() -> None:
    x, _ = _case()
    x = np.column_stack([x * [1, 1e6, 1e-6, 1, 1], 1e-6 * x[:, 1] + 3])
    assert rank_deficient(x).tolist() == [False] * 5 + [True]


@pytest.mark.parametrize("bad", [(1.0, 0.0, 5.0), (1.0, np.nan, 5.0), (1.0, 1.0, 0.0)])
def test_no_error_no_statistic(bad: tuple[float, float, float]) -> None:
    assert np.isnan(estimate_from(*bad).p)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rows"):
        fit_ols(np.ones((3, 3)), np.ones(3))


@pytest.mark.parametrize("name", ["holm", "bh"])
def test_missing_p_values_take_no_part_and_order_is_kept(name: str) -> None:
    p = np.array([0.04, np.nan, 0.001, 0.02])
    adjusted = ADJUSTMENTS[name](p)
    assert np.isnan(adjusted[1])
    assert adjusted[[0, 2, 3]] == pytest.approx(ADJUSTMENTS[name](p[[0, 2, 3]]))
    assert adjusted[2] < adjusted[3] <= adjusted[0]
