"""Step: maps, echoes and labels → the table of quality measures, and the decay of each region for the report.

May import images, atlas and the kernels. Echoes are read one at a time.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.atlas import Atlas, load_atlas
from r2star.atlas.labels import read_labels
from r2star.fit.status import Status
from r2star.images import read_image
from r2star.regions.labelled import volumes_by_region
from r2star.regions.quality import Measured, measured, percentile_of, share_of, volume_measures
from r2star.regions.table import identity_of
from r2star.steps.decay import Echoes
from r2star.steps.noise import read_sigma
from r2star.steps.quality_tables import (
    DECAY_COLUMNS,
    QUALITY_COLUMNS,
    decay_sidecar,
    quality_row,
    quality_sidecar,
    registration_rows,
    write_table,
)


class Quality(NamedTuple):
    """The two tables with their sidecars."""

    quality: Path
    decay: Path
    derivatives: tuple[Path, ...]


def measure_quality(
    magnitude: tuple[Path, ...],
    echo_times_s: tuple[float, ...],
    r2star_map: Path,
    stderr_map: Path,
    residual_map: Path,
    s0_map: Path,
    status_map: Path,
    entities: dict[str, str],
    out_dir: Path,
    noise: Path | None = None,
    brain_mask: Path | None = None,
    labels: Path | None = None,
    atlas: str | None = None,
    table: Path | None = None,
    bias_map: Path | None = None,
    measures: tuple[Path, ...] = (),
) -> Quality:
    """Write ``desc-quality_stats.tsv`` and ``desc-decay_stats.tsv``, each with its sidecar.

    Without ``brain_mask`` the voxels that have a value stand for the brain. ``table`` is the region table, whose
    coverage and medians are taken over; ``measures`` are the JSON files of the registrations.
    """
    r2star, s0, status = (read_image(path) for path in (r2star_map, s0_map, status_map))
    grid = r2star.grid
    brain = (
        np.isfinite(r2star.data)
        if brain_mask is None
        else np.nan_to_num(np.asarray(read_image(brain_mask).data)) > 0
    )
    found = _fit_measures(brain, np.asarray(status.data), s0.data, residual_map, stderr_map, bias_map)
    regions: dict[tuple[str, str], NDArray[np.bool_]] = {}
    if labels is not None and atlas is not None:
        chosen = load_atlas(atlas)
        label_data = np.asarray(read_image(labels).data)
        regions = {(one.name, one.hemisphere): np.isin(label_data, one.indices) for one in chosen.regions}
        volumes = volumes_by_region(label_data, chosen.regions, grid.voxel_volume_mm3)
        found += _table_measures(table, chosen.name) + volume_measures(volumes, atlas_volumes(chosen))
        found.append(measured("brain_volume_ml", float(brain.sum()) * grid.voxel_volume_mm3 / 1000))
    echoes = Echoes(magnitude, echo_times_s, grid, brain)
    decay = echoes.decay(regions, np.asarray(s0.data), np.asarray(r2star.data))
    sigma = read_sigma(noise) or percentile_of(read_image(residual_map).data, brain)
    found = [
        measured("snr_first_echo", _ratio(echoes.medians[0], sigma)),
        measured("snr_last_echo", _ratio(echoes.medians[-1], sigma)),
        measured("echo_shift_mm", max(echoes.shifts_mm, default=math.nan)),
        *found,
    ]
    rows = [quality_row(one) for one in found] + registration_rows(measures)
    identity = {column: text or "n/a" for column, text in identity_of(entities).items()}
    files = write_table(
        out_dir / "desc-quality_stats.tsv", QUALITY_COLUMNS, rows, identity, quality_sidecar()
    )
    files += write_table(out_dir / "desc-decay_stats.tsv", DECAY_COLUMNS, decay, identity, decay_sidecar())
    return Quality(files[0], files[2], tuple(files))


def _fit_measures(
    brain: NDArray[np.bool_], status: NDArray[Any], s0: NDArray[Any], residual_map: Path, stderr_map: Path,
    bias_map: Path | None,
) -> list[Measured]:  # fmt: skip
    residual, stderr = (np.asarray(read_image(path).data) for path in (residual_map, stderr_map))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = residual / s0
    no_value = np.isin(status, [int(code) for code in Status if not code.has_value])
    found = [
        measured("fit_residual_fraction", percentile_of(relative, brain)),
        measured("r2star_stderr_per_s", percentile_of(stderr, brain)),
        measured("at_bound_fraction", share_of(status == Status.AT_BOUND, brain)),
        measured("rising_fraction", share_of(status == Status.RISING, brain)),
        measured("no_value_fraction", share_of(no_value, brain)),
    ]
    if bias_map is not None:
        bias = np.asarray(read_image(bias_map).data)
        found.append(measured("gradient_bias_per_s", percentile_of(bias, brain)))
        found.append(measured("gradient_bias_p95_per_s", percentile_of(bias, brain, 95)))
    return found


def atlas_volumes(atlas: Atlas) -> dict[tuple[str, str], float]:
    """(region, hemisphere) → mm³ in the atlas."""
    image = read_labels(atlas.labels)
    return volumes_by_region(np.asarray(image.data), atlas.regions, image.grid.voxel_volume_mm3)


def _table_measures(table: Path | None, segmentation: str) -> list[Measured]:
    """Coverage of each region and side, and how far R2* of the left lies from that of the right."""
    if table is None:
        return []
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["segmentation"] == segmentation]
    found = [
        measured("coverage", _number(row["coverage"]), row["region"], row["hemisphere"])
        for row in rows
        if row["hemisphere"] != "LR"
    ]
    medians = {(row["region"], row["hemisphere"]): _number(row["r2star_median_per_s"]) for row in rows}
    for region in dict.fromkeys(name for name, _ in medians):
        if {(region, "L"), (region, "R")} <= set(medians):
            left, right = medians[region, "L"], medians[region, "R"]
            found.append(measured("r2star_asymmetry", _ratio(left - right, (left + right) / 2), region))
    return found


def _ratio(value: float, by: float) -> float:
    return value / by if by and math.isfinite(by) else math.nan


def _number(cell: str) -> float:
    return math.nan if cell == "n/a" else float(cell)
