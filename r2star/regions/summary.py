"""Voxels → statistics of every region, left, right and both together. Arrays only; may import errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.regions.labelled import LabelledVoxels, RegionLike, VoxelMaps, gather
from r2star.regions.rule import VoxelRule, eroded
from r2star.regions.statistics import (
    median_of,
    median_stderr,
    root_mean_square,
    spread_statistics,
    weighting_loss,
)

HEMISPHERES = ("L", "R", "LR")

#: Row warnings: code → what it says.
ROW_WARNINGS: Mapping[str, str] = {
    "W461": "no voxel of the region is in the image",
    "W462": "the segmentation has no label for this hemisphere",
    "W463": "few valid voxels",
    "W464": "the region touches the edge of the image: it may be cut",
    "W465": "the field of view cuts the region",
    "W466": "lesions overlap the region; the statistics are without them",
    "W467": "more than half of the region has no accepted estimate",
    "W468": "many outliers were left out",
    "W470": "field gradients add more than 1/s to R2*",
    "W475": "iron lies outside the range of the calibration",
}

#: A region to whose R2* field gradients add more is flagged, 1/s.
LARGE_BIAS_PER_S = 1.0


@dataclass(frozen=True)
class RegionSummary:
    """One row: a region of one hemisphere, or of both. NaN means that there is no such value."""

    region: str
    hemisphere: str
    indices: tuple[int, ...]
    n_voxels: int = 0
    n_valid: int = 0
    n_outliers: int = 0
    coverage: float = math.nan
    volume_mm3: float = math.nan
    r2star_per_s: Mapping[str, float] = field(default_factory=lambda: spread_statistics(np.zeros(0)))
    r2star_stderr_per_s: float = math.nan
    snr_first_echo: float = math.nan
    snr_last_echo: float = math.nan
    fit_residual: float = math.nan
    gradient_bias_per_s: float = math.nan
    lesion_overlap: float = math.nan
    iron_mg_per_kg: float = math.nan
    iron_stderr_mg_per_kg: float = math.nan
    iron_mass_ug: float = math.nan
    calibration: str = ""
    maps: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # further maps: name → statistics
    warnings: tuple[str, ...] = ()


def summarise_regions(
    maps: VoxelMaps,
    labels: NDArray[np.generic],
    regions: Sequence[RegionLike],
    *,
    voxel_volume_mm3: float,
    rule: VoxelRule | None = None,
    expected_volume_mm3: Mapping[int, float] | None = None,
    inside_volume_mm3: Mapping[int, float] | None = None,
) -> list[RegionSummary]:
    """Summarise each region by hemisphere: rows L, R and LR of each, always all, in the order given.

    The row LR is computed from the voxels of both hemispheres together. Where a side has no label, that row and
    LR hold no values.

    Parameters
    ----------
    maps, labels
        Arrays of one shape; 0 is background.
    regions
        One entry a region and hemisphere; ``LR`` for regions without sides.
    voxel_volume_mm3
        From the affine.
    rule
        Which voxels count.
    expected_volume_mm3, inside_volume_mm3
        By label number: volume of the whole label, of the head or the atlas, and of its part in view.
        Coverage is their ratio over the region's labels; without the second, the labelled volume stands for
        it. At most 1. Without the first, a region that nowhere touches the edge of the image has coverage 1.

    Raises
    ------
    InputError
        E461 where labels are no whole numbers, E462 where the shapes differ.
    """
    rule = rule or VoxelRule()
    names = list(dict.fromkeys(region.name for region in regions))
    by_side = {(region.name, region.hemisphere): tuple(region.indices) for region in regions}
    voxels = gather(maps, labels, [index for region in regions for index in region.indices])
    rows = []
    for name in names:
        left, right, both = (by_side.get((name, side), ()) for side in HEMISPHERES)
        joined = both or (tuple(sorted({*left, *right})) if left and right else ())
        sides = [indices for indices in (left, right, both) if indices]
        own_rule = _rule_for(sides, rule, voxels, voxel_volume_mm3, expected_volume_mm3)
        for side, indices in zip(HEMISPHERES, (left, right, joined), strict=True):
            if not indices:
                rows.append(RegionSummary(name, side, (), warnings=() if both else ("W462",)))
                continue
            coverage = _coverage(voxels, indices, voxel_volume_mm3, expected_volume_mm3, inside_volume_mm3)
            row = RegionSummary(name, side, indices, coverage=coverage)
            rows.append(_summarise(row, voxels, voxel_volume_mm3, own_rule))
    return rows


def _rule_for(
    sides: Sequence[tuple[int, ...]],
    rule: VoxelRule,
    voxels: LabelledVoxels,
    voxel_volume_mm3: float,
    expected_mm3: Mapping[int, float] | None,
) -> VoxelRule:
    """The rule for one region, eroded as the smaller of its sides can bear."""
    if expected_mm3 is None:
        sizes = [float(voxels.of(indices).size) for indices in sides]
    else:
        sizes = [sum(expected_mm3.get(i, 0.0) for i in side) / voxel_volume_mm3 for side in sides]
    return replace(rule, erosion_voxels=rule.layers(min(sizes, default=0.0)))


def _coverage(
    voxels: LabelledVoxels,
    indices: Sequence[int],
    voxel_volume_mm3: float,
    expected_mm3: Mapping[int, float] | None,
    inside_mm3: Mapping[int, float] | None,
) -> float:
    region = voxels.of(indices)
    if expected_mm3 is None:
        return 1.0 if region.size and not voxels.at_edge[region].any() else math.nan
    expected = math.fsum(expected_mm3.get(index, math.nan) for index in indices)
    if inside_mm3 is None:
        inside = region.size * voxel_volume_mm3
    else:
        inside = math.fsum(inside_mm3.get(index, math.nan) for index in indices)
    return min(1.0, inside / expected) if expected > 0 else math.nan


def _summarise(
    row: RegionSummary, gathered: LabelledVoxels, voxel_volume_mm3: float, rule: VoxelRule
) -> RegionSummary:
    """Fill the row of one region from its voxels."""
    region = gathered.of(row.indices)
    accepted = rule.accepts(gathered.values["r2star_per_s"][region], _at(gathered, "status", region))
    lesion = _at(gathered, "lesions", region)
    used, n_outliers = _used(gathered, region, accepted, lesion, rule)
    values = {key: array[used] for key, array in gathered.values.items()}
    weights = _at(gathered, "weight", region)
    n = region.size
    filled = replace(
        row,
        n_voxels=n,
        n_valid=used.size,
        n_outliers=n_outliers,
        volume_mm3=(n if weights is None else math.fsum(weights)) * voxel_volume_mm3,
        r2star_per_s=spread_statistics(values["r2star_per_s"], values.get("weight")),
        r2star_stderr_per_s=median_stderr(values["r2star_per_s"], values.get("stderr_per_s"))
        * weighting_loss(values.get("weight")),
        snr_first_echo=_snr(values, "first_echo"),
        snr_last_echo=_snr(values, "last_echo"),
        fit_residual=_median_ratio(values, "residual", "s0"),
        gradient_bias_per_s=median_of(values.get("gradient_bias_per_s", np.zeros(0))),
        lesion_overlap=float(np.count_nonzero(lesion)) / n if lesion is not None and n else math.nan,
        maps={name[4:]: _map_statistics(values, name) for name in values if name.startswith("map ")},
    )
    touched = bool(gathered.at_edge[region].any())
    return _with_warnings(filled, rule, int(np.count_nonzero(accepted)), at_edge=touched)


def _at(gathered: LabelledVoxels, name: str, region: NDArray[np.intp]) -> NDArray[Any] | None:
    return gathered.values[name][region] if name in gathered.values else None


def _used(
    gathered: LabelledVoxels,
    region: NDArray[np.intp],
    accepted: NDArray[np.bool_],
    lesion: NDArray[Any] | None,
    rule: VoxelRule,
) -> tuple[NDArray[np.intp], int]:
    """Voxels that count by the rule, and how many of the others were left out as outliers."""
    keep = accepted.copy()
    if rule.exclude_lesions and lesion is not None:
        keep &= lesion == 0
    if rule.erosion_voxels:
        keep &= eroded(tuple(axis[region] for axis in gathered.coordinates), rule.erosion_voxels)
    used = region[keep]
    near = rule.inliers(gathered.values["r2star_per_s"][used])
    return used[near], int(np.count_nonzero(~near))


def _map_statistics(values: Mapping[str, NDArray[np.floating]], name: str) -> Mapping[str, float]:
    """Median, mean, SD and number of the finite values of a further map, over the voxels that count for R2*."""
    finite = np.isfinite(values[name])
    weights = values["weight"][finite] if "weight" in values else None
    found = spread_statistics(values[name][finite], weights)
    kept = {key: found[key] for key in ("median", "mean", "sd")}
    return {**kept, "n_valid": int(np.count_nonzero(finite))}


def _snr(values: Mapping[str, NDArray[np.floating]], echo: str) -> float:
    """Median signal over σ: as given, or else the root mean square of the residuals of the region's voxels."""
    if "noise_sigma" in values or "residual" not in values or echo not in values:
        return _median_ratio(values, echo, "noise_sigma")
    sigma = root_mean_square(values["residual"])
    return median_of(values[echo]) / sigma if sigma > 0 else math.nan


def _median_ratio(values: Mapping[str, NDArray[np.floating]], above: str, below: str) -> float:
    if above not in values or below not in values:
        return math.nan
    ratio = np.full(values[above].shape, np.nan)
    np.divide(values[above], values[below], out=ratio, where=values[below] > 0, casting="unsafe")
    return median_of(ratio)


def _with_warnings(row: RegionSummary, rule: VoxelRule, n_accepted: int, *, at_edge: bool) -> RegionSummary:
    checks = {
        "W461": row.n_voxels == 0,
        "W463": row.n_voxels > 0 and row.n_valid < rule.few_voxels,
        "W464": at_edge,
        "W465": row.coverage < rule.low_coverage,
        "W466": row.lesion_overlap > 0,
        "W467": row.n_voxels > 0 and n_accepted < row.n_voxels / 2,
        "W468": row.n_outliers > rule.many_outliers * (row.n_valid + row.n_outliers),
        "W470": row.gradient_bias_per_s > LARGE_BIAS_PER_S,
    }
    warnings = tuple(code for code, holds in checks.items() if holds)
    return replace(row, warnings=warnings)
