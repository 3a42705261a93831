"""Statistics of one region: plain numpy, and the spread of the median over many simulated regions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import stats

from r2star.regions.statistics import _order_statistic, median_of, median_stderr, spread_statistics

Draw = Callable[[Generator, int], NDArray[np.float64]]


def test_statistics_agree_with_numpy() -> None:
    values = np.random.default_rng(1).gamma(4, 8, 501).astype(np.float32)
    found = spread_statistics(values)
    exact = values.astype(np.float64)
    assert found["median"] == np.median(exact)
    assert found["mean"] == pytest.approx(exact.mean(), rel=1e-14)
    assert found["sd"] == pytest.approx(exact.std(ddof=1), rel=1e-13)
    assert found["iqr"] == stats.iqr(exact)
    assert (found["p05"], found["p95"]) == tuple(np.percentile(exact, [5, 95]))


def test_statistics_of_none_and_of_one() -> None:
    assert all(math.isnan(value) for value in spread_statistics(np.zeros(0)).values())
    one = spread_statistics(np.array([7.0]))
    assert (one["median"], one["mean"], one["iqr"], one["p05"]) == (7, 7, 0, 7)
    assert math.isnan(one["sd"])
    assert math.isnan(median_of(np.array([np.nan])))


def test_the_order_of_voxels_changes_no_bit() -> None:
    generator = np.random.default_rng(2)
    values, stderr = generator.normal(30, 9, 4001), generator.gamma(3, 1, 4001)
    expected = spread_statistics(values), median_stderr(values, stderr)
    for _ in range(20):
        order = generator.permutation(values.size)
        assert (spread_statistics(values[order]), median_stderr(values[order], stderr[order])) == expected


@pytest.mark.parametrize("n", [5, 6, 10, 99, 400, 999])
def test_distance_of_the_order_statistics_is_the_binomials(n: int) -> None:
    rank, z = _order_statistic(n)
    assert z == pytest.approx(-stats.norm.ppf(stats.binom.cdf(rank - 1, n, 0.5)), rel=1e-9)
    assert rank == max(1, round((n + 1) / 2 - math.sqrt(n)))


def test_the_normal_tail_for_many_voxels_joins_the_binomial_one() -> None:
    for n in (1000, 5000):
        rank, z = _order_statistic(n)
        assert z == pytest.approx(-stats.norm.ppf(stats.binom.cdf(rank - 1, n, 0.5)), rel=3e-4)


DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda g, n: g.normal(30, 5, n),
    "skewed": lambda g, n: 20 + g.exponential(8, n),
    "two tissues": lambda g, n: np.where(g.random(n) < 0.3, g.normal(20, 2, n), g.normal(35, 4, n)),
    "tissue and noise": lambda g, n: g.uniform(25, 35, n) + g.normal(0, 2, n),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize(("n", "tolerance"), [(100, 0.18), (400, 0.06)])
def test_standard_error_is_the_spread_of_the_median_over_regions(name: str, n: int, tolerance: float) -> None:
    generator = np.random.default_rng(11)
    regions = [DISTRIBUTIONS[name](generator, n) for _ in range(3000)]
    observed = float(np.std([np.median(values) for values in regions]))
    reported = math.sqrt(float(np.mean([median_stderr(values) ** 2 for values in regions])))
    assert reported == pytest.approx(observed, rel=tolerance)


@pytest.mark.parametrize(("n", "tolerance"), [(n, 0.03) for n in (1, 2, 3, 4, 30, 300)])
def test_noise_part_is_the_spread_of_the_median_in_uniform_tissue(n: int, tolerance: float) -> None:
    """Equal standard errors, with the spread of the values kept from having a say."""
    generator = np.random.default_rng(12)
    observed = float(np.std(np.median(generator.normal(30, 3, (20000, n)), axis=1)))
    assert median_stderr(np.full(n, 30.0), np.full(n, 3.0)) == pytest.approx(observed, rel=tolerance)


def test_noise_part_with_unequal_standard_errors() -> None:
    generator = np.random.default_rng(13)
    stderr = np.tile([1.0, 2.0, 4.0, 8.0], 50)
    observed = float(np.std(np.median(generator.normal(30, stderr, (20000, 200)), axis=1)))
    assert median_stderr(np.full(200, 30.0), stderr) == pytest.approx(observed, rel=0.03)


def test_standard_error_takes_the_greater_part_and_misses_none() -> None:
    spread = np.linspace(20, 40, 101)
    assert median_stderr(spread, np.full(101, 0.01)) == median_stderr(spread)
    assert median_stderr(spread, np.full(101, 500.0)) == median_stderr(np.full(101, 1.0), np.full(101, 500.0))
    assert median_stderr(spread, np.full(101, np.nan)) == median_stderr(spread)
    assert math.isnan(median_stderr(np.array([1.0, 2.0])))
    assert median_stderr(np.array([1.0, 2.0]), np.array([0.0, np.nan])) == 0.0
