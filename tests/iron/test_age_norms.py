"""Norms of age: a spread that grows, z-scores that are standard, extrapolation that is flagged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from r2star.errors import UsageError
from r2star.group.design import Spline
from r2star.iron.norms import fit_norm, parse_norms


def _controls(n: int, growth: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 80, n)
    y = 15 + 15 * -np.expm1(-0.04 * age) + 2 * np.exp(growth * (age - 50)) * rng.standard_normal(n)
    return np.column_stack([np.ones(n), Spline((20.0, 40.0, 60.0, 80.0)).basis(age)]), y, age


def test_spread_that_grows_is_recovered_without_bias() -> None:
    found = [fit_norm(*_controls(120, 0.015, seed)).log_sd for seed in range(150)]
    slopes = np.array([slope for _, slope in found])
    assert (
        abs(slopes.mean() - 0.015) < 3 * slopes.std(ddof=1) / np.sqrt(150) + 0.0005
    )  # held at 0 now and then
    at_centre = np.array([log_sd for log_sd, _ in found])
    assert np.exp(at_centre).mean() == pytest.approx(2.0, rel=0.03)


def test_large_fit_is_the_maximum_likelihood_one() -> None:
    matrix, y, age = _controls(4000, 0.012)
    fit = fit_norm(matrix, y, age)
    scaled = age - age.mean()

    def minus_log_likelihood(p: np.ndarray) -> float:
        sd = np.exp(p[0] + p[1] * scaled)
        return float(np.log(sd).sum() + 0.5 * (((y - matrix @ p[2:]) / sd) ** 2).sum())

    start = np.concatenate([[0.5, 0.0], np.linalg.lstsq(matrix, y, rcond=None)[0]])
    best = optimize.minimize(minus_log_likelihood, start, method="BFGS", options={"gtol": 1e-4}).x
    assert fit.log_sd == pytest.approx(best[:2], abs=2e-3)
    assert fit.beta == pytest.approx(best[2:], abs=0.05)


def test_spread_never_shrinks_with_age() -> None:
    fit = fit_norm(*_controls(150, -0.02))
    assert not fit.sd_grows
    assert fit.log_sd[1] == 0
    assert fit.sd(np.array([30.0, 70.0])).std() == 0


def test_scores_of_new_healthy_people_are_standard_at_every_age() -> None:
    z, ages = [], []
    for seed in range(60):
        fit = fit_norm(*_controls(80, 0.015, seed))
        matrix, y, age = _controls(40, 0.015, seed + 1000)
        z.append(fit.z(y, matrix, age))
        ages.append(age)
    scores, age = np.concatenate(z), np.concatenate(ages)
    assert abs(scores.mean()) < 0.06
    for rows in (age < 40, (age >= 40) & (age < 60), age >= 60):
        assert scores[rows].std() == pytest.approx(1.03, abs=0.1)


def test_scores_of_the_controls_themselves_allow_for_their_own_weight() -> None:
    fits = [fit_norm(*_controls(40, 0.0, seed)) for seed in range(200)]
    scores = np.array([fit.studentised for fit in fits])
    assert scores.std() == pytest.approx(1, abs=0.02)
    assert stats.kstest(scores[:, 0], "norm").pvalue > 0.001


def test_ages_outside_the_controls_are_flagged() -> None:
    fit = fit_norm(*_controls(100, 0.0))
    low, high = fit.age_range_years
    beyond = fit.extrapolates(np.array([low - 0.1, low, 50, high, high + 0.1]))
    assert beyond.tolist() == [True, False, False, False, True]


def test_a_handful_of_controls_carry_no_norm() -> None:
    matrix, y, age = _controls(8, 0.0)
    with pytest.raises(ValueError, match="8 controls"):
        fit_norm(matrix, y, age)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "cubic"},
        {"ages_years": [20, 20, 60]},
        {"values": [1.0]},
        {"age_range_years": [20]},
        {"sd": None},
    ],
)
def test_norm_files_that_can_not_be_right_are_refused(change: dict[str, object]) -> None:
    curve = {
        "kind": "table",
        "ages_years": [20, 40, 60],
        "values": [20.0, 25.0, 27.0],
        "sd": 2.0,
        "age_range_years": [20, 60],
    }
    content = {"name": "n", "outcome": "r2star_median_per_s", "source": "s", "regions": {"putamen": curve}}
    curves = parse_norms(content).curves
    assert curves["putamen"].z(np.array([24.5]), np.array([30.0])).tolist() == [1.0]
    with pytest.raises(UsageError) as caught:
        parse_norms(content | {"regions": {"putamen": curve | change}}, "n.toml")
    assert caught.value.code == "E732"
