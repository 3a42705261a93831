"""The random intercept model against a dense likelihood, balanced designs, and its limit at zero variance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from r2star.group.mixed import fit_random_intercept
from r2star.group.ols import fit_ols


def _case(tau: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(12), rng.integers(2, 6, 12))
    n = groups.size
    x = np.column_stack([np.ones(n), rng.standard_normal(n), (groups % 2).astype(float)])
    y = x @ [3.0, 0.5, 1.0] + tau * rng.standard_normal(12)[groups] + rng.standard_normal(n)
    return x, y, groups


def _dense_criterion(variances: np.ndarray, x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    v = variances[0] * (groups[:, None] == groups) + variances[1] * np.eye(y.size)
    inverse = np.linalg.inv(v)
    cross = x.T @ inverse @ x
    r = y - x @ np.linalg.solve(cross, x.T @ inverse @ y)
    return np.linalg.slogdet(v)[1] + np.linalg.slogdet(cross)[1] + r @ inverse @ r


def test_variances_maximise_the_dense_restricted_likelihood() -> None:
    x, y, groups = _case(1.0)
    fit = fit_random_intercept(x, y, groups)
    found = optimize.minimize(
        lambda v: _dense_criterion(np.exp(v), x, y, groups), np.zeros(2), method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000},
    )  # fmt: skip
    assert [fit.intercept_variance, fit.residual_variance] == pytest.approx(np.exp(found.x), rel=1e-5)
    v = fit.intercept_variance * (groups[:, None] == groups) + fit.residual_variance * np.eye(y.size)
    assert fit.covariance == pytest.approx(np.linalg.inv(x.T @ np.linalg.solve(v, x)), rel=1e-8)


def test_degrees_of_freedom_of_a_balanced_design_are_the_exact_ones() -> None:
    # 10 people in two groups, 4 visits each: 8 degrees between people, 40 − 10 − 1 within
    rng = np.random.default_rng(6)
    people, years = np.repeat(np.arange(10), 4), np.tile(np.arange(4.0), 10)
    group = (people < 5).astype(float)
    y = 2.0 * rng.standard_normal(10)[people] + rng.standard_normal(40)
    fit = fit_random_intercept(np.column_stack([np.ones(40), group, years - 1.5]), y, people)
    assert fit.estimate(np.array([0.0, 1, 0])).df == pytest.approx(8, rel=1e-6)
    assert fit.estimate(np.array([0.0, 0, 1])).df == pytest.approx(29, rel=1e-6)
    means = y.reshape(10, 4).mean(axis=1)
    t = (means[:5].mean() - means[5:].mean()) / np.sqrt((means[:5].var(ddof=1) + means[5:].var(ddof=1)) / 5)
    assert fit.estimate(np.array([0.0, 1, 0])).statistic == pytest.approx(t, rel=1e-6)


def test_no_variance_between_groups_is_singular_and_is_least_squares() -> None:
    x, y, groups = _case(0.0)
    y = y - np.bincount(groups, y)[groups] / np.bincount(groups)[groups] + x @ [3.0, 0.0, 1.0]
    fit = fit_random_intercept(x, y, groups)
    plain = fit_ols(x, y)
    assert fit.singular
    assert fit.intercept_variance == 0
    assert fit.beta == pytest.approx(plain.beta, rel=1e-9)
    assert fit.covariance == pytest.approx(plain.classical, rel=1e-9)
    assert fit.estimate(np.eye(3)[2]).df == y.size - 3


def test_scale_of_the_outcome_changes_nothing_else() -> None:
    x, y, groups = _case(0.7)
    one, other = fit_random_intercept(x, y, groups), fit_random_intercept(x, 1e4 * y, groups)
    assert other.beta == pytest.approx(1e4 * one.beta, rel=1e-7)
    assert other.estimate(np.eye(3)[1]).df == pytest.approx(one.estimate(np.eye(3)[1]).df, rel=1e-5)


def test_a_group_for_every_row_is_refused() -> None:
    x, y, _ = _case(1.0)
    with pytest.raises(ValueError, match="repeated groups"):
        fit_random_intercept(x, y, np.arange(y.size))
