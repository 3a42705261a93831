"""Measures of quality against shifts, volumes and shares that are known beforehand."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from r2star.regions.quality import (
    METRICS,
    echo_shift,
    measured,
    percentile_of,
    share_of,
    volume_measures,
    worst,
)

PAGE = Path(__file__).parents[2] / "docs/reference/quality.md"


def published_limits() -> dict[str, str]:
    """Metric → its limits, as the reference page has them."""
    limits: dict[str, str] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = re.findall(r"`(\w+)`", cells[0])
        if len(cells) == 3 and cells[2] != "doubtful, fail":
            limits |= dict(zip(names, [*cells[2].split("; ")] * len(names)))
    return limits


@pytest.fixture(scope="module")
def head() -> np.ndarray:
    rng = np.random.default_rng(3)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (40, 44, 30)), indexing="ij")
    return np.where(x**2 + y**2 + z**2 < 0.6, 100 + 40 * gaussian_filter(rng.normal(size=x.shape), 1.5), 0)


@pytest.mark.parametrize("voxels", [(0, 0, 0), (1, 0, 0), (0.5, -0.25, 0), (2, 1, -1)])
def test_a_planted_shift_is_found_to_a_tenth_of_a_voxel(head: np.ndarray, voxels: tuple[float, ...]) -> None:
    size_mm = (1.0, 1.0, 2.0)
    moved = shift(head, voxels, order=3, mode="nearest")
    expected = float(np.linalg.norm(np.array(voxels) * size_mm))
    # decayed, as the next echo is, and with noise
    noisy = 0.8 * moved + np.random.default_rng(1).normal(0, 1, head.shape)
    for scale in (1.0, 1e-4, 1e4):  # of the images' unit, which is nobody's choice
        assert echo_shift(scale * head, scale * noisy, size_mm) == pytest.approx(expected, abs=0.15)


def test_volumes_of_the_atlas_scaled_as_a_whole_are_no_deviation() -> None:
    atlas = {("putamen", "L"): 4000.0, ("putamen", "R"): 4200.0, ("pallidum", "L"): 1500.0}
    found = {
        (one.metric, one.part, one.hemisphere): one
        for one in volume_measures({k: 1.3 * v for k, v in atlas.items()}, atlas)
    }
    for (metric, *_), one in found.items():
        assert one.value == pytest.approx(1.0 if metric == "volume_ratio" else 0.0)
        assert one.verdict == "pass"
    assert ("volume_asymmetry", "pallidum", "") not in found  # its right side is not in the atlas


def test_a_small_left_side_is_told_with_its_sign() -> None:
    atlas = {("putamen", "L"): 4000.0, ("putamen", "R"): 4000.0}
    found = volume_measures({("putamen", "L"): 2000.0, ("putamen", "R"): 4000.0}, atlas)
    (asymmetry,) = [one for one in found if one.metric == "volume_asymmetry"]
    assert asymmetry.value == pytest.approx(math.log(0.5))
    assert asymmetry.verdict == "doubtful"


def test_a_region_that_is_absent_has_no_asymmetry_and_fails_its_ratio() -> None:
    atlas = {("a", "L"): 10.0, ("a", "R"): 10.0, ("b", "L"): 10.0}
    found = volume_measures({("a", "R"): 10.0, ("b", "L"): 10.0}, atlas)
    by_key = {(one.metric, one.part, one.hemisphere): one for one in found}
    assert math.isnan(by_key["volume_asymmetry", "a", ""].value)
    assert by_key["volume_asymmetry", "a", ""].verdict is None
    assert by_key["volume_ratio", "a", "L"].verdict == "fail"


def test_a_region_that_the_atlas_gives_no_volume_is_not_judged() -> None:
    atlas = {("a", "L"): 10.0, ("a", "R"): 10.0, ("b", "L"): 0.0, ("b", "R"): 5.0}
    found = volume_measures({("a", "L"): 10.0, ("a", "R"): 10.0, ("b", "L"): 3.0, ("b", "R"): 5.0}, atlas)
    assert [(one.metric, one.part, one.hemisphere, one.value) for one in found] == [
        ("volume_ratio", "a", "L", 1.0),
        ("volume_ratio", "a", "R", 1.0),
        ("volume_ratio", "b", "R", 1.0),
        ("volume_asymmetry", "a", "", 0.0),
    ]


def test_where_most_regions_are_absent_no_ratio_can_be_told() -> None:
    atlas = {("a", "L"): 10.0, ("a", "R"): 10.0, ("b", "L"): 10.0}
    found = volume_measures({("b", "L"): 10.0}, atlas)
    assert np.isnan([one.value for one in found]).all()


def test_limits_are_taken_from_the_right_side() -> None:
    for name, metric in METRICS.items():
        if metric.limits is None:
            continue
        doubtful, fail = metric.limits
        beyond = fail + (fail - doubtful)
        good = doubtful - (fail - doubtful) / 2
        assert measured(name, beyond).verdict == "fail", name
        assert measured(name, (doubtful + fail) / 2).verdict == "doubtful", name
        assert measured(name, good).verdict == "pass", name
        assert measured(name, math.nan).verdict is None
        assert metric.advice


@pytest.mark.parametrize("name", list(METRICS))
def test_verdicts_change_at_the_limits_that_are_published(name: str) -> None:
    """A value at a limit is still on its better side; the next number beyond it is not."""
    told = published_limits()[name]
    numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", told)]
    if told == "not judged":
        assert measured(name, 1e9).verdict is None
        return
    if told.startswith("outside"):
        bounds = [(numbers[0], -1), (numbers[1], 1), (numbers[2], -1), (numbers[3], 1)]
    elif told.startswith("beyond"):
        bounds = [(sign * number, sign) for number in numbers for sign in (1, -1)]
    else:
        bounds = [(number, -1 if "<" in told else 1) for number in numbers]
    half = len(bounds) // 2
    for number, (limit, worse) in enumerate(bounds):
        at, beyond = measured(name, limit), measured(name, math.nextafter(limit, worse * math.inf))
        assert (at.verdict, beyond.verdict) == (
            ("pass", "doubtful") if number < half else ("doubtful", "fail")
        )
        assert (at.metric, at.part, at.hemisphere, at.value) == (name, "brain", "", limit)


def test_shares_and_medians_leave_out_what_is_outside_or_not_finite() -> None:
    where = np.array([True, True, True, False])
    assert percentile_of(np.array([1.0, np.nan, 3.0, 99.0]), where) == 2.0
    assert share_of(np.array([True, False, False, True]), where) == pytest.approx(1 / 3)
    assert math.isnan(share_of(where, np.zeros(4, bool)))
    assert worst([]) == "pass"
    assert worst(["pass", "fail", "doubtful", None]) == "fail"
