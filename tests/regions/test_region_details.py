"""Small print of the regions' rules: boundaries, plurals and the numbers of single steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from r2star.regions.labelled import VoxelMaps, gather, volumes_by_region, whole_labels
from r2star.regions.rule import VoxelRule
from r2star.regions.statistics import median_stderr, weighting_loss
from r2star.regions.summary import summarise_regions


class Region(NamedTuple):
    name: str
    hemisphere: str
    indices: tuple[int, ...]


def test_every_wanted_label_is_gathered_and_the_background_never() -> None:
    labels = np.array([0, 1, 2, 3, 1, -1], np.int16).reshape(6, 1, 1)
    maps = VoxelMaps(np.arange(6.0).reshape(6, 1, 1))
    found = gather(maps, labels, [0, 1, 3, -1])
    assert found.of((1,)).size == 2
    assert sorted(found.values["r2star_per_s"].tolist()) == [1, 3, 4, 5]
    assert found.of((0,)).size == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("place", "at_edge"), [(0, True), (1, False), (4, False), (5, True)])
def test_both_faces_of_the_image_are_its_edge(axis: int, place: int, at_edge: bool) -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    where = [2, 2, 2]
    where[axis] = place
    labels[tuple(where)] = 1
    (row, *_) = summarise_regions(
        VoxelMaps(np.ones((6, 6, 6))), labels, [Region("caudate", "L", (1,))], voxel_volume_mm3=1.0
    )
    np.testing.assert_equal(row.coverage, np.nan if at_edge else 1.0)
    assert ("W464" in row.warnings) == at_edge


@pytest.mark.parametrize(("n", "words"), [(1, "by 1 voxel,"), (2, "by 2 voxels,"), (3, "by 3 voxels,")])
def test_one_voxel_is_no_plural(n: int, words: str) -> None:
    assert words in VoxelRule(erosion_voxels=n).sentence()


def test_a_layer_more_asks_for_the_cube_of_the_voxels() -> None:
    rule = VoxelRule(erosion_voxels=3, erosion_needs_voxels=30)
    assert (
        "where the atlas expects 30 voxels or more, by 2 where 240, by 3 where 810 in each" in rule.sentence()
    )
    assert [rule.layers(n) for n in (29.9, 30, 239.9, 240, 809.9, 810, 1e6)] == [0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("n", [5, 6, 7, 8, 11, 12, 31, 100, 999])
def test_the_spread_of_a_median_is_that_of_its_order_statistics(n: int) -> None:
    values = np.random.default_rng(n).gamma(3, 10, n)
    rank = max(1, round((n + 1) / 2 - np.sqrt(n)))
    z = -stats.norm.ppf(stats.binom.cdf(rank - 1, n, 0.5))
    ordered = np.sort(values)
    assert median_stderr(values) == pytest.approx((ordered[n - rank] - ordered[rank - 1]) / (2 * z), rel=1e-9)


def test_fewer_than_five_voxels_tell_no_spread() -> None:
    assert np.isnan(median_stderr(np.array([1.0, 2.0, 3.0, 9.0])))
    assert np.isfinite(median_stderr(np.array([1.0, 2.0, 3.0, 5.0, 9.0])))


def test_unequal_weights_widen_the_error_of_a_mean_as_they_do_in_trials() -> None:
    weights = np.random.default_rng(0).uniform(0.1, 1, 40)
    means = np.random.default_rng(1).normal(0, 1, (200_000, 40)) @ weights / weights.sum()
    assert weighting_loss(weights) == pytest.approx(means.std() * np.sqrt(40), rel=0.01)
    assert weighting_loss(weights) > 1.1
    assert weighting_loss(np.zeros(0)) == 1.0


def test_a_single_voxel_is_few_and_none_is_no_region() -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[2, 2, 2] = 1
    maps = VoxelMaps(np.full((5, 5, 5), 20.0))
    regions = [Region("caudate", "L", (1,)), Region("putamen", "L", (2,))]
    rows = {row.region: row for row in summarise_regions(maps, labels, regions, voxel_volume_mm3=1.0)
            if row.hemisphere == "L"}  # fmt: skip
    assert "W463" in rows["caudate"].warnings
    assert "W461" not in rows["caudate"].warnings
    assert "W461" in rows["putamen"].warnings
    assert "W463" not in rows["putamen"].warnings


@pytest.mark.parametrize(("n_lost", "told"), [(0, False), (1, False), (5, False), (6, True), (10, True)])
def test_a_region_that_lost_more_than_half_of_its_voxels_says_so(n_lost: int, told: bool) -> None:
    values = np.full((10, 1, 1), 20.0)
    values[:n_lost] = np.nan
    (row, *_) = summarise_regions(
        VoxelMaps(values), np.ones((10, 1, 1), np.uint8), [Region("caudate", "L", (1,))], voxel_volume_mm3=1.0
    )
    assert ("W467" in row.warnings) == told
    assert row.n_valid == 10 - n_lost


def test_an_outlier_lies_beyond_so_many_scaled_deviations() -> None:
    # median 100, median deviation 10: three scaled deviations are 44.478
    values = np.array(
        [80, 90, 90, 100, 110, 110, 120, 100 + 44.4, 100 - 44.4, 100 + 44.6, 100 - 44.6, 100, 100]
    )
    labels = np.ones((13, 1, 1), np.uint8)
    maps = VoxelMaps(values.reshape(13, 1, 1))
    deviation = np.median(np.abs(values - np.median(values)))
    assert deviation == 10
    (row, *_) = summarise_regions(
        maps, labels, [Region("caudate", "L", (1,))], voxel_volume_mm3=1.0, rule=VoxelRule(outlier_mads=3.0)
    )
    assert row.n_valid == 11


def test_a_label_that_the_atlas_does_not_expect_is_not_eroded() -> None:
    labels = np.zeros((7, 7, 7), np.uint8)
    labels[1:6, 1:6, 1:6] = 1
    rule = VoxelRule(erosion_voxels=1, erosion_needs_voxels=3)
    maps = VoxelMaps(np.full((7, 7, 7), 20.0))
    regions = [Region("caudate", "L", (1, 2))]  # the second one is in no atlas' table of volumes
    for expected, n_valid in (({}, 125), ({1: 0.02}, 125), ({1: 0.03}, 27)):
        (row, *_) = summarise_regions(
            maps, labels, regions, voxel_volume_mm3=0.01, rule=rule, expected_volume_mm3=expected
        )
        assert row.n_valid == n_valid, expected


def test_what_scaled_storage_leaves_of_the_background_is_background() -> None:
    labels = np.array([0, 4e-4, -4e-4, 1, 1.0004], np.float32).reshape(5, 1, 1)
    found = gather(VoxelMaps(np.arange(5.0).reshape(5, 1, 1)), labels, [0, 1])
    assert found.of((0,)).size == 0
    assert found.values["r2star_per_s"].tolist() == [3, 4]


def test_a_side_without_label_has_a_row_of_no_voxels_and_no_numbers() -> None:
    labels = np.ones((5, 5, 5), np.uint8)
    rows = summarise_regions(
        VoxelMaps(np.full((5, 5, 5), 20.0)), labels, [Region("caudate", "L", (1,))], voxel_volume_mm3=1.0
    )
    left, *without = rows
    assert (left.n_voxels, left.n_valid, left.n_outliers) == (125, 125, 0)
    for row in without:
        assert (row.n_voxels, row.n_valid, row.n_outliers) == (0, 0, 0)
        assert row.warnings == ("W462",)
        numbers = [row.coverage, row.volume_mm3, *row.r2star_per_s.values(), row.r2star_stderr_per_s]
        assert np.isnan(numbers).all()


@pytest.mark.parametrize(("n_valid", "told"), [(9, True), (10, False), (11, False)])
def test_fewer_than_ten_valid_voxels_are_few(n_valid: int, told: bool) -> None:
    values = np.full((15, 1, 1), np.nan)
    values[:n_valid] = 20.0
    (row, *_) = summarise_regions(
        VoxelMaps(values), np.ones((15, 1, 1), np.uint8), [Region("caudate", "L", (1,))], voxel_volume_mm3=1.0
    )
    assert ("W463" in row.warnings, row.n_valid) == (told, n_valid)


@pytest.mark.parametrize(
    ("in_view", "coverage", "told"),
    [(0.0, 0.0, True), (44.0, 0.88, True), (45.0, 0.9, False), (60.0, 1.0, False)],
)
def test_a_region_is_cut_below_nine_tenths_of_its_volume(in_view: float, coverage: float, told: bool) -> None:
    (row, *_) = summarise_regions(
        VoxelMaps(np.full((5, 5, 5), 20.0)), np.ones((5, 5, 5), np.uint8), [Region("caudate", "L", (1, 2))],
        voxel_volume_mm3=1.0, expected_volume_mm3={1: 30.0, 2: 20.0}, inside_volume_mm3={1: in_view, 2: 0.0},
    )  # fmt: skip
    assert row.coverage == pytest.approx(coverage)
    assert ("W465" in row.warnings) == told


@pytest.mark.parametrize(("bias", "told"), [(0.999, False), (1.0, False), (1.001, True)])
def test_field_gradients_that_add_more_than_one_per_second_are_told(bias: float, told: bool) -> None:
    maps = VoxelMaps(np.full((3, 3, 3), 20.0), gradient_bias_per_s=np.full((3, 3, 3), bias))
    (row, *_) = summarise_regions(
        maps, np.ones((3, 3, 3), np.uint8), [Region("caudate", "L", (1,))], voxel_volume_mm3=1.0
    )
    assert ("W470" in row.warnings) == told


@pytest.mark.parametrize(("n_outliers", "told"), [(4, False), (5, False), (6, True)])
def test_more_outliers_than_one_voxel_in_twenty_are_many(n_outliers: int, told: bool) -> None:
    values = np.random.default_rng(0).normal(30, 1, (100, 1, 1))
    values[:n_outliers] = 400.0
    (row, *_) = summarise_regions(
        VoxelMaps(values), np.ones((100, 1, 1), np.uint8), [Region("caudate", "L", (1,))], voxel_volume_mm3=1.0,
        rule=VoxelRule(outlier_mads=9.0, outlier_factor=2.5),
    )  # fmt: skip
    assert (row.n_outliers, row.n_valid) == (n_outliers, 100 - n_outliers)
    assert ("W468" in row.warnings) == told


def test_a_single_slice_lies_at_the_edge_of_the_image() -> None:
    labels = np.zeros((6, 6, 1), np.uint8)
    labels[2, 2, 0] = 1
    (row, *_) = summarise_regions(
        VoxelMaps(np.ones((6, 6, 1))), labels, [Region("caudate", "L", (1,))], voxel_volume_mm3=1.0
    )
    assert np.isnan(row.coverage)
    assert "W464" in row.warnings


@pytest.mark.parametrize("dtype", [np.uint32, np.int64, np.uint64])
def test_whole_labels_of_any_size_are_labels(dtype: type) -> None:
    assert whole_labels(np.array([3, 2**31, 2**32 - 1], dtype)).tolist() == [3, 2**31, 2**32 - 1]
    assert whole_labels(np.array([False, True])).tolist() == [0, 1]


def test_volumes_are_voxels_times_their_volume_also_of_labels_beyond_the_largest_one_seen() -> None:
    labels = np.array([0, 1, 1, 4, 4, 4, 2], np.int16)
    regions = [Region("nigra", "L", (1, 2)), Region("nigra", "R", (4, 5)), Region("caudate", "L", (5,))]
    found = volumes_by_region(labels, regions, 1.5)
    assert found == {("nigra", "L"): 4.5, ("nigra", "R"): 4.5, ("caudate", "L"): 0.0}


def test_a_row_of_unequal_weights_is_that_of_numpy_and_its_error_grows_by_their_loss() -> None:
    generator = np.random.default_rng(5)
    values, weights = generator.gamma(9, 3, (4, 5, 3)), generator.uniform(0.1, 1, (4, 5, 3))
    labels, regions = np.ones(values.shape, np.uint8), [Region("caudate", "L", (1,))]
    (plain, *_) = summarise_regions(VoxelMaps(values), labels, regions, voxel_volume_mm3=1.5)
    (row, *_) = summarise_regions(VoxelMaps(values, weight=weights), labels, regions, voxel_volume_mm3=1.5)
    assert row.volume_mm3 == pytest.approx(1.5 * weights.sum())
    assert row.r2star_per_s["mean"] == pytest.approx(np.average(values, weights=weights))
    assert row.r2star_per_s["sd"] == pytest.approx(np.sqrt(np.cov(values.ravel(), aweights=weights.ravel())))
    loss = np.sqrt(60 * np.sum(weights**2)) / np.sum(weights)
    assert row.r2star_stderr_per_s == pytest.approx(plain.r2star_stderr_per_s * loss)


def test_residuals_of_nothing_tell_no_signal_to_noise() -> None:
    """Maps of a simulation without noise."""
    ones, labels = np.ones((3, 3, 3)), np.ones((3, 3, 3), np.uint8)
    maps = VoxelMaps(20 * ones, residual=0 * ones, first_echo=ones, last_echo=ones, s0=ones)
    (row, *_) = summarise_regions(maps, labels, [Region("caudate", "L", (1,))], voxel_volume_mm3=1.0)
    assert np.isnan([row.snr_first_echo, row.snr_last_echo]).all()
    assert row.fit_residual == 0.0


def test_values_at_the_limits_of_the_outlier_rule_are_none() -> None:
    values = np.array([30.0, 30.0, 30.0, 30.0, 30.0, 15.0, 60.0, 14.999, 60.001])
    rule = VoxelRule(outlier_mads=5, outlier_factor=2.0)
    assert rule.inliers(values).tolist() == [True] * 7 + [False] * 2
