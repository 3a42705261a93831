"""Label images → rows: every number against a plain loop over regions, and each rule and warning."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from r2star.errors import InputError
from r2star.regions.labelled import VoxelMaps, whole_labels
from r2star.regions.rule import VoxelRule, eroded
from r2star.regions.summary import RegionSummary, summarise_regions
from r2star.regions.table import COLUMNS, format_number, table_row, table_sidecar, table_text
from r2star.steps.tables import DEFAULT_RULE


class Region(NamedTuple):
    name: str
    hemisphere: str
    indices: tuple[int, ...]


REGIONS = (
    Region("caudate", "L", (1,)), Region("caudate", "R", (101,)), Region("nigra", "L", (7, 9)),
    Region("nigra", "R", (107, 109)),
)  # fmt: skip


def head(seed: int = 4, shape: tuple[int, int, int] = (24, 20, 16)) -> tuple[VoxelMaps, NDArray[np.uint8]]:
    """Smooth blobs of the six labels, away from the edge, with maps of random numbers around plausible ones."""
    generator = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(generator.normal(size=shape), 2.5)
    cuts = np.quantile(field, [0.4, 0.55, 0.6, 0.75, 0.9, 0.95])
    labels = np.array([0, 1, 101, 7, 9, 107, 109], np.uint8)[np.digitize(field, cuts)]
    inner = np.zeros(shape, bool)
    inner[1:-1, 1:-1, 1:-1] = True
    labels[~inner] = 0
    r2star = generator.gamma(9, 3, shape).astype(np.float32)
    r2star[generator.random(shape) < 0.05] = np.nan
    maps = VoxelMaps(
        r2star, generator.gamma(4, 0.5, shape).astype(np.float32), generator.integers(0, 4, shape, dtype=np.uint8),
        generator.gamma(50, 2, shape), generator.gamma(4, 1, shape), generator.gamma(40, 2, shape),
        generator.gamma(20, 2, shape), 2.5, generator.normal(1, 0.2, shape), generator.random(shape) < 0.1,
    )  # fmt: skip
    return maps, labels


def rows_by_key(rows: list[RegionSummary]) -> dict[tuple[str, str], RegionSummary]:
    return {(row.region, row.hemisphere): row for row in rows}


def test_rows_are_what_a_loop_over_regions_gives() -> None:
    maps, labels = head()
    rule = VoxelRule(accepted_status=(0, 2))
    rows = summarise_regions(maps, labels, REGIONS, voxel_volume_mm3=1.5, rule=rule)
    sets = {"L": {"caudate": [1], "nigra": [7, 9]}, "R": {"caudate": [101], "nigra": [107, 109]}}
    sets["LR"] = {name: sets["L"][name] + sets["R"][name] for name in sets["L"]}
    assert [(row.region, row.hemisphere) for row in rows] == [
        (name, side) for name in ("caudate", "nigra") for side in ("L", "R", "LR")
    ]
    for row in rows:
        inside = np.isin(labels, sets[row.hemisphere][row.region])
        used = inside & np.isfinite(maps.r2star_per_s) & np.isin(maps.status, [0, 2]) & ~maps.lesions
        assert (row.n_voxels, row.n_valid) == (inside.sum(), used.sum())
        assert row.volume_mm3 == 1.5 * inside.sum()
        assert row.r2star_per_s["median"] == np.median(maps.r2star_per_s[used].astype(float))
        assert row.r2star_per_s["sd"] == pytest.approx(
            maps.r2star_per_s[used].astype(float).std(ddof=1), rel=1e-12
        )
        assert row.snr_first_echo == np.median(maps.first_echo[used] / 2.5)
        assert row.snr_last_echo == np.median(maps.last_echo[used] / 2.5)
        assert row.fit_residual == np.median(maps.residual[used] / maps.s0[used])
        assert row.gradient_bias_per_s == np.median(maps.gradient_bias_per_s[used])
        assert row.lesion_overlap == maps.lesions[inside].mean()
        assert row.r2star_stderr_per_s > 0


def test_residuals_stand_for_a_noise_that_is_not_known() -> None:
    """Residuals of √(σ²·χ²/ν), ν = 4, as a fit of six echoes leaves them: σ comes back."""
    generator = np.random.default_rng(8)
    labels = np.ones((30, 30, 30), np.uint8)
    residual = 3 * np.sqrt(generator.chisquare(4, labels.shape) / 4)
    echo = np.full(labels.shape, 180.0)
    maps = VoxelMaps(echo, residual=residual, first_echo=echo, last_echo=echo / 2)
    row = summarise_regions(maps, labels, [Region("x", "L", (1,))], voxel_volume_mm3=1)[0]
    assert row.snr_first_echo == pytest.approx(60, rel=0.01)
    assert row.snr_last_echo == row.snr_first_echo / 2


def test_left_and_right_together_are_the_joined_voxels_not_the_mean_of_two_medians() -> None:
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[2, 2, 2:5], labels[6, 6, 2:4] = 1, 101
    r2star = np.zeros(labels.shape)
    r2star[labels == 1], r2star[labels == 101] = [10, 20, 30], [40, 50]
    left, right, both = summarise_regions(VoxelMaps(r2star), labels, REGIONS[:2], voxel_volume_mm3=1)
    assert [row.r2star_per_s["median"] for row in (left, right, both)] == [20, 45, 30]
    assert both.indices == (1, 101)


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1, 2)])
def test_flipped_storage_gives_the_same_bytes(axes: tuple[int, ...]) -> None:
    maps, labels = head()
    names = [name for name in maps.__dataclass_fields__ if isinstance(getattr(maps, name), np.ndarray)]
    flipped = replace(maps, **{name: np.flip(getattr(maps, name), axes).copy() for name in names})
    texts = []
    for one, numbers in ((maps, labels), (flipped, np.flip(labels, axes)), (maps, np.asfortranarray(labels))):
        rows = summarise_regions(one, numbers, REGIONS, voxel_volume_mm3=2, rule=VoxelRule(erosion_voxels=1))
        cells = [
            table_row(row, identity={"sub": "01"}, segmentation="x", field_strength_tesla=3, n_echoes=6)
            for row in rows
        ]
        texts.append(table_text(cells))
    assert texts[0] == texts[1] == texts[2]


def test_one_side_alone_stays_on_its_side() -> None:
    maps, labels = head()
    left, right, both = summarise_regions(maps, labels, REGIONS[:1], voxel_volume_mm3=1)
    assert left.n_voxels == np.count_nonzero(labels == 1)
    assert (right.n_voxels, both.n_voxels) == (0, 0)
    assert right.warnings == both.warnings == ("W462",)
    assert math.isnan(both.r2star_per_s["median"])


def test_a_region_without_sides_has_its_values_in_the_row_of_both() -> None:
    maps, labels = head()
    left, right, both = summarise_regions(maps, labels, [Region("stem", "LR", (7,))], voxel_volume_mm3=1)
    assert both.n_voxels == np.count_nonzero(labels == 7)
    assert (left.n_voxels, right.n_voxels, left.warnings) == (0, 0, ())


def test_a_label_that_is_not_in_the_image_keeps_its_row() -> None:
    maps, labels = head()
    labels[labels == 101] = 0
    _, right, both = summarise_regions(
        maps, labels, REGIONS[:2], voxel_volume_mm3=1, expected_volume_mm3={1: 1e6, 101: 100.0}
    )
    assert (right.n_voxels, right.n_valid, right.coverage) == (0, 0, 0)
    assert right.volume_mm3 == 0
    assert math.isnan(right.r2star_per_s["median"])
    assert right.warnings == ("W461", "W465")
    assert both.n_voxels == np.count_nonzero(labels == 1)


def test_coverage_is_of_the_whole_region() -> None:
    maps, labels = head()
    expected, inside = {1: 200.0, 101: 100.0, 7: 10.0, 9: 10.0}, {1: 100.0, 101: 100.0, 7: 12.0, 9: 10.0}
    rows = rows_by_key(
        summarise_regions(maps, labels, REGIONS, voxel_volume_mm3=1, expected_volume_mm3=expected,
                          inside_volume_mm3=inside)
    )  # fmt: skip
    assert rows["caudate", "L"].coverage == 0.5
    assert rows["caudate", "LR"].coverage == pytest.approx(2 / 3)
    assert rows["nigra", "L"].coverage == 1
    assert math.isnan(rows["nigra", "R"].coverage)
    assert "W465" in rows["caudate", "L"].warnings
    assert "W465" not in rows["caudate", "R"].warnings
    rows = rows_by_key(
        summarise_regions(maps, labels, REGIONS, voxel_volume_mm3=2, expected_volume_mm3={1: 10_000.0})
    )
    assert rows["caudate", "L"].coverage == pytest.approx(2 * np.count_nonzero(labels == 1) / 10_000)


def test_a_region_at_the_edge_of_the_image_is_flagged() -> None:
    maps, labels = head()
    assert "W464" not in summarise_regions(maps, labels, REGIONS, voxel_volume_mm3=1)[1].warnings
    labels[-1, 4, 4] = 101
    left, right, both = summarise_regions(maps, labels, REGIONS, voxel_volume_mm3=1)[:3]
    assert ["W464" in row.warnings for row in (left, right, both)] == [False, True, True]
    assert left.coverage == 1
    assert math.isnan(right.coverage)
    assert math.isnan(both.coverage)


def test_a_region_whose_r2star_the_field_raises_by_more_than_1_per_s_is_flagged() -> None:
    maps, labels = head()
    bias = np.where(labels == 1, 0.99, 1.01)
    left, right, _ = summarise_regions(
        replace(maps, gradient_bias_per_s=bias), labels, REGIONS[:2], voxel_volume_mm3=1
    )
    assert ["W470" in row.warnings for row in (left, right)] == [False, True]
    unknown = replace(maps, gradient_bias_per_s=np.full(labels.shape, np.nan))
    rows = summarise_regions(unknown, labels, REGIONS, voxel_volume_mm3=1)
    assert not any("W470" in row.warnings for row in rows)


def test_small_unreliable_and_lesioned_regions_are_flagged() -> None:
    labels = np.zeros((20, 20, 3), np.uint8)
    labels[2:12, 2, 1], labels[2:11, 6, 1] = 1, 101
    r2star = np.full(labels.shape, 30.0)
    r2star[2:8, 2, 1] = np.nan
    lesions = labels == 101
    lesions[2:6, 6, 1] = False
    left, right, _ = summarise_regions(
        VoxelMaps(r2star, lesions=lesions), labels, REGIONS[:2], voxel_volume_mm3=1
    )
    assert (left.n_voxels, left.n_valid, left.warnings) == (10, 4, ("W463", "W467"))
    assert (right.n_voxels, right.n_valid, right.warnings) == (9, 4, ("W463", "W466"))
    assert right.lesion_overlap == pytest.approx(5 / 9)
    with_lesions = summarise_regions(
        VoxelMaps(r2star, lesions=lesions), labels, REGIONS[:2], voxel_volume_mm3=1,
        rule=VoxelRule(exclude_lesions=False),
    )  # fmt: skip
    assert with_lesions[1].n_valid == 9


def test_nan_in_one_region_leaves_the_others_alone() -> None:
    maps, labels = head()
    before = rows_by_key(summarise_regions(maps, labels, REGIONS, voxel_volume_mm3=1))
    r2star = maps.r2star_per_s.copy()
    r2star[(labels == 1) & (np.arange(r2star.size).reshape(r2star.shape) % 20 == 0)] = np.inf
    after = rows_by_key(
        summarise_regions(replace(maps, r2star_per_s=r2star), labels, REGIONS, voxel_volume_mm3=1)
    )
    changed = {key for key in before if repr(before[key]) != repr(after[key])}
    assert changed == {("caudate", "L"), ("caudate", "LR")}
    assert after["caudate", "L"].n_valid < before["caudate", "L"].n_valid


def test_outliers_are_left_out_and_counted() -> None:
    labels = np.zeros((30, 5, 5), np.uint8)
    labels[2:27, 2, 2] = 1
    r2star = np.full(labels.shape, np.nan)
    r2star[labels == 1] = np.r_[np.linspace(28, 32, 23), 300, -200]
    rule = VoxelRule(outlier_mads=5)
    row = summarise_regions(VoxelMaps(r2star), labels, REGIONS[:1], voxel_volume_mm3=1, rule=rule)[0]
    assert (row.n_voxels, row.n_valid, row.n_outliers) == (25, 23, 2)
    assert row.r2star_per_s["mean"] == pytest.approx(30)
    assert row.warnings == ("W468",)


def tissue(values: NDArray[np.floating]) -> RegionSummary:
    """A region of these values, measured by the rule of the pipeline."""
    labels = np.ones((values.size + 2, 3, 3), np.uint8)
    labels[[0, -1]], labels[:, [0, 2]], labels[:, :, [0, 2]] = 0, 0, 0
    r2star = np.zeros(labels.shape)
    r2star[labels == 1] = values
    rule = replace(DEFAULT_RULE, erosion_voxels=0)
    return summarise_regions(VoxelMaps(r2star), labels, REGIONS[:1], voxel_volume_mm3=1, rule=rule)[0]


@pytest.mark.parametrize("noise_per_s", [0.5, 3.0, 12.0])
def test_the_outlier_rule_leaves_clean_tissue_as_it_is(noise_per_s: float) -> None:
    """No voxel of 200 regions of 500 leaves at noise up to a SD of 40 %, and no median moves."""
    generator = np.random.default_rng(5)
    for _ in range(200):
        values = generator.normal(30, noise_per_s, 500)
        row = tissue(values)
        assert row.n_outliers <= 1
        assert row.r2star_per_s["median"] == pytest.approx(np.median(values), abs=0.01 * noise_per_s)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_the_outlier_rule_keeps_tissue_rich_in_iron(share: float) -> None:
    """Quiet tissue at 25/s with a part at twice that: all of it stays, as does a long tail."""
    generator = np.random.default_rng(6)
    values = generator.normal(25, 0.8, 1000)
    values[: int(share * 1000)] += 25
    assert tissue(values).n_outliers == 0
    assert tissue(20 + generator.exponential(8, 1000)).n_outliers <= 10


def test_vessels_calcification_and_fluid_are_left_out() -> None:
    generator = np.random.default_rng(7)
    values = generator.normal(25, 1.5, 1000)
    values[:30], values[30:50], values[50:90] = 150, 400, 3
    row = tissue(values)
    assert row.n_outliers == 90
    assert row.r2star_per_s["mean"] == pytest.approx(25, abs=0.2)
    assert row.warnings == ("W468",)


@pytest.mark.parametrize("n", [1, 2])
def test_erosion_agrees_with_scipy(n: int) -> None:
    _, labels = head(seed=9)
    region = np.isin(labels, [1, 101, 7])
    region[0, :6, :6] = True
    expected = ndimage.binary_erosion(region, ndimage.generate_binary_structure(3, 1), iterations=n)
    coordinates = np.nonzero(region)
    found = np.zeros_like(region)
    found[coordinates] = eroded(coordinates, n)
    assert np.array_equal(found, expected)
    assert 0 < found.sum() < region.sum()
    assert eroded(tuple(np.zeros(0, int) for _ in range(3)), 1).size == 0


def test_erosion_is_of_the_region_not_of_its_labels_or_sides() -> None:
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[2:4, 2:7, 2:7], labels[4:6, 2:7, 2:7] = 7, 9
    rule = VoxelRule(erosion_voxels=1)
    row = summarise_regions(
        VoxelMaps(np.ones(labels.shape)), labels, REGIONS[2:], voxel_volume_mm3=1, rule=rule
    )[0]
    assert (row.n_voxels, row.n_valid) == (100, 2 * 3 * 3)


def test_labels_near_whole_numbers_are_those_and_others_are_refused() -> None:
    values = np.array([0.0, 3.0000458, 5.9999999, 2.9995], np.float64)
    assert whole_labels(values).tolist() == [0, 3, 6, 3]
    for wrong in (3.0011, 2.5, np.nan, np.inf, 1e300):
        with pytest.raises(InputError, match="E461"):
            whole_labels(np.array([1.0, wrong]))


def test_maps_of_another_shape_are_refused() -> None:
    maps, labels = head()
    with pytest.raises(InputError, match="status has shape"):
        summarise_regions(
            replace(maps, status=np.zeros((2, 2, 2), np.uint8)), labels, REGIONS, voxel_volume_mm3=1
        )


def test_rows_have_all_columns_in_order_and_n_a_for_what_is_missing() -> None:
    row = table_row(
        RegionSummary("caudate", "L", (1, 2), warnings=("W461",)),
        identity={"sub": "01", "ses": "02", "acq": "a", "rec": "r"},
        segmentation="CIT168", field_strength_tesla=None, n_echoes=6, warnings=("W202", "W461"),
    )  # fmt: skip
    assert " ".join(row) == (
        "participant_id session_id acquisition_id run_id segmentation region hemisphere index n_voxels n_valid "
        "coverage volume_mm3 r2star_median_per_s r2star_mean_per_s r2star_sd_per_s r2star_iqr_per_s "
        "r2star_p05_per_s r2star_p95_per_s r2star_stderr_per_s snr_first_echo snr_last_echo fit_residual "
        "gradient_bias_per_s lesion_overlap iron_mg_per_kg iron_stderr_mg_per_kg iron_mass_ug calibration "
        "field_strength_tesla n_echoes warnings"
    )
    told = {key: value for key, value in row.items() if value != "n/a"}
    assert told == {
        "participant_id": "sub-01", "session_id": "ses-02", "acquisition_id": "acq-a", "segmentation": "CIT168",
        "region": "caudate", "hemisphere": "L", "index": "1+2", "n_voxels": "0", "n_valid": "0", "n_echoes": "6",
        "warnings": "W202;W461",
    }  # fmt: skip


def test_numbers_have_six_digits_and_come_back() -> None:
    for value in np.random.default_rng(3).lognormal(0, 6, 500):
        assert float(format_number(float(value))) == pytest.approx(value, rel=5.1e-6)
    assert format_number(math.inf) == "n/a"


def test_the_sidecar_describes_every_column_and_the_rule() -> None:
    sidecar = table_sidecar(VoxelRule(accepted_status=(0, 10), erosion_voxels=2, outlier_mads=5))
    assert set(COLUMNS) | {"VoxelRule", "OutliersLeftOut"} == set(sidecar)
    assert all(sidecar[name]["Description"] for name in COLUMNS)
    assert {name for name in COLUMNS if name.endswith("_per_s")} == {
        name for name in COLUMNS if sidecar[name].get("Units") == "1/s"
    }
    assert sidecar["VoxelRule"]["Description"] == (
        "Voxels of the label, eroded by 2 voxels, with a finite R2* and fit status 0, 10, outside lesions, "
        "within 5 scaled one-sided median absolute deviations of the region's median or within a factor of 1 of it."
    )


@pytest.mark.parametrize(("expected_mm3", "eroded_side"), [(None, False), (30.0, True), (29.0, False)])
def test_a_region_is_eroded_by_what_the_atlas_expects_of_it(
    expected_mm3: float | None, eroded_side: bool
) -> None:
    numbers = np.zeros((9, 9, 9), np.uint8)
    numbers[1:4, 1:4, 1:4] = 1  # 27 voxels, of which one is left by erosion
    numbers[5:8, 1:4, 1:4] = 2
    maps = VoxelMaps(r2star_per_s=np.ones((9, 9, 9)))
    pair = [Region("putamen", "L", (1,)), Region("putamen", "R", (2,))]
    rule = VoxelRule(erosion_voxels=1, erosion_needs_voxels=30)
    expected = None if expected_mm3 is None else {1: expected_mm3, 2: 40.0}
    rows = summarise_regions(maps, numbers, pair, voxel_volume_mm3=1, rule=rule, expected_volume_mm3=expected)
    # both sides or none: a participant's left and right are never measured by different rules
    assert [row.n_valid for row in rows] == ([1, 1, 2] if eroded_side else [27, 27, 54])
    assert [row.n_voxels for row in rows] == [27, 27, 54]


@pytest.mark.parametrize(("expected_mm3", "left"), [(63.0, 512), (64.0, 6**3), (512.0, 4**3), (5000.0, 4**3)])
def test_a_larger_region_loses_more_layers(expected_mm3: float, left: int) -> None:
    numbers = np.zeros((10, 10, 10), np.uint8)
    numbers[1:9, 1:9, 1:9] = 1
    rows = summarise_regions(
        VoxelMaps(r2star_per_s=np.ones(numbers.shape)), numbers, [Region("thalamus", "L", (1,))], voxel_volume_mm3=1,
        rule=VoxelRule(erosion_voxels=2, erosion_needs_voxels=64), expected_volume_mm3={1: expected_mm3},
    )  # fmt: skip
    assert rows[0].n_valid == left
