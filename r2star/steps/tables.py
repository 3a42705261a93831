"""Step: maps and labels → the region table with its sidecar. Reads through `r2star.images`.

Every image must lie on the labels' grid. The numbers are those of `r2star.regions`; here they get their files, their
regions, their iron and the unit's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from r2star.atlas.model import Region
from r2star.bids.sidecars import write_json
from r2star.errors import InputError, Notice
from r2star.files import write_text_atomically
from r2star.fit.status import Status
from r2star.images import Grid, Image, read_image
from r2star.regions.labelled import VoxelMaps
from r2star.regions.rule import VoxelRule
from r2star.regions.summary import ROW_WARNINGS, RegionSummary, summarise_regions
from r2star.regions.table import table_row, table_sidecar, table_text
from r2star.steps.coverage import LabelVolumes
from r2star.steps.iron import load_calibration, with_iron
from r2star.steps.noise import read_sigma
from r2star.steps.segmentations import atlas_segmentation, own_segmentation

#: Voxels with a value count, whatever doubt their status tells: leaving out the doubtful would bias the median.
#: Eroded, planted R2* comes back within 1 % in the pallidum instead of 2.6 % (1 × 1 × 1.5 mm), and within 1 %
#: instead of 9 % in a caudate that is drawn narrower than the atlas draws it.
#: Vessels, calcification and fluid lie beyond both fences; tissue rich in iron does not, see docs/explanation/regions.
DEFAULT_RULE = VoxelRule(
    accepted_status=tuple(int(code) for code in Status if code.has_value),
    erosion_voxels=3,
    erosion_needs_voxels=400,
    outlier_mads=5,
    outlier_factor=2.5,
)
#: Lesions are measured whole: they are small, and their edge is part of them.
_LESION_RULE = replace(DEFAULT_RULE, erosion_voxels=0, exclude_lesions=False)
#: Grids of one unit agree to this at the corners, mm.
GRID_TOLERANCE_MM = 0.01


class RegionTable(NamedTuple):
    """The table and its JSON sidecar; ``notices`` tell of the regions (not the sub-regions), once a kind."""

    table: Path
    sidecar: Path
    derivatives: tuple[Path, ...]
    notices: tuple[Notice, ...]


@dataclass(frozen=True)
class _Unit:
    """What every row of a table has alike."""

    identity: Mapping[str, str]
    n_echoes: int
    field_strength_tesla: float | None
    warnings: frozenset[str]
    map_names: tuple[str, ...]


def write_region_table(
    r2star_map: Path,
    labels: Path,
    atlas: str,
    entities: dict[str, str],
    n_echoes: int,
    out_dir: Path,
    described: Path | None = None,
    stderr_map: Path | None = None,
    status_map: Path | None = None,
    s0_map: Path | None = None,
    residual_map: Path | None = None,
    first_echo: Path | None = None,
    last_echo: Path | None = None,
    noise: Path | None = None,
    gradient_bias_map: Path | None = None,
    weight_map: Path | None = None,
    lesions: Path | None = None,
    lesion_volume_mm3: float | None = None,
    with_lesions: bool = False,
    maps: tuple[Path, ...] = (),
    map_names: tuple[str, ...] = (),
    map_units: tuple[str, ...] = (),
    calibration: Path | None = None,
    to_template: tuple[Path, ...] = (),
    field_strength_tesla: float | None = None,
    earlier_notices: tuple[Path, ...] = (),
    rule: VoxelRule = DEFAULT_RULE,
) -> RegionTable:
    """Write ``atlas-<name>_desc-R2star_stats.tsv`` and ``.json``: the atlas' regions, then its sub-regions.

    Parameters
    ----------
    r2star_map, stderr_map, status_map, s0_map, residual_map, gradient_bias_map
        Maps on the grid of ``labels``; without one, its columns are n/a.
    labels
        The atlas' labels on the grid of the maps.
    atlas
        Name of an atlas of the package, or the path of a TOML file; not read where ``described`` is given.
    described
        What `adopt_segmentation` tells of a participant's own segmentation, in place of an atlas: the table is
        ``seg-<name>_desc-R2star_stats.tsv``.
    first_echo, last_echo, noise
        Magnitude of the first and last echo by time, and what `check_inputs` tells of σ; where it is unknown,
        the residuals stand for it.
    weight_map
        How surely a voxel belongs to its label, 0 to 1: statistics and volumes of regions are weighted by it, and
        a voxel where it is 0 or not known is none of the region.
    lesions, lesion_volume_mm3, with_lesions
        Mask of lesions and its volume on its own grid; ``with_lesions`` gives them a row of their own, whether this
        unit has a mask or not.
    maps, map_names, map_units
        Further maps, named by their file (``Chimap.nii.gz``); the names that have columns, and their units.
    calibration
        TOML file of a calibration: gives the columns of iron.
    to_template
        The transforms that bring a map to the atlas, the one next to the atlas first: with them coverage is
        counted; without, it is 1 for a region that nowhere touches the edge of the image, else n/a.
    earlier_notices
        Lists of warnings that other steps raised; their codes stand in every row.

    Raises
    ------
    InputError
        E461 where labels are no whole numbers, E463 where an image lies on another grid.
    """
    label_image = read_image(labels, dtype=np.float64)
    if described is None:
        segmentation = atlas_segmentation(atlas, to_template, label_image.grid)
    else:
        segmentation = own_segmentation(described, with_lesions=with_lesions)
        # a participant's own volumes decide here: a second layer would part people with a small putamen from others
        rule = replace(rule, erosion_voxels=min(rule.erosion_voxels, 1))
    paths = {
        "stderr_per_s": stderr_map, "status": status_map, "s0": s0_map, "residual": residual_map,
        "gradient_bias_per_s": gradient_bias_map, "weight": weight_map, "lesions": lesions,
    }  # fmt: skip
    noise_sigma = read_sigma(noise)
    if noise_sigma is not None or residual_map is not None:
        paths |= {"first_echo": first_echo, "last_echo": last_echo}
    arrays = _read_maps({"r2star_per_s": r2star_map, **paths}, label_image.grid)
    if "weight" in arrays:
        arrays["weight"] = np.clip(np.nan_to_num(arrays["weight"]), 0, 1)
        label_image = replace(label_image, data=np.where(arrays["weight"] > 0, label_image.data, 0))
    others = _read_maps({path.name.partition(".")[0]: path for path in maps}, label_image.grid)
    if "lesions" in arrays:
        arrays["lesions"] = arrays["lesions"] > 0.5
    found = VoxelMaps(**arrays, others=others, noise_sigma=noise_sigma)
    raised = {notice["code"] for path in earlier_notices for notice in json.loads(path.read_text())}
    unit = _Unit(entities, n_echoes, field_strength_tesla, frozenset(raised), map_names)
    parts = {
        name: _summaries(found, label_image, regions, rule, segmentation.volumes, labels)
        for name, regions in segmentation.parts.items()
    }
    main = next(iter(parts))
    notices = _region_notices(parts[main])
    if with_lesions:
        parts[main] += _lesion_rows(found, label_image.grid, lesion_volume_mm3)
    if calibration is not None:
        line = load_calibration(str(calibration))
        parts = {name: with_iron(line, summaries) for name, summaries in parts.items()}
    table = out_dir / f"{segmentation.stem}_desc-R2star_stats.tsv"
    rows = [row for name, summaries in parts.items() for row in _rows(name, summaries, unit)]
    write_text_atomically(table, table_text(rows))
    units = dict(zip(map_names, map_units, strict=True))
    told = table_sidecar(rule, maps=units, outliers=_outliers(parts), weighted=weight_map is not None)
    sidecar = write_json(table.with_suffix(".json"), told)
    return RegionTable(table, sidecar, (table, sidecar), notices)


def _rows(segmentation: str, summaries: Iterable[RegionSummary], unit: _Unit) -> list[dict[str, str]]:
    return [
        table_row(summary, identity=unit.identity, segmentation=segmentation, warnings=unit.warnings,
                  n_echoes=unit.n_echoes, field_strength_tesla=unit.field_strength_tesla, maps=unit.map_names)
        for summary in summaries
    ]  # fmt: skip


def _lesion_rows(maps: VoxelMaps, grid: Grid, volume_mm3: float | None) -> list[RegionSummary]:
    """Rows of the lesions, sides together; without a mask they hold nothing, and without a lesion a volume of 0."""
    if maps.lesions is None:
        return [RegionSummary("lesions", side, ()) for side in ("L", "R", "LR")]
    expected = None if not volume_mm3 else {1: volume_mm3}
    rows = summarise_regions(
        replace(maps, lesions=None, weight=None), maps.lesions.astype(np.uint8), [Region("lesions", "LR", (1,))],
        voxel_volume_mm3=grid.voxel_volume_mm3, rule=_LESION_RULE, expected_volume_mm3=expected,
    )  # fmt: skip
    return [replace(row, warnings=()) if row.n_voxels == 0 and not volume_mm3 else row for row in rows]


def _outliers(parts: Mapping[str, Iterable[RegionSummary]]) -> dict[str, int]:
    """How many voxels the rule left out of each row that lost any."""
    return {
        f"{name} {one.region} {one.hemisphere}": one.n_outliers
        for name, summaries in parts.items()
        for one in summaries
        if one.n_outliers
    }


def _read_maps(paths: Mapping[str, Path | None], grid: Grid) -> dict[str, Any]:
    """The maps that there are, all on the labels' grid."""
    arrays: dict[str, Any] = {}
    for name, path in paths.items():
        if path is not None:
            image = read_image(path)
            _require_grid(path, image.grid, grid)
            arrays[name] = image.data
    return arrays


def _require_grid(path: Path, found: Grid, needed: Grid) -> None:
    if not found.same_as(needed, tol_mm=GRID_TOLERANCE_MM):
        what = f"a grid of {'×'.join(map(str, found.shape))} voxels"
        raise InputError(
            "E463", what, f"that of the labels, {'×'.join(map(str, needed.shape))}, is needed", path=path
        )


def _summaries(
    maps: VoxelMaps,
    labels: Image,
    regions: Sequence[Region],
    rule: VoxelRule,
    volumes: LabelVolumes | None,
    path: Path,
) -> list[RegionSummary]:
    try:
        return summarise_regions(
            maps,
            np.asarray(labels.data),
            regions,
            voxel_volume_mm3=labels.grid.voxel_volume_mm3,
            rule=rule,
            expected_volume_mm3=volumes.expected_mm3 if volumes else None,
            inside_volume_mm3=volumes.inside_mm3 if volumes else None,
        )
    except InputError as error:
        error.path = error.path or str(path)
        raise


def _region_notices(summaries: Iterable[RegionSummary]) -> tuple[Notice, ...]:
    """One warning of a kind, with the regions that it touches."""
    touched: dict[str, list[str]] = {}
    for summary in summaries:
        for code in summary.warnings:
            touched.setdefault(code, []).append(summary.region)
    return tuple(
        Notice(code, f"{ROW_WARNINGS[code]}: {', '.join(dict.fromkeys(names))}")
        for code, names in sorted(touched.items())
    )
