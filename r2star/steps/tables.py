"""Step: maps and labels → the region table with its sidecar. Reads through `r2star.images`.

Every map must lie on the labels' grid; a lesion mask may lie on any. The numbers are those of
`r2star.regions`; here they get their files, their atlas and the unit's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.atlas import load_atlas
from r2star.bids.sidecars import write_json
from r2star.errors import InputError, Notice
from r2star.files import write_text_atomically
from r2star.fit.status import Status
from r2star.images import Grid, Image, read_image
from r2star.regions.labelled import VoxelMaps
from r2star.regions.rule import VoxelRule
from r2star.regions.summary import ROW_WARNINGS, RegionLike, RegionSummary, summarise_regions
from r2star.regions.table import table_row, table_sidecar, table_text
from r2star.steps.coverage import LabelVolumes, volumes_in_view
from r2star.steps.inputs import read_sigma

#: Voxels with a value count, whatever doubt their status tells: leaving out the doubtful would bias the median.
#: Eroded by a voxel, planted R2* comes back within 1 % in the pallidum instead of 2.6 % (1 × 1 × 1.5 mm).
DEFAULT_RULE = VoxelRule(
    accepted_status=tuple(int(code) for code in Status if code.has_value),
    erosion_voxels=1,
    erosion_needs_voxels=400,
)
#: Grids of one unit agree to this at the corners, mm.
GRID_TOLERANCE_MM = 0.01


class RegionTable(NamedTuple):
    """The table and its JSON sidecar; ``notices`` tell of the regions (not the sub-regions), once a kind."""

    table: Path
    sidecar: Path
    derivatives: tuple[Path, ...]
    notices: tuple[Notice, ...]


def write_region_table(
    r2star_map: Path,
    labels: Path,
    atlas: str,
    entities: dict[str, str],
    n_echoes: int,
    out_dir: Path,
    stderr_map: Path | None = None,
    status_map: Path | None = None,
    s0_map: Path | None = None,
    residual_map: Path | None = None,
    first_echo: Path | None = None,
    last_echo: Path | None = None,
    noise: Path | None = None,
    gradient_bias_map: Path | None = None,
    lesions: Path | None = None,
    to_template: tuple[Path, ...] = (),
    field_strength_tesla: float | None = None,
    earlier_notices: tuple[Path, ...] = (),
    assume_orientation: bool = False,
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
        Name of an atlas of the package, or the path of a TOML file.
    entities
        The unit's entities by BIDS key: ``{"sub": "01", "ses": "02"}``.
    first_echo, last_echo, noise
        Magnitude of the first and last echo by time, and what `check_inputs` tells of σ; where it is unknown,
        the residuals stand for it.
    lesions
        Mask on any grid: voxels above 0.5 are lesions.
    to_template
        The transforms that bring a map to the atlas, the one next to the atlas first: with them coverage is
        counted; without, it is 1 for a region that nowhere touches the edge of the image, else n/a.
    earlier_notices
        Lists of warnings that other steps raised; their codes stand in every row.
    assume_orientation
        Read images whose header tells no orientation, too.

    Raises
    ------
    InputError
        E461 where labels are no whole numbers, E463 where a map lies on another grid.
    """
    chosen = load_atlas(atlas)
    label_image = read_image(labels, dtype=np.float64)
    paths = {
        "stderr_per_s": stderr_map, "status": status_map, "s0": s0_map, "residual": residual_map,
        "gradient_bias_per_s": gradient_bias_map,
    }  # fmt: skip
    noise_sigma = read_sigma(noise)
    if noise_sigma is not None or residual_map is not None:
        paths |= {"first_echo": first_echo, "last_echo": last_echo}
    maps = _read_maps({"r2star_per_s": r2star_map, **paths}, label_image.grid, assume_orientation)
    maps = replace(maps, noise_sigma=noise_sigma)
    notices: tuple[Notice, ...] = ()
    if lesions is not None:
        mask, notices = _lesions_on(lesions, label_image.grid, assume_orientation)
        maps = replace(maps, lesions=mask)
    volumes = volumes_in_view(chosen, to_template, label_image.grid) if to_template else None
    raised = {notice["code"] for path in earlier_notices for notice in json.loads(path.read_text())}
    raised |= {notice.code for notice in notices}
    rows: list[dict[str, str]] = []
    for segmentation, regions in (
        (chosen.name, chosen.regions),
        (f"{chosen.name}subregions", chosen.subregions),
    ):
        found = _summaries(maps, label_image, regions, rule, volumes, labels)
        notices += _region_notices(found) if regions is chosen.regions else ()
        rows += [
            table_row(summary, identity=entities, segmentation=segmentation, warnings=raised, n_echoes=n_echoes,
                      field_strength_tesla=field_strength_tesla)
            for summary in found
        ]  # fmt: skip
    table = out_dir / f"atlas-{chosen.name}_desc-R2star_stats.tsv"
    write_text_atomically(table, table_text(rows))
    sidecar = write_json(table.with_suffix(".json"), table_sidecar(rule))
    return RegionTable(table, sidecar, (table, sidecar), notices)


def _read_maps(paths: Mapping[str, Path | None], grid: Grid, assume_orientation: bool) -> VoxelMaps:
    """The maps that there are, all on the labels' grid."""
    arrays: dict[str, Any] = {}
    for name, path in paths.items():
        if path is not None:
            image = read_image(path, assume_orientation=assume_orientation)
            _require_grid(path, image.grid, grid)
            arrays[name] = image.data
    return VoxelMaps(**arrays)


def _require_grid(path: Path, found: Grid, needed: Grid) -> None:
    if not found.same_as(needed, tol_mm=GRID_TOLERANCE_MM):
        what = f"a grid of {'×'.join(map(str, found.shape))} voxels"
        raise InputError(
            "E463", what, f"that of the labels, {'×'.join(map(str, needed.shape))}, is needed", path=path
        )


def _lesions_on(
    path: Path, grid: Grid, assume_orientation: bool
) -> tuple[NDArray[np.bool_], tuple[Notice, ...]]:
    """Where lesions are on ``grid``: by the nearest voxel in world space if their own grid is another."""
    image = read_image(path, assume_orientation=assume_orientation)
    if image.grid.same_as(grid, tol_mm=GRID_TOLERANCE_MM):
        return np.asarray(image.data) > 0.5, image.notices
    from r2star.register.resample import nearest_by_world

    moved = nearest_by_world(image, grid) > 0.5
    told = Notice("W469", "the lesion mask was brought to the grid of the MEGRE images", path=path.name)
    return moved, (*image.notices, told)


def _summaries(
    maps: VoxelMaps,
    labels: Image,
    regions: Sequence[RegionLike],
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
